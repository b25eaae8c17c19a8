import assert from "node:assert/strict";
import test from "node:test";
import {
  activeCount, argmax, denseStates, digitName, greyAround, greyUp, largest, mapStates, priceText, rectify, shareText, shortShare, softmax, tileSheet, tileTarget,
  unpackDigits, unpackNetwork,
} from "../sparse_book/show/stored_networks.js";
import { agree } from "./npz.js";

test("codes become numbers, network by network, wherever the bytes begin", () => {
  const bytes = new Uint8Array([9, 1, 255, 127, 129, 2, 3, 4, 251]);
  const stored = { codes: new DataView(bytes.buffer, 1), scales: [[0.5, 2], [0.25, 0]], shapes: [[1, 3], [1]] };
  const [weight, bias] = unpackNetwork(stored, 0);
  assert.deepEqual([weight.shape, [...weight.values], [...bias.values]], [[1, 3], [0.5, -0.5, 63.5], [-254]]);
  const [second, none] = unpackNetwork(stored, 1);
  assert.deepEqual([[...second.values], [...none.values]], [[0.5, 0.75, 1], [-0]]);
  assert.deepEqual(unpackDigits(new DataView(bytes.buffer, 2, 4), 2).map((digit) => [...digit]), [[1, 127 / 255], [129 / 255, 2 / 255]]);
});

test("layers by hand", () => {
  const weight = { shape: [2, 3], values: Float64Array.of(1, 2, 3, -1, 0, 1) };
  assert.deepEqual([...denseStates(weight, { values: [0.5, -4] }, [1, 1, 2])], [9.5, -3]);
  const image = { height: 3, width: 3, values: Float64Array.from([1, 2, 3, 4, 5, 6, 7, 8, 9]) };
  const kernels = { shape: [2, 1, 2, 2], values: Float64Array.of(1, 0, 0, 1, 0, -1, 1, 0) };
  const { count, height, width, values } = mapStates(kernels, { values: [0, 1] }, image);
  assert.deepEqual([count, height, width], [2, 2, 2]);
  assert.deepEqual([...values], [6, 8, 12, 14, 3, 3, 3, 3]);
  assert.deepEqual([...rectify(Float64Array.of(-1, 0, 2, NaN))], [0, 0, 2, 0]);
});

test("a kernel is as deep as what it looks at", () => {
  const image = { height: 2, width: 2, values: Float64Array.of(1, 2, 3, 4, 10, 20, 30, 40) };
  const kernels = { shape: [1, 2, 1, 1], values: Float64Array.of(1, 0.1) };
  agree(mapStates(kernels, { values: [0.5] }, image).values, [2.5, 4.5, 6.5, 8.5]);
  const large = { shape: [1, 2, 2, 2], values: Float64Array.of(1, 0, 0, -1, 0, 1, 1, 0) };
  agree(mapStates(large, { values: [0] }, image).values, [1 - 4 + 20 + 30]);
});

test("probabilities of large logits", () => {
  agree(softmax([1000, 1000 + Math.log(3)]), [0.25, 0.75]);
  assert.equal(argmax([0.1, 0.7, 0.7]), 1);
  assert.equal(activeCount(Float64Array.of(0, 1e-9, 2)), 2);
  assert.equal(largest([]), 0);
});

test("numbers as one reads them", () => {
  assert.deepEqual([0, 0.04, 0.00005, 0.002, 1].map(priceText), ["0", "0.04", "0.00005", "0.002", "1"]);
  assert.equal(shareText(1), "100.0 %");
  assert.equal(shareText(0.99999), "over 99.9 %");
  assert.equal(shareText(1e-6), "under 0.1 %");
  assert.equal(shareText(0.5), "50.0 %");
  assert.deepEqual([0.99999, 1e-6, 0.25].map(shortShare), [">99.9 %", "<0.1 %", "25.0 %"]);
  assert.equal(digitName([3, 7, 7], 2), "7, second");
});

test("sheets of tiles have clear lines between them", () => {
  const sheet = tileSheet([0, 1, 2, 3, 4, 5], { count: 3, height: 1, width: 2, columns: 2, grey: greyUp(5) });
  assert.deepEqual([sheet.width, sheet.height], [5, 3]);
  const at = (row, column) => [...sheet.data.subarray(4 * (row * 5 + column), 4 * (row * 5 + column) + 4)];
  assert.deepEqual(at(0, 1), [51, 51, 51, 255]);
  assert.deepEqual(at(0, 2), [0, 0, 0, 0]);
  assert.deepEqual(at(0, 4), [153, 153, 153, 255]);
  assert.deepEqual(at(2, 0), [204, 204, 204, 255]);
  assert.deepEqual(at(2, 3), [0, 0, 0, 0]);
  assert.deepEqual([-2, 0, 2].map(greyAround(2)), [0, 127.5, 255]);
  assert.deepEqual([greyUp(0)(0), greyAround(0)(0)], [0, 127.5]);
});

test("keys move over a sheet and stay on it", () => {
  assert.equal(tileTarget("ArrowRight", 3, 16, 4), 4);
  assert.equal(tileTarget("ArrowDown", 3, 16, 4), 7);
  assert.equal(tileTarget("ArrowUp", 3, 16, 4), 3);
  assert.equal(tileTarget("End", 3, 16, 4), 15);
  assert.equal(tileTarget("Home", 3, 16, 4), 0);
  assert.equal(tileTarget("x", 3, 16, 4), null);
});
