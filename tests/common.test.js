import assert from "node:assert/strict";
import test from "node:test";
import { clamp, fixed, floats, generator, normal, path } from "../sparse_book/show/common.js";

test("numbers have a true minus and no negative zero", () => {
  assert.equal(fixed(-1.234), "−1.23");
  assert.equal(fixed(-0.001), "0.00");
  assert.equal(fixed(2, 0), "2");
});

test("the generator repeats itself and fills the unit interval evenly", () => {
  const [one, two] = [generator(7), generator(7)];
  const draws = Array.from({ length: 20000 }, () => one());
  assert.deepEqual(draws.slice(0, 9), Array.from({ length: 9 }, () => two()));
  assert.ok(draws.every((u) => u >= 0 && u < 1));
  const mean = draws.reduce((sum, u) => sum + u, 0) / draws.length;
  assert.ok(Math.abs(mean - 0.5) < 4 / Math.sqrt(12 * draws.length));
});

test("normal numbers have mean 0 and variance 1", () => {
  const uniform = generator(3);
  const draws = Array.from({ length: 20000 }, () => normal(uniform));
  const mean = draws.reduce((sum, v) => sum + v, 0) / draws.length;
  const variance = draws.reduce((sum, v) => sum + v * v, 0) / draws.length - mean * mean;
  assert.ok(Math.abs(mean) < 0.03 && Math.abs(variance - 1) < 0.05);
});

test("float32 numbers are read at any alignment", () => {
  const bytes = new Uint8Array(13);
  bytes.set(new Uint8Array(new Float32Array([1.5, -2, 3]).buffer), 1);
  assert.deepEqual([...floats(new DataView(bytes.buffer, 1, 12))], [1.5, -2, 3]);
});

test("a path starts with a move", () => {
  assert.equal(path([[0, 1], [2, 3]], { X: (v) => v, Y: (v) => 10 * v }), "M0.00 10.00L2.00 30.00");
  assert.equal(clamp(5, 0, 3), 3);
});
