import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { activity, emptyMaps, run, sentence } from "../sparse_book/show/feature_maps.js";
import { unpackDigits, unpackNetwork } from "../sparse_book/show/stored_networks.js";
import { agree, readDigits, readNetworks } from "./npz.js";

const fixtures = JSON.parse(readFileSync(new URL("./stored_networks.json", import.meta.url), "utf8"));
const stored = readNetworks("feature_maps");
const digits = unpackDigits(readDigits().digits);
const some = (values) => Array.from(values).filter((_, k) => k % (1 + Math.floor(values.length / 40)) === 0);

test("the script says what PyTorch says, for every stored network", () => {
  assert.deepEqual([...new Set(fixtures.feature_maps.map(({ network }) => network))], stored.coefficients.map((_, k) => k));
  for (const { network, digit, active, layers, logits } of fixtures.feature_maps) {
    const said = run(unpackNetwork(stored, network), digits[digit]);
    assert.deepEqual(activity(said), active);
    [said.first.values, said.second.values, said.units].forEach((layer, k) => agree(some(layer), layers[k]));
    agree(said.logits, logits);
    agree([said.probabilities.reduce((sum, share) => sum + share, 0)], [1]);
  }
});

test("empty maps are counted", () => {
  const values = Float64Array.of(0, 0, 0, 1, 0, 0);
  assert.equal(emptyMaps({ count: 3, height: 1, width: 2, values }), 2);
});

test("words", () => {
  const said = {
    first: { count: 1, height: 1, width: 2, values: Float64Array.of(0, 1) }, second: { count: 2, height: 1, width: 1, values: Float64Array.of(0, 3) },
    units: Float64Array.of(1, 0, 2), probabilities: [0.1, 0.9, 0, 0, 0, 0, 0, 0, 0, 0],
  };
  assert.equal(
    sentence({ price: 0.002, label: 7, said, accuracy: 0.98765, active: 12.4 }),
    "λ = 0.002: for this 7, 4 of 7 units are active: 1 in the first maps, 1 in the second, 2 of 3 dense ones; 1 of 2 second maps are empty. " +
      "It reads 1 (90.0 %). On all test digits: 98.77 % right, 12 units active.",
  );
});
