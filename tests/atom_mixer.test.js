import assert from "node:assert/strict";
import test from "node:test";
import {
  PRICES, atomsAt, cheapest, crossings, exactCode, leastNormCode, miss, mix, nullCode, position, reachOf, sentence, step,
} from "../sparse_book/show/atom_mixer.js";

const close = (a, b, slack = 1e-9) => assert.ok(Math.abs(a - b) <= slack, `${a} is not ${b}`);
const CASES = [
  [[10, 60, 125], [1, 1.2]],
  [[90, 210, 330], [0.3, -1.1]],
  [[0, 30, 100], [-1.4, 0.6]],
];

for (const [angles, signal] of CASES) {
  const atoms = atomsAt(angles);

  test(`${angles}: the null code builds nothing and has unit length`, () => {
    const [x, y] = mix(atoms, nullCode(atoms));
    close(x, 0);
    close(y, 0);
    close(Math.hypot(...nullCode(atoms)), 1);
  });

  test(`${angles}: every code of the family is exact and knows its place`, () => {
    for (let z = -2; z <= 2; z += 0.1) {
      const code = exactCode(atoms, signal, z);
      close(miss(atoms, code, signal), 0);
      close(position(atoms, code), z);
    }
    close(position(atoms, leastNormCode(atoms, signal)), 0);
  });

  test(`${angles}: exactly one coefficient rests at each crossing`, () => {
    const stops = crossings(atoms, signal);
    assert.deepEqual(stops, [...stops].sort((a, b) => a - b));
    for (const z of stops) assert.equal(PRICES.count.value(exactCode(atoms, signal, z)), 2);
  });

  for (const price of Object.keys(PRICES)) {
    test(`${angles}: no code of the family is cheaper than the cheapest by ${price}`, () => {
      const places = cheapest(price, atoms, signal);
      for (const z of places) {
        const ours = PRICES[price].value(exactCode(atoms, signal, z));
        for (let k = -4000; k <= 4000; k++) {
          assert.ok(ours <= PRICES[price].value(exactCode(atoms, signal, k / 1000)) + 1e-9);
        }
      }
      assert.equal(places.length, price === "count" ? 3 : 1);
    });
  }
}

test("a step halts at a crossing on its way and leaves it on the next", () => {
  close(step(0, 0.1, [0.05, 0.08]), 0.05);
  close(step(0.05, 0.1, [0.05]), 0.15);
  close(step(0.05, -0.1, [-0.01, 0.02]), 0.02);
  close(step(0, 0.1, [0.3]), 0.1);
  close(step(0.2, 0.1, [0.3]), 0.3);
});

test("the sentence says what holds", () => {
  const atoms = atomsAt([0, 90, 45]);
  assert.equal(sentence(atoms, [1, 2, 0], [1, 2]), "Exact: 2 active atoms, sum 3.00, length 2.24.");
  assert.equal(sentence(atoms, [1, 0, 0], [1, 2]), "Misses the signal by 2.00: 1 active atom, sum 1.00, length 1.00.");
});

test("every crossing lies within what is shown", () => {
  for (const [angles, signal] of CASES) {
    const atoms = atomsAt(angles);
    for (const z of crossings(atoms, signal)) assert.ok(Math.abs(z) < reachOf(atoms, signal));
  }
  close(reachOf(atomsAt([10, 60, 125]), [1, 1.2]), 1.9);
});
