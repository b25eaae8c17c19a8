import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { MIDDLE, SIDE, penTarget, run, seen, sentence, shiftOf, shifted, stroke } from "../sparse_book/show/firing.js";
import { activeCount, unpackDigits, unpackNetwork } from "../sparse_book/show/stored_networks.js";
import { agree, readDigits, readNetworks } from "./npz.js";

const fixtures = JSON.parse(readFileSync(new URL("./stored_networks.json", import.meta.url), "utf8"));
const stored = readNetworks("firing");
const digits = unpackDigits(readDigits().digits);
const some = (values) => Array.from(values).filter((_, k) => k % (1 + Math.floor(values.length / 40)) === 0);
const blank = new Array(SIDE * SIDE).fill(0);
const at = (ink, row, column) => ink[row * SIDE + column];

test("the script says what PyTorch says, for both networks", () => {
  assert.equal(stored.coefficients.length, 2);
  for (const { network, digit, active, layers, logits } of fixtures.firing) {
    const { units, logits: found } = run(unpackNetwork(stored, network), digits[digit]);
    assert.deepEqual([activeCount(units)], active);
    agree(some(units), layers[0]);
    agree(found, logits);
  }
});

test("ready-made digits lie in the middle as they are", () => {
  for (const digit of digits) {
    const ink = Array.from(digit, (value) => Math.round(255 * value));
    assert.deepEqual(shiftOf(ink), [0, 0]);
    agree(seen(ink), digit);
  }
});

test("ink is moved to the middle, and comes back", () => {
  const dot = stroke(blank, [5, 20], [5, 20]);
  const [down, right] = shiftOf(dot);
  assert.deepEqual([down, right], [Math.round(MIDDLE - 5), Math.round(MIDDLE - 20)]);
  assert.equal(at(shifted(dot, [down, right]), 5 + down, 20 + right), 255);
  assert.deepEqual(shifted(shifted(dot, [3, -4]), [-3, 4]), dot);
  assert.deepEqual(shiftOf(shifted(dot, [down, right])), [0, 0]);
  assert.deepEqual(shiftOf(blank), [0, 0]);
});

test("a pen is soft, leaves no gaps, stays on the board and can be erased", () => {
  const line = stroke(blank, [4, 4], [20, 9]);
  for (let row = 4; row <= 20; row++) assert.equal(Math.max(...line.slice(row * SIDE, (row + 1) * SIDE)) > 200, true);
  assert.equal(at(line, 12, 20), 0);
  assert.ok(line.some((level) => level > 0 && level < 255));
  assert.ok(line.every((level) => Number.isInteger(level) && level >= 0 && level <= 255));
  assert.deepEqual(stroke(line, [4, 4], [20, 9]), line);
  assert.equal(at(stroke(line, [4, 4], [20, 9], true), 4, 4), 0);
  assert.equal(stroke(blank, [-30, 3], [60, 3]).length, SIDE * SIDE);
  assert.ok(stroke(blank, [-9, -9], [-9, -9]).every((level) => level === 0));
});

test("keys move the pen and stay on the board", () => {
  assert.deepEqual(penTarget("ArrowDown", [3, 3]), [4, 3]);
  assert.deepEqual(penTarget("ArrowLeft", [3, 0]), [3, 0]);
  assert.deepEqual(penTarget("ArrowRight", [3, 27]), [3, 27]);
  assert.equal(penTarget("a", [3, 3]), null);
});

test("words", () => {
  const said = [1, 2].map((fire) => ({ units: Float64Array.from({ length: 3 }, (_, k) => (k < fire ? 1 : 0)), probabilities: [0.2, 0.8] }));
  assert.equal(
    sentence([0, 0.04], said, true),
    "Dense (λ = 0): 1 of 3 units fire, it reads 1 (80.0 %). Sparse (λ = 0.04): 2 of 3 units fire, it reads 1 (80.0 %).",
  );
  assert.ok(sentence([0, 0.04], said, false).startsWith("Nothing is drawn. Dense"));
});
