import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { ACTIVATIONS, active, candidates, extremaPlaces, inverseCompression, largest, largestOfCells, minimumDistance, onGrid, PRESETS, sentence, stroke } from "../sparse_book/show/sparse_activations.js";

const fixtures = JSON.parse(readFileSync(new URL("./sparse_activations.json", import.meta.url), "utf8"));

test("every function keeps what the library keeps", () => {
  assert.ok(fixtures.length >= 5);
  for (const { values, kernel_size, border_tolerance, kept } of fixtures) {
    assert.deepEqual(Object.keys(ACTIVATIONS).sort(), Object.keys(kept).sort());
    for (const [key, expected] of Object.entries(kept)) {
      const found = ACTIVATIONS[key].apply(values, kernel_size, border_tolerance);
      found.forEach((v, t) => assert.ok(v === expected[t], `${key}, m = ${kernel_size}, sample ${t}: ${v}, not ${expected[t]}`));
    }
  }
});

test("of equals the first is kept", () => {
  assert.deepEqual(largest([1, -3, 3, 2, -2, 2], 3), [1, 2, 3]);
  assert.deepEqual(largestOfCells([1, -3, 3, 2, -2, 2], 2), [1, 2, 4]);
  assert.deepEqual(largestOfCells([1, -3, 3, 2, -2], 3), [1]);
});

test("plateaus and ends follow the rule", () => {
  assert.deepEqual(candidates([1, 3, 3, 3, 0, 1]), [1, 4, 5]);
  assert.deepEqual(candidates([0, -3, -3, -3, -1]), [3]);
  assert.deepEqual(candidates([-2, -1, 0, 1]), [0, 3]);
  assert.deepEqual(candidates([2, 1, 0, -1]), []);
  assert.deepEqual(candidates([1, 2, 2, 3, 1]), [1, 3]);
  assert.deepEqual(candidates([0, 0, 0]), []);
});

test("silence is not passed on", () => {
  const line = [0, 5, 0, 4, 0, 3, 0];
  const tall = (d) => extremaPlaces(line, d).filter((t) => line[t] !== 0);
  assert.deepEqual(tall(1), [1, 3, 5]);
  assert.deepEqual(tall(2), [1, 5]);
  assert.deepEqual(tall(4), [1]);
  assert.deepEqual([minimumDistance(5, 2), minimumDistance(2, 5), minimumDistance(5000, 0)], [3, 1, 999]);
});

test("descriptions are counted", () => {
  assert.deepEqual(active([0, 2, 0, -1]), [1, 3]);
  assert.equal(inverseCompression(4, 20, 112), 0.25);
  const text = sentence("top_k_absolutes", PRESETS.sines(120), 15, 0);
  assert.equal(text, "top-k absolutes, m = 15: 8 of 120 samples kept. 15 + 2 · 8 numbers, CR⁻¹ = 0.26.");
});

test("presets and strokes stay on the grid, within the frame", () => {
  for (const [name, make] of Object.entries(PRESETS)) {
    const values = make(120);
    assert.equal(values.length, 120);
    for (const v of values) assert.ok(Math.abs(v) <= 1 && Object.is(onGrid(v), v), `${name}: ${v}`);
    assert.ok(new Set(values).size > 5, name);
  }
  const drawn = stroke(Array(8).fill(0), [6, 1], [2, 0.2]);
  assert.deepEqual(drawn, [0, 0, 0.2, 0.4, 0.6, 0.8, 1, 0]);
  assert.deepEqual(stroke([0, 0, 0], [1, 0.33], [1, 0.33]), [0, 0.35, 0]);
  assert.ok(Object.is(onGrid(-0.01), 0));
});
