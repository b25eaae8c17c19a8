import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import {
  MOVES, RULES, SETTINGS, SURFACES, above, contours, inside, keyTarget, lost, ordered, race, rows, sentence, settingText, tiny, walk,
} from "../sparse_book/show/descent.js";

const near = (a, b, slack = 1e-9) => assert.ok(Math.abs(a - b) <= slack * (1 + Math.abs(b)), `${a} is not ${b}`);
const fixtures = JSON.parse(readFileSync(new URL("./descent.json", import.meta.url), "utf8"));

test("every rule walks as the library's does, on every surface", () => {
  assert.equal(new Set(fixtures.map(({ optimizer }) => optimizer)).size, Object.keys(MOVES).length);
  assert.equal(new Set(fixtures.map(({ surface }) => surface)).size, Object.keys(SURFACES).length);
  for (const { surface, optimizer, settings, steps, points } of fixtures) {
    const found = walk(optimizer, settings, SURFACES[surface], points[0], steps);
    assert.equal(found.length, steps + 1);
    points.forEach((point, k) => point.forEach((value, c) => near(found[10 * k][c], value, 1e-7)));
  }
});

test("settings of the rules are those of the library, with a slider for each that moves", () => {
  for (const { optimizer, settings, sliders } of Object.values(RULES)) {
    const known = fixtures.find((fixture) => fixture.optimizer === optimizer).settings;
    assert.deepEqual([...Object.keys(settings), "weight_decay"].sort(), Object.keys(known).sort());
    for (const name of sliders) {
      const { low, high, log } = SETTINGS[name];
      const value = log ? Math.log10(settings[name]) : settings[name];
      assert.ok(value >= low && value <= high, `${optimizer}: ${name}`);
    }
  }
});

test("slopes are the slopes of the heights", () => {
  for (const [name, { height, slope, x, y }] of Object.entries(SURFACES))
    for (const a of [0.1, 0.37, 0.8])
      for (const b of [0.15, 0.5, 0.9]) {
        const [u, v] = [x.low + a * (x.high - x.low), y.low + b * (y.high - y.low)];
        const [du, dv] = slope(u, v);
        const h = 1e-6;
        near(du, (height(u + h, v) - height(u - h, v)) / (2 * h), 1e-6);
        near(dv, (height(u, v + h) - height(u, v - h)) / (2 * h), 1e-6);
        assert.ok(Number.isFinite(du) && Number.isFinite(dv), name);
      }
});

test("lowest points are flat, on the map and lower than all others", () => {
  for (const surface of Object.values(SURFACES)) {
    for (const [x, y] of surface.lowest) {
      surface.slope(x, y).forEach((slope) => near(slope, 0));
      assert.deepEqual(inside([x, y], surface).map((v) => v.toFixed(2)), [x, y].map((v) => (v + 0).toFixed(2)));
      near(above(surface, [x, y]), 0);
    }
    for (let k = 0; k <= 20; k++)
      for (let j = 0; j <= 20; j++) {
        const [x, y] = [surface.x, surface.y].map(({ low, high }, c) => low + ((high - low) * (c ? j : k)) / 20);
        assert.ok(surface.height(x, y) >= surface.height(...surface.lowest[0]) - 1e-12);
      }
    assert.deepEqual(inside(surface.start, surface), surface.start);
  }
});

test("a path ends where numbers do, and is lost", () => {
  const steep = { ...RULES.gradient.settings, learning_rate: 10 };
  const points = walk("sgd", steep, SURFACES.saddle, [1, 1], 50);
  assert.ok(points.length < 51 && points.flat().every(Number.isFinite));
  assert.ok(lost(SURFACES.saddle, points, 50));
  assert.ok(!lost(SURFACES.bowl, walk("sgd", RULES.gradient.settings, SURFACES.bowl, [1, 1], 5), 5));
});

test("plain descent by hand", () => {
  const points = walk("sgd", { learning_rate: 0.1, momentum: 0 }, SURFACES.bowl, [2, 1], 2);
  [[2, 1], [1.8, -1], [1.62, 1]].forEach((point, k) => point.forEach((value, c) => near(points[k][c], value)));
});

test("level lines lie on their level", () => {
  for (const surface of Object.values(SURFACES)) {
    const lines = contours(surface, 8, 40);
    assert.equal(lines.length, 8);
    assert.ok(lines.every(({ segments }) => segments.length > 3));
    const top = lines.at(-1).level;
    for (const { level, segments } of lines)
      for (const point of segments.flat()) assert.ok(Math.abs(above(surface, point) - level) < 0.15 * top);
  }
  const ring = contours(SURFACES.plateau, 3, 60)[1];
  const wanted = Math.sqrt(-2 * Math.log(1 - ring.level));
  for (const [x, y] of ring.segments.flat()) near(Math.hypot(x, y), wanted, 0.01);
});

test("keys move the start and stay on the map", () => {
  const { bowl } = SURFACES;
  assert.deepEqual(keyTarget("ArrowRight", [0, 0], bowl), [0.15, 0]);
  assert.deepEqual(keyTarget("ArrowUp", [0, 0], bowl, true), [0, 0.48]);
  assert.deepEqual(keyTarget("ArrowLeft", [-3, 1], bowl), [-3, 1]);
  assert.deepEqual(keyTarget("Home", [1, 1], bowl), bowl.start);
  assert.equal(keyTarget("x", [0, 0], bowl), null);
});

test("the sentence names the lowest and the lost", () => {
  const state = { surface: "bowl", start: [-2, 1], steps: 30, shown: ["gradient", "momentum"], settings: {} };
  assert.match(sentence(race(state), 30), /^After 30 steps momentum is the lowest, [\d.]+ above the minimum\.$/);
  const wild = { ...state, settings: { gradient: { learning_rate: 1 } } };
  assert.match(sentence(race(wild), 30), /Off the map: gradient\.$/);
  assert.deepEqual(rows(race(wild)).gradient, ["off the map", ""]);
  assert.match(sentence(race({ ...wild, shown: ["gradient"], steps: 9 }), 9), /^After 9 steps no rule is on the map\.$/);
  assert.equal(sentence([], 1), "No rule is shown.");
});

test("numbers are written as a reader expects them", () => {
  assert.equal(tiny(0.00012), "1.2 · 10⁻⁴");
  assert.equal(settingText("learning_rate", 0.0400001), "0.04");
  assert.equal(settingText("epsilon", 1e-6), "1.0 · 10⁻⁶");
  assert.equal(settingText("momentum", 0.9), "0.90");
  assert.equal(settingText("beta2", 0.999), "0.999");
  assert.deepEqual(ordered(["adam", "gradient"]), ["gradient", "adam"]);
});
