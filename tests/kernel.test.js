import assert from "node:assert/strict";
import test from "node:test";
import { generator } from "../sparse_book/show/common.js";
import {
  PRESETS, SIDE, answer, correlate, corner, grey, keyPlace, nearestPlace, outputSize, pixelsUnder, placeCount, presetOf, sentence,
} from "../sparse_book/show/kernel.js";

const image = { width: 4, height: 3, values: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12] };

function random(width, height, seed) {
  const uniform = generator(seed);
  return { width, height, values: Array.from({ length: width * height }, uniform) };
}

test("sizes: as many windows as can be put down", () => {
  for (let size = 3; size < 12; size++)
    for (const stride of [1, 2, 3])
      for (const padding of [0, 1, 2]) {
        let count = 0;
        for (let start = -padding; start + SIDE <= size + padding; start += stride) count++;
        assert.equal(outputSize(size, stride, padding), count);
      }
});

test("windows by hand, with padding and stride", () => {
  assert.deepEqual(pixelsUnder(image, 0, 1, 0), [1, 2, 3, 5, 6, 7, 9, 10, 11]);
  assert.deepEqual(pixelsUnder(image, 1, 1, 0), [2, 3, 4, 6, 7, 8, 10, 11, 12]);
  assert.deepEqual(pixelsUnder(image, 0, 1, 1), [0, 0, 0, 0, 1, 2, 0, 5, 6]);
  assert.deepEqual(corner(image, 3, 2, 1), { row: 1, column: 1 });
  assert.equal(placeCount(image, 2, 1), 4);
});

test("presets do what they are called", () => {
  const picture = random(9, 7, 4);
  const inner = (i, j) => picture.values[i * 9 + j];
  const copied = correlate(picture, PRESETS.copy, 1, 1);
  assert.deepEqual(copied.values, picture.values);
  const shifted = correlate(picture, PRESETS.shift, 1, 1);
  assert.equal(shifted.values[3 * 9 + 4], inner(3, 3));
  assert.equal(shifted.values[3 * 9], 0);
  const flat = { width: 5, height: 5, values: Array(25).fill(0.7) };
  for (const name of ["vertical edges", "horizontal edges", "diagonal edges", "dots"])
    correlate(flat, PRESETS[name], 1, 0).values.forEach((value) => assert.ok(Math.abs(value) < 1e-12, name));
  assert.ok(Math.abs(correlate(flat, PRESETS.mean, 1, 0).values[0] - 6.3) < 1e-12);
  for (const [name, weights] of Object.entries(PRESETS)) assert.equal(presetOf(weights), name);
  assert.equal(presetOf([1, 2, 3, 4, 5, 6, 7, 8, 9]), "own");
});

test("the map is linear in the weights", () => {
  const picture = random(6, 8, 1);
  const [one, two] = [random(3, 3, 2).values, random(3, 3, 3).values];
  const both = correlate(picture, one.map((weight, k) => 2 * weight - two[k]), 2, 1).values;
  const [a, b] = [one, two].map((weights) => correlate(picture, weights, 2, 1).values);
  both.forEach((value, k) => assert.ok(Math.abs(value - 2 * a[k] + b[k]) < 1e-12));
});

test("pointer and keys move the window", () => {
  for (const [stride, padding] of [[1, 0], [2, 1], [3, 2]])
    for (let place = 0; place < placeCount(image, stride, padding); place++) {
      const { row, column } = corner(image, place, stride, padding);
      assert.equal(nearestPlace(image, row + 1, column + 1, stride, padding), place);
    }
  assert.equal(keyPlace("ArrowRight", 0, 2, 4), 1);
  assert.equal(keyPlace("ArrowDown", 1, 2, 4), 3);
  assert.equal(keyPlace("ArrowDown", 3, 2, 4), 3);
  assert.equal(keyPlace("ArrowUp", 1, 2, 4), 1);
  assert.equal(keyPlace("Home", 3, 2, 4), 0);
  assert.equal(keyPlace("End", 0, 2, 4), 3);
  assert.equal(keyPlace("a", 0, 2, 4), null);
});

test("words and shades", () => {
  const sum = answer(image, PRESETS["vertical edges"], 1, 1, 0);
  assert.equal(sum, 6);
  assert.equal(sentence(image, PRESETS["vertical edges"], 1, 1, 0), "Row 1, column 2 of the map: 6.00. 3 × 4 pixels give 1 × 2 values.");
  assert.equal(grey(-1), "rgb(0,0,0)");
  assert.equal(grey(2), "rgb(255,255,255)");
});
