import assert from "node:assert/strict";
import test from "node:test";
import {
  SHAPES, biasGradient, drawNumbers, edgeFlows, forward, keyTarget, nearestWeight, pack, parameterCount, paths, rows, sentence, total, unpack,
} from "../sparse_book/show/penalty_paths.js";

const near = (a, b, slack = 1e-9) => assert.ok(Math.abs(a - b) <= slack, `${a} is not ${b}`);

// Two inputs, two units, two units, one output; every number can be followed by hand.
const byHand = unpack([2, 2, 2, 1], [
  1, 0.5, -1, 1, 0.1, 0.2, // layer 1: unit 1 hears 0.5 + 0.4 + 0.1 = 1, unit 2 hears −0.5 + 0.8 + 0.2 = 0.5
  0.3, -2, 0.5, 0.5, 0, 0, // layer 2: 0.3 − 1 < 0 is silent; 0.5 + 0.25 = 0.75
  1, 1, 0, // output
  0.5, 0.8, // input
]);

/** The penalty: the sum of all hidden activations. */
const penalty = (network) => forward(network).a.slice(0, -1).flat().reduce((sum, value) => sum + value, 0);

function slope(network, edit, step = 1e-6) {
  const [up, down] = [1, -1].map((sign) => {
    const moved = unpack(network.sizes, pack(network));
    edit(moved, sign * step);
    return penalty(moved);
  });
  return (up - down) / (2 * step);
}

test("a network goes into a list and back", () => {
  for (const sizes of Object.values(SHAPES)) {
    const numbers = drawNumbers(sizes, 3);
    assert.equal(numbers.length, parameterCount(sizes));
    assert.deepEqual(pack(unpack(sizes, numbers)), numbers);
  }
});

test("a network is drawn as announced: bounded, reproducible, inputs above 0", () => {
  const { layers, signal } = unpack([3, 4, 3, 2], drawNumbers([3, 4, 3, 2], 8));
  layers.forEach(({ weights, biases }, l) =>
    [...weights.flat(), ...biases].forEach((value) => assert.ok(Math.abs(value) <= 1 / Math.sqrt([3, 4, 3][l]) + 0.005)));
  signal.forEach((value) => assert.ok(value >= 0.1 && value <= 1));
  assert.deepEqual(drawNumbers([3, 4, 3, 2], 8), drawNumbers([3, 4, 3, 2], 8));
  assert.notDeepEqual(drawNumbers([3, 4, 3, 2], 8), drawNumbers([3, 4, 3, 2], 9));
});

test("paths by hand", () => {
  const found = paths(byHand, [0, 0, 1]);
  assert.deepEqual(found.map(({ units }) => units), [[0], [0, 0], [0, 1]]);
  [0.8, 0, 0.4].forEach((value, k) => near(found[k].value, value));
  near(total(found), 1.2);
  near(biasGradient(byHand, 0, 0), 1.5);
  assert.deepEqual(paths(byHand, [1, 1, 0]).map(({ value }) => value), [1]);
  assert.equal(total(paths(byHand, [1, 0, 0])), 0);
  assert.deepEqual(paths(byHand, [2, 0, 0]), []);
});

test("paths add up to the slope of the penalty", () => {
  for (const sizes of [[3, 4, 3, 2], [3, 4, 3, 3, 2], [2, 2, 3, 2, 2, 1]])
    for (let seed = 0; seed < 20; seed++) {
      const network = unpack(sizes, drawNumbers(sizes, seed));
      network.layers.forEach(({ weights }, layer) => weights.forEach((row, unit) => {
        row.forEach((_, source) => {
          const measured = slope(network, ({ layers }, step) => (layers[layer].weights[unit][source] += step));
          near(total(paths(network, [layer, unit, source])), measured, 1e-6);
        });
        const measured = slope(network, ({ layers }, step) => (layers[layer].biases[unit] += step));
        near(biasGradient(network, layer, unit), measured, 1e-6);
      }));
    }
});

test("a bias hears its paths even where the input is 0", () => {
  const network = unpack([2, 2, 2, 1], pack(byHand));
  network.signal[1] = 0;
  assert.equal(total(paths(network, [0, 0, 1])), 0);
  near(biasGradient(network, 0, 0), slope(network, ({ layers }, step) => (layers[0].biases[0] += step)), 1e-6);
});

test("what flows over a weight is the sum of the paths through it", () => {
  const network = unpack([3, 4, 3, 3, 2], drawNumbers([3, 4, 3, 3, 2], 4));
  for (const chosen of [[0, 1, 0], [0, 3, 2], [1, 0, 1]]) {
    const found = paths(network, chosen);
    const flows = edgeFlows(found, chosen[0]);
    const first = Object.entries(flows).filter(([key]) => key.startsWith(`${chosen[0] + 1} `));
    near(first.reduce((sum, [, flow]) => sum + flow, 0), total(found.slice(1)));
  }
});

test("the table lists every path and where it stops", () => {
  const body = rows(byHand, [0, 0, 1]);
  assert.deepEqual(body[0], ["x₂ → a⁽¹⁾₁", "0.80", "0.80"]);
  assert.deepEqual(body[1], ["x₂ → a⁽¹⁾₁ → a⁽²⁾₁", "stops at a⁽²⁾₁", "0.00"]);
  assert.deepEqual(body[2], ["x₂ → a⁽¹⁾₁ → a⁽²⁾₂", "0.80 × 0.50", "0.40"]);
  assert.deepEqual(body.at(-1), ["all paths", "", "1.20"]);
  assert.deepEqual(rows(byHand, [2, 0, 0]), [["all paths", "", "0.00"]]);
});

test("the sentence says what comes back, and when nothing does", () => {
  assert.match(sentence(byHand, [0, 0, 1]), /^W⁽¹⁾₁₂ \(x₂ → a⁽¹⁾₁\): the penalty's gradient is 1\.20 = 0\.80 own \+ 0\.40 come back\. The unit's bias gets 1\.50\.$/);
  assert.match(sentence(byHand, [1, 1, 0]), /is 1\.00, all of it its own\. The unit's bias gets 1\.00/);
  assert.match(sentence(byHand, [1, 0, 0]), /its unit is silent.* is 0\./);
  assert.match(sentence(byHand, [2, 0, 0]), /W⁽³⁾₁₁ .*output 1.*no hidden unit depends on it/);
});

test("the nearest line is chosen", () => {
  const place = (layer, unit) => ({ x: 100 * (layer + 1), y: 50 * unit });
  assert.deepEqual(nearestWeight([3, 4, 3, 2], place, 50, 1), [0, 0, 0]);
  assert.deepEqual(nearestWeight([3, 4, 3, 2], place, 90, 148), [0, 3, 2]);
  assert.deepEqual(nearestWeight([3, 4, 3, 2], place, 275, 63), [2, 1, 2]);
});

test("keys walk through all weights and stay in the network", () => {
  const sizes = [3, 4, 3, 2];
  let at = [0, 0, 0];
  const seen = new Set();
  for (let k = 0; k < 30; k++) {
    seen.add(at.join());
    at = keyTarget("ArrowDown", at, sizes);
  }
  assert.equal(seen.size, 30);
  assert.deepEqual(at, [2, 1, 2]);
  assert.deepEqual(keyTarget("ArrowUp", [0, 0, 0], sizes), [0, 0, 0]);
  assert.deepEqual(keyTarget("ArrowRight", [0, 3, 2], sizes), [1, 2, 2]);
  assert.deepEqual(keyTarget("ArrowLeft", [1, 1, 3], sizes), [0, 1, 2]);
  assert.deepEqual(keyTarget("Home", [1, 1, 1], sizes), [0, 0, 0]);
  assert.deepEqual(keyTarget("End", [1, 1, 1], sizes), [2, 1, 2]);
  assert.equal(keyTarget("x", [1, 1, 1], sizes), null);
});
