import assert from "node:assert/strict";
import test from "node:test";
import { ceiling, MEASURES, MOVES, PRESETS, response, story } from "../sparse_book/show/sparsity_bars.js";

const measure = Object.fromEntries(MEASURES.map((m) => [m.key, m]));
const value = (key, bars) => measure[key].value(bars);
const close = (one, two) => assert.ok(Math.abs(one - two) < 1e-12, `${one} is not ${two}`);

test("one-hot and equal bars stand at the ends", () => {
  const [hot, even] = [PRESETS["one hot"], PRESETS.uniform];
  assert.equal(hot.length, 8);
  for (const key of ["hoyer", "vinje_gallant"]) {
    assert.equal(value(key, hot), 1);
    assert.equal(value(key, even), 0);
  }
  assert.equal(value("gini", hot), 7 / 8);
  assert.equal(value("gini", even), 0);
  assert.equal(value("treves_rolls_activity", hot), 1 / 8);
  assert.equal(value("kurtosis", even), -2);
  close(value("kurtosis", hot), 64 / 7 - 6);
});

test("closed forms on two equal bars", () => {
  const bars = PRESETS["two equal"];
  assert.equal(value("active_units", bars), 2);
  assert.equal(value("activity_ratio", bars), 0.25);
  assert.equal(value("l1_norm", bars), 6);
  close(value("lp_norm", bars), 12);
  close(value("log_penalty", bars), 2 * Math.log(10));
  close(value("exponential_penalty", bars), -6 - 2 * Math.exp(-9));
  close(value("gini", bars), 0.75);
  close(value("hoyer", bars), (Math.sqrt(8) - Math.SQRT2) / (Math.sqrt(8) - 1));
});

test("silence is constant to a shape and free to a count", () => {
  const zeros = [0, 0, 0, 0];
  for (const key of ["active_units", "activity_ratio", "lp_norm", "l1_norm", "log_penalty", "hoyer", "vinje_gallant", "gini"]) assert.equal(value(key, zeros), 0, key);
  assert.equal(value("treves_rolls_activity", zeros), 1);
  assert.equal(value("exponential_penalty", zeros), -4);
  assert.equal(value("kurtosis", zeros), -2);
});

test("moves move what they say", () => {
  assert.deepEqual(MOVES.robin.act([1, 5, 3]), [2, 4, 3]);
  assert.deepEqual(MOVES.scale.act([1, 0]), [2, 0]);
  assert.deepEqual(MOVES.tide.act([1, 0]), [1.5, 0.5]);
  assert.deepEqual(MOVES.clone.act([1, 0]), [1, 0, 1, 0]);
  assert.deepEqual(MOVES.gates.act([1, 4, 4]), [1, 6, 4]);
  assert.deepEqual(MOVES.baby.act([1]), [1, 0]);
  assert.ok(!MOVES.robin.open([2, 2]) && !MOVES.tide.open([2, 2]) && MOVES.robin.open([2, 1]));
  assert.ok(!MOVES.clone.open(Array(13).fill(1)) && MOVES.clone.open(Array(12).fill(1)));
  assert.ok(!MOVES.scale.open([26]) && MOVES.scale.open([25]));
});

test("Gini and Treves–Rolls obey all six moves, from every preset but one-hot", () => {
  for (const [name, bars] of Object.entries(PRESETS)) {
    if (name === "one hot") continue;
    for (const [key, { act, open, wanted }] of Object.entries(MOVES)) {
      if (!open(bars)) continue;
      for (const good of ["gini", "treves_rolls_activity"]) assert.equal(response(measure[good], bars, act(bars)), wanted, `${good} ${key} ${name}`);
    }
  }
});

test("the known rebels rebel", () => {
  const bars = PRESETS["two equal"];
  assert.equal(response(measure.hoyer, bars, MOVES.clone.act(bars)), -1);
  assert.equal(response(measure.l1_norm, bars, MOVES.robin.act(bars)), 0);
  assert.equal(response(measure.kurtosis, bars, MOVES.tide.act(bars)), 0);
  assert.equal(response(measure.exponential_penalty, bars, MOVES.baby.act(bars)), 1);
});

test("gauges rise with sparsity and stay within their frame", () => {
  for (const { name, sign, value: of, gauge } of MEASURES) {
    for (const bars of [...Object.values(PRESETS), [0, 0], [50, 0], [50, 50], Array(24).fill(50)]) {
      const shown = gauge(of(bars));
      assert.ok(shown >= -1e-12 && shown <= 1 + 1e-12, `${name}: ${shown}`);
    }
    const [low, high] = [of(PRESETS.uniform), of(PRESETS["Laplace-like"])];
    if (low !== high) assert.equal(Math.sign(gauge(high) - gauge(low)), sign * Math.sign(high - low), name);
  }
});

test("the sentence names the rebels", () => {
  const bars = PRESETS["two equal"];
  const text = story(bars, MOVES.clone.act(bars), "clone");
  assert.match(text, /D4, cloning: sparsity should stay, and \d+ of 11 obey; not active units, .*Hoyer/);
  assert.ok(!text.includes("Gini"));
  assert.match(story(bars, bars, ""), /8 bars/);
  assert.equal(ceiling([5]), 5);
  assert.equal(ceiling([5.1]), 10);
});
