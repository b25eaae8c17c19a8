import assert from "node:assert/strict";
import test from "node:test";
import { bestCount, greedySpikes, inverseRatio, middle, phi, rebuild, sentence } from "../sparse_book/show/rate_distortion.js";

const kernel = [1, 2, 1];
const twelve = [0, 2, 4, 2, 0, 0, 1, 2, 1, 0, 0, 0];

test("two spikes of a kernel explain the twelve samples", () => {
  const found = greedySpikes(twelve, kernel, 5);
  assert.deepEqual(found.places, [1, 6]); // and it stops: nothing is left
  assert.deepEqual(found.heights, [2, 1]);
  assert.deepEqual(found.losses, [1, 4 / 12, 0]);
  assert.deepEqual([...rebuild(12, kernel, found, 2)], twelve);
  assert.equal(inverseRatio(3, 2, 12), 7 / 12);
  assert.equal(bestCount(found, 3, 12, 2), 1); // the second spike buys less than it costs
});

test("no position is used twice", () => {
  const signal = Array.from({ length: 60 }, (_, t) => Math.sin(t * t));
  const { places, losses } = greedySpikes(signal, [0.5, 1, -0.5], 40);
  assert.equal(new Set(places).size, 40);
  assert.equal(losses.length, 41);
});

test("a kernel is the middle of the pattern, with zeros beyond", () => {
  assert.deepEqual(middle([1, 2, 3], 1), [2]);
  assert.deepEqual(middle([1, 2, 3], 3), [1, 2, 3]);
  assert.deepEqual(middle([1, 2, 3], 7), [0, 0, 1, 2, 3, 0, 0]);
});

test("copying and silence score alike", () => {
  assert.equal(phi(1, 0, 2), phi(0, 1, 2));
  assert.equal(phi(1, 0, 1), 0.5);
  assert.equal(phi(0.3, 0.4, 2), 0.5);
});

test("a sentence says it all", () => {
  const text = sentence({ count: 1, size: 3, length: 12, loss: 1 / 3, best: 2, version: 1 });
  assert.equal(text, "1 spike, kernel of 3: 5 numbers for 12 samples. CR⁻¹ = 0.417, error = 0.333, φ = 0.375 (best for this kernel: 2)");
});
