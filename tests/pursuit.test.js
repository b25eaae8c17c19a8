import assert from "node:assert/strict";
import test from "node:test";
import { generator, normal } from "../sparse_book/show/common.js";
import { atomName, cosineAtoms, cutPatch, dot, nextWinner, pursue, repeats, sentence } from "../sparse_book/show/pursuit.js";

const near = (a, b, tolerance = 1e-10) => assert.ok(Math.abs(a - b) <= tolerance, `${a} is not ${b}`);
const atoms = cosineAtoms(8, 11);
const draw = generator(5);
const signals = Array.from({ length: 10 }, () => Float64Array.from({ length: 64 }, () => normal(draw)));
const rebuild = ({ chosen, coefficients }, from = atoms) =>
  from[0].map((_, k) => chosen.reduce((sum, atom, place) => sum + coefficients[place] * from[atom][k], 0));

test("atoms have unit norm, all but the first have no mean, and 8 frequencies make a basis", () => {
  assert.equal(atoms.length, 121);
  atoms.forEach((atom, k) => {
    near(dot(atom, atom), 1);
    near(atom.reduce((sum, v) => sum + v, 0), k ? 0 : 8);
  });
  const basis = cosineAtoms(8, 8);
  near(basis[1][0], -basis[1][7]); // frequency 1 runs across,
  near(basis[1][0], basis[1][56]); // and is level downwards
  basis.forEach((a, i) => basis.forEach((b, j) => near(dot(a, b), i === j ? 1 : 0)));
});

test("a patch is cut where the frame stands", () => {
  const photo = Float32Array.from({ length: 20 * 30 }, (_, k) => k);
  const { mean, signal } = cutPatch(photo, 30, 4, 7, 8);
  near(signal[0] + mean, 4 * 30 + 7);
  near(signal[63] + mean, 11 * 30 + 14);
  near(signal.reduce((sum, v) => sum + v, 0), 0);
});

test("every state adds up, conserves energy, and takes the strongest atom", () => {
  for (const signal of signals) {
    for (const method of ["mp", "omp"]) {
      const states = pursue(signal, atoms, method, 16);
      assert.equal(states.length, 17);
      states.forEach((state, step) => {
        const back = rebuild(state);
        signal.forEach((v, k) => near(back[k] + state.residual[k], v));
        near(state.norm, Math.sqrt(dot(state.residual, state.residual)));
        atoms.forEach((atom, k) => near(state.correlations[k], dot(atom, state.residual)));
        if (!step) return;
        const before = states[step - 1];
        const top = Math.max(...before.correlations.map(Math.abs));
        near(Math.abs(before.correlations[state.winner]), top, 1e-12);
        assert.equal(nextWinner(states, step - 1), state.winner);
        assert.equal(state.chosen.length + repeats(states, step), step);
        if (method === "mp") near(before.norm ** 2, top ** 2 + state.norm ** 2);
        else {
          state.chosen.forEach((atom) => near(state.correlations[atom], 0));
          assert.ok(before.norm ** 2 >= top ** 2 + state.norm ** 2 - 1e-12);
        }
      });
      assert.equal(nextWinner(states, 16), -1);
    }
  }
});

test("in an orthonormal basis both keep the largest coefficients", () => {
  const basis = cosineAtoms(8, 8);
  for (const signal of signals) {
    const inner = basis.map((atom) => dot(atom, signal));
    const order = inner.map((_, k) => k).sort((a, b) => Math.abs(inner[b]) - Math.abs(inner[a]));
    for (const method of ["mp", "omp"]) {
      const last = pursue(signal, basis, method, 16).at(-1);
      assert.deepEqual(last.chosen, order.slice(0, 16));
      last.chosen.forEach((atom, place) => near(last.coefficients[place], inner[atom]));
    }
  }
});

test("matching pursuit zigzags for ever, the orthogonal form ends", () => {
  const angle = 0.4;
  const pair = [Float64Array.of(1, 0), Float64Array.of(Math.cos(angle), Math.sin(angle))];
  const signal = Float64Array.of(1.2, 0.9);
  const walk = pursue(signal, pair, "mp", 12);
  for (let k = 1; k < 12; k++) near(walk[k + 1].norm, walk[k].norm * Math.cos(angle));
  assert.equal(repeats(walk, 12), 10);
  const omp = pursue(signal, pair, "omp", 12);
  assert.equal(omp.length, 3);
  near(omp[2].norm, 0);
});

test("a flat patch and an exact atom end at once", () => {
  assert.equal(pursue(new Float64Array(64), atoms, "omp", 16).length, 1);
  for (const method of ["mp", "omp"]) {
    const states = pursue(atoms[17].map((v) => 2 * v), atoms, method, 16);
    assert.equal(states.length, 2);
    assert.equal(states[1].winner, 17);
    near(states[1].coefficients[0], 2);
  }
});

test("the sentence says what is there", () => {
  assert.equal(atomName(13), "(1, 2)");
  assert.match(sentence(pursue(new Float64Array(64), atoms, "omp", 16), 0, "omp"), /perfectly flat/);
  const states = pursue(atoms[13].map((v, k) => 2 * v + 0.1 * atoms[40][k]), atoms, "omp", 4);
  assert.match(sentence(states, 0, "omp"), /^Nothing chosen yet: residual 2\.\d+, 100\.0 % of the energy\.$/);
  assert.match(sentence(states, 1, "omp"), /^1 step of OMP, the last took atom \(1, 2\): residual 0\.\d{4}, 0\.\d % of the energy\.$/);
});
