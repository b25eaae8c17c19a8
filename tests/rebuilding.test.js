import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { activity, errorOf, run, sentence, toggled } from "../sparse_book/show/rebuilding.js";
import { unpackDigits, unpackNetwork } from "../sparse_book/show/stored_networks.js";
import { agree, readDigits, readNetworks } from "./npz.js";

const fixtures = JSON.parse(readFileSync(new URL("./stored_networks.json", import.meta.url), "utf8"));
const stored = readNetworks("rebuilding");
const digits = unpackDigits(readDigits().digits);
const every = (values, step) => Array.from(values).filter((_, k) => k % step === 0);
const some = (values) => every(values, 1 + Math.floor(values.length / 40));

test("the script says what PyTorch says, for every stored autoencoder", () => {
  assert.deepEqual([...new Set(fixtures.rebuilding.map(({ network }) => network))], stored.coefficients.map((_, k) => k));
  for (const { network, digit, active, layers, image, error } of fixtures.rebuilding) {
    const said = run(unpackNetwork(stored, network), digits[digit]);
    assert.deepEqual(activity(said), active);
    [said.encoder, said.code, said.decoder].forEach((layer, k) => agree(some(layer), layers[k]));
    agree(every(said.image, 20), image);
    agree([errorOf(digits[digit], said.image)], [error]);
  }
});

test("a silenced unit says nothing to the decoder, and the code stays as it is", () => {
  for (const { network, digit, silenced } of fixtures.rebuilding) {
    const tensors = unpackNetwork(stored, network);
    const [plain, quiet] = [run(tensors, digits[digit]), run(tensors, digits[digit], fixtures.silenced)];
    agree(every(quiet.image, 20), silenced);
    assert.deepEqual(quiet.code, plain.code);
    fixtures.silenced.forEach((unit) => assert.equal(quiet.heard[unit], 0));
  }
});

test("units are switched off and on", () => {
  assert.deepEqual(toggled([], 3), [3]);
  assert.deepEqual(toggled([3, 8], 5), [3, 5, 8]);
  assert.deepEqual(toggled([3, 5, 8], 5), [3, 8]);
});

test("words", () => {
  const said = { encoder: Float64Array.of(1, 1, 0), code: Float64Array.of(2, 1), heard: Float64Array.of(0, 1), decoder: Float64Array.of(0, 0, 4), image: [0, 0.5] };
  assert.equal(
    sentence({ price: 0.0005, label: 4, said, pixels: [0, 1], silenced: [0], error: 0.01234, active: 45.67 }),
    "λ = 0.0005: for this 4, 1 of 2 code units are active (1 switched off), 2 of 3 in the encoder, 1 of 3 in the decoder. " +
      "Error per pixel: 0.1250. On all test digits: 0.0123, with 45.7 active units in all.",
  );
});
