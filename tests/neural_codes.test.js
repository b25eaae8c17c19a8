import assert from "node:assert/strict";
import test from "node:test";
import { generator } from "../sparse_book/show/common.js";
import {
  alive, bitCount, both, capacityBits, drawCode, expectedMisreading, fitting, isActive, overlapDistribution, pairOverlaps,
  patternCount, rightGuesses, sentence, simulateMisreading, verdict,
} from "../sparse_book/show/neural_codes.js";

const near = (a, b, tolerance = 1e-9) => assert.ok(Math.abs(a - b) <= tolerance, `${a} is not ${b}`);
const units = (pattern) => Array.from({ length: 64 }, (_, unit) => isActive(pattern, unit));

test("patterns are counted as Pascal's triangle counts them", () => {
  let row = [1];
  for (let n = 1; n <= 40; n++) {
    row = [1, ...row.slice(1).map((value, k) => value + row[k]), 1];
    row.forEach((count, k) => {
      assert.equal(patternCount(n, k), count);
      near(capacityBits(n, k), Math.log2(count));
    });
  }
});

test("overlaps have probability 1 and mean k²/N, also in crowded populations", () => {
  for (const [n, k] of [[8, 1], [64, 4], [64, 32], [10, 9], [8, 8]]) {
    const chance = overlapDistribution(n, k);
    near(chance.reduce((sum, p) => sum + p, 0), 1);
    near(chance.reduce((sum, p, m) => sum + p * m, 0), (k * k) / n);
  }
  near(overlapDistribution(10, 9)[7], 0);
});

test("a code holds different patterns with the right number of active units", () => {
  for (const [count, n, k] of [[64, 64, 1], [64, 64, 4], [256, 64, 33], [20, 6, 3], [9, 6, 3], [1, 8, 8]]) {
    const code = drawCode(count, n, k, generator(3));
    assert.equal(code.length, count);
    assert.equal(new Set(code.map(String)).size, count);
    for (const pattern of code) {
      assert.equal(bitCount(pattern), k);
      assert.equal(units(pattern).filter(Boolean).length, k);
      assert.ok(units(pattern).lastIndexOf(true) < n);
    }
  }
  assert.deepEqual(drawCode(30, 64, 5, generator(3)), drawCode(30, 64, 5, generator(3)));
});

test("the patterns that contain the survivors are the nearest ones", () => {
  const code = drawCode(60, 40, 5, generator(5));
  const uniform = generator(8);
  for (let trial = 0; trial < 200; trial++) {
    const pattern = code[trial % 60];
    const survivors = both(pattern, alive(0.6, Array.from({ length: 40 }, uniform)));
    const distances = code.map((other) => units(other).filter((on, unit) => on !== isActive(survivors, unit)).length);
    const least = Math.min(...distances);
    assert.equal(distances[trial % 60], least);
    assert.equal(fitting(survivors, code), distances.filter((distance) => distance === least).length);
  }
});

test("the expected misreading knows its special cases", () => {
  const local = rightGuesses(64, 1, 50);
  for (const q of [0, 0.1, 0.6, 1]) near(expectedMisreading(local, q), (q * 49) / 50);
  near(expectedMisreading(rightGuesses(16, 8, 200), 1), 1 - 1 / 200);
  near(rightGuesses(6, 3, 20)[2], 1 / patternCount(5, 2)); // all patterns in use
});

test("simulated codes are misread as often as expected on average", () => {
  for (const [n, k, stimuli, q] of [[64, 4, 64, 0.3], [16, 8, 256, 0.2], [20, 2, 100, 0.5]]) {
    const expected = expectedMisreading(rightGuesses(n, k, stimuli), q);
    let mean = 0;
    for (let seed = 0; seed < 40; seed++) {
      const uniform = generator(seed);
      mean += simulateMisreading(drawCode(stimuli, n, k, uniform), n, q, 500, uniform) / 40;
    }
    near(mean, expected, 0.015);
  }
});

test("the overlaps of a code are those of its pairs", () => {
  assert.deepEqual(pairOverlaps(drawCode(12, 12, 1, generator(1)), 1), [1, 0]);
  const mean = pairOverlaps(drawCode(256, 64, 8, generator(2)), 8).reduce((sum, p, m) => sum + p * m, 0);
  near(mean, 1, 0.05);
  assert.deepEqual(pairOverlaps(drawCode(1, 8, 8, generator(1)), 8), new Array(9).fill(0));
});

test("failures grow with their share and never heal", () => {
  const chances = Array.from({ length: 64 }, generator(4));
  assert.equal(bitCount(alive(0, chances)), 64);
  for (let k = 1; k <= 10; k++) {
    const [more, fewer] = [alive((k - 1) / 10, chances), alive(k / 10, chances)];
    assert.deepEqual(both(more, fewer), fewer);
  }
});

test("sentences", () => {
  assert.equal(verdict(4, 4, 1), "all 4 left: read correctly");
  assert.equal(verdict(1, 4, 6), "1 of 4 left: a guess among 6");
  assert.equal(
    sentence({ units: 64, active: 1, stimuli: 64, failing: 0, misread: 0, expected: 0 }),
    "1 of 64 active: 6.0 bits, 6.0 per spike; two patterns share 0.02 units. With no unit failing, 0.0 % of 64 stimuli are misread (expected: 0.0 %).",
  );
});
