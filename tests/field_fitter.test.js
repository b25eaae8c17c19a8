import assert from "node:assert/strict";
import test from "node:test";
import { COUNTS, EDGES, cellsAt, gaborPatch, keyTarget, nearestField, sentence, shapeOf } from "../sparse_book/show/field_fitter.js";

const field = [1, -0.5, 0.3, 0.12, 3, 4, 0.7, 0.9];

test("a Gabor function follows its definition, pixel by pixel", () => {
  const side = 9;
  const values = gaborPatch(field, side);
  const [row, column] = [2, 7];
  const [x, y] = [column - 4 - 1, row - 4 + 0.5];
  const along = x * Math.cos(0.3) + y * Math.sin(0.3);
  const across = y * Math.cos(0.3) - x * Math.sin(0.3);
  const bell = Math.exp(-((along / 3) ** 2) / 2 - (across / 4) ** 2 / 2);
  const wave = Math.cos(2 * Math.PI * 0.12 * along + 0.7);
  assert.ok(Math.abs(values[row * side + column] - 0.9 * bell * wave) < 1e-12);
  assert.equal(values.length, 81);
});

test("half a turn with the opposite phase is the same function", () => {
  const turned = [...field];
  turned[2] += Math.PI;
  turned[6] = -turned[6];
  const [a, b] = [gaborPatch(field, 8), gaborPatch(turned, 8)];
  a.forEach((value, k) => assert.ok(Math.abs(value - b[k]) < 1e-12));
});

test("shapes are in cycles", () => {
  const [nx, ny] = shapeOf(field);
  assert.ok(Math.abs(nx - 0.36) < 1e-12 && Math.abs(ny - 0.48) < 1e-12);
});

test("the macaque's bins hold 79 cells and nothing outside", () => {
  assert.equal(COUNTS.flat().reduce((a, b) => a + b), 79);
  for (let i = 0; i < 5; i++) {
    for (let j = 0; j < 5; j++) {
      const middle = (k) => Math.sqrt(EDGES[k] * EDGES[k + 1]);
      assert.equal(cellsAt(middle(i), middle(j)), COUNTS[i][j]);
    }
  }
  for (const [nx, ny] of [[0.05, 0.3], [0.3, 0.05], [2, 0.3], [0.3, 2]]) assert.equal(cellsAt(nx, ny), 0);
});

test("the nearest dot is nearest in octaves, not in cycles", () => {
  const shapes = [[0.1, 0.1], [0.4, 0.4], [1.2, 1.2]];
  assert.equal(nearestField(shapes, 0.19, 0.19), 0);
  assert.equal(nearestField(shapes, 0.21, 0.21), 1);
  assert.equal(nearestField(shapes, 0.75, 0.75), 2);
});

test("keys walk the sheet and stay on it", () => {
  assert.equal(keyTarget("ArrowRight", 4, 10, 4), 5);
  assert.equal(keyTarget("ArrowDown", 4, 10, 4), 8);
  assert.equal(keyTarget("ArrowDown", 7, 10, 4), 7);
  assert.equal(keyTarget("ArrowUp", 2, 10, 4), 2);
  assert.equal(keyTarget("Home", 7, 10, 4), 0);
  assert.equal(keyTarget("End", 7, 10, 4), 9);
  assert.equal(keyTarget("a", 7, 10, 4), null);
});

test("the sentence counts cells in words that agree", () => {
  assert.match(sentence(0, field, 0.934), /Field 1: .* 17° with 0\.12 .* n_x = 0\.36, n_y = 0\.48\..* 93 %; 19 of 79 macaque cells share/);
  assert.match(sentence(3, [0, 0, 0, 0.01, 2, 2, 0, 1], 0.5), /no macaque cell shares/);
  assert.match(sentence(3, [0, 0, 0, 0.1, 4, 2, 0, 1], 0.5), /2 of 79/);
});
