import assert from "node:assert/strict";
import test from "node:test";
import { generator, normal } from "../sparse_book/show/common.js";
import {
  correlate, cosineDictionary, cut, distinctAtoms, energy, explained, greyRange, greys, matchingPursuit, nextAtom,
  orthogonalMatchingPursuit, roundTop, sentence, sharesLeft, strongest,
} from "../sparse_book/show/pursuit.js";

const near = (a, b, tolerance = 1e-9) => assert.ok(Math.abs(a - b) <= tolerance, `${a} is not ${b}`);
const nearAll = (a, b, tolerance) => a.forEach((value, k) => near(value, b[k], tolerance));
const dictionary = cosineDictionary(8, 11);
const random = (seed, size = 64) => {
  const uniform = generator(seed);
  return Float64Array.from({ length: size }, () => 0.5 + normal(uniform));
};
const rebuild = (codes, atoms) => atoms[0].map((_, pixel) => atoms.reduce((sum, atom, k) => sum + codes[k] * atom[pixel], 0));
const coders = { matchingPursuit, orthogonalMatchingPursuit };

/** Least squares on chosen atoms by the normal equations and Gauss's elimination: nothing in common with the widget's way. */
function leastSquares(signal, atoms) {
  const size = atoms.length;
  const rows = atoms.map((atom, i) => [...correlate(atom, atoms), correlate(signal, atoms)[i]]);
  for (let i = 0; i < size; i++) {
    const pivot = rows.slice(i).reduce((best, row, k) => (Math.abs(row[i]) > Math.abs(rows[best][i]) ? i + k : best), i);
    [rows[i], rows[pivot]] = [rows[pivot], rows[i]];
    for (let j = 0; j < size; j++) {
      if (j === i) continue;
      const factor = rows[j][i] / rows[i][i];
      rows[j] = rows[j].map((value, k) => value - factor * rows[i][k]);
    }
  }
  return rows.map((row, i) => row[size] / row[i]);
}

test("cosine atoms have unit norm, and no mean but the first", () => {
  assert.equal(dictionary.length, 121);
  dictionary.forEach((atom, k) => {
    near(energy(atom), 1);
    near(atom.reduce((sum, value) => sum + value, 0), k ? 0 : 8);
  });
  const [i, j, y, x] = [3, 7, 2, 5]; // by the formula, one pixel of one atom
  const wave = (frequency) => {
    const values = Array.from({ length: 8 }, (_, t) => Math.cos((Math.PI * frequency * (t + 0.5)) / 11));
    const mean = values.reduce((sum, value) => sum + value, 0) / 8;
    const length = Math.hypot(...values.map((value) => value - mean));
    return values.map((value) => (value - mean) / length);
  };
  near(dictionary[i * 11 + j][y * 8 + x], wave(i)[y] * wave(j)[x]);
});

test("with as many frequencies as pixels the atoms are orthonormal", () => {
  const basis = cosineDictionary(5, 5);
  basis.forEach((atom, k) => nearAll(correlate(atom, basis), basis.map((_, l) => (k === l ? 1 : 0))));
  const signal = random(1, 25);
  for (const coder of Object.values(coders)) {
    const history = coder(signal, basis, 40); // stops by itself: every atom once, the largest first
    assert.equal(history.length, 25);
    const sizes = history.map(({ atom, correlations }) => Math.abs(correlations[atom]));
    sizes.slice(1).forEach((size, k) => assert.ok(size <= sizes[k] + 1e-12));
    nearAll(history.at(-1).codes, correlate(signal, basis));
  }
});

test("codes, residuals and correlations belong together", () => {
  for (const coder of Object.values(coders)) {
    const signal = random(2);
    let before = signal;
    for (const { atom, codes, residual, correlations } of coder(signal, dictionary, 20)) {
      nearAll(correlations, correlate(before, dictionary));
      assert.equal(atom, strongest(correlations));
      const rebuilt = rebuild(codes, dictionary);
      nearAll(residual, signal.map((value, k) => value - rebuilt[k]));
      before = residual;
    }
  }
});

test("matching pursuit keeps the books of energy", () => {
  const signal = random(3);
  let whole = energy(signal);
  for (const { atom, residual, correlations } of matchingPursuit(signal, dictionary, 60)) {
    whole -= correlations[atom] ** 2;
    near(energy(residual), whole);
    near(correlate(residual, [dictionary[atom]])[0], 0);
  }
});

test("orthogonal: the residual is at right angles to every chosen atom, the codes are least squares", () => {
  const signal = random(4);
  const history = orthogonalMatchingPursuit(signal, dictionary, 24);
  history.forEach(({ codes, residual }, step) => {
    const chosen = history.slice(0, step + 1).map(({ atom }) => atom);
    assert.equal(new Set(chosen).size, step + 1);
    nearAll(correlate(residual, chosen.map((atom) => dictionary[atom])), chosen.map(() => 0), 1e-10);
    const solution = leastSquares(signal, chosen.map((atom) => dictionary[atom]));
    nearAll(chosen.map((atom) => codes[atom]), solution, 1e-6);
    codes.forEach((code, atom) => chosen.includes(atom) || assert.equal(code, 0));
  });
  const all = orthogonalMatchingPursuit(signal, dictionary, 200);
  assert.ok(all.length <= 64);
  near(sharesLeft(signal, all).at(-1), 0, 1e-18);
});

test("one atom takes one step; nothing takes none", () => {
  for (const coder of Object.values(coders)) {
    for (const k of [0, 37, 120]) {
      const history = coder(dictionary[k].map((value) => -2.5 * value), dictionary, 9);
      assert.equal(history.length, 1);
      assert.equal(history[0].atom, k);
      near(history[0].codes[k], -2.5);
    }
    const black = new Float64Array(64);
    assert.deepEqual(coder(black, dictionary, 9), []);
    assert.deepEqual(sharesLeft(black, []), [0]);
  }
});

test("ties go to the lowest index, rounding included", () => {
  assert.equal(strongest([0.1, -0.7, 0.7, 0.2]), 1);
  assert.equal(strongest([0.1, 0.7, -0.7 * (1 + 1e-15)]), 1);
  assert.equal(strongest([0, 0]), 0);
  assert.equal(nextAtom([0, 0], [0, 0]), -1);
  const signal = dictionary[5].map((value, k) => value + dictionary[55][k]); // a patch equal to its transpose
  assert.equal(matchingPursuit(signal, dictionary, 1)[0].atom, 5);
});

test("matching pursuit returns to an atom, and it counts once", () => {
  const twice = [Float64Array.of(1, 0), Float64Array.of(0.8, 0.6)];
  const history = matchingPursuit([1, 2], twice, 3);
  assert.deepEqual(history.map(({ atom }) => atom), [1, 0, 1]);
  assert.deepEqual(distinctAtoms(history), [1, 0]);
  // By hand: residuals (1, 2) → (−0.6, 0.8) → (0, 0.8), and the last one meets (0.8, 0.6) with 0.48.
  nearAll(history[2].codes, [-0.6, 2.48]);
});

test("patches, bytes and floats", () => {
  const picture = Array.from({ length: 20 }, (_, k) => k); // four rows of five
  assert.deepEqual([...cut(picture, 5, 1, 2, 2)], [7, 8, 12, 13]);
  assert.deepEqual([...greys(new DataView(Uint8Array.of(9, 0, 51, 255).buffer, 1), 3)], [0, 0.2, 1]);
  assert.deepEqual([...greys(new DataView(Float32Array.of(0.5, 0.25).buffer), 2)], [0.5, 0.25]);
});

test("scales that a reader can follow", () => {
  assert.equal(greyRange([0.9, -1.4]), 1);
  assert.equal(greyRange([0.1, -0.25]), 0.25);
  assert.equal(greyRange([0, 0]), 1 / 128);
  near(roundTop(0.31), 0.5);
  near(roundTop(1), 1);
  near(roundTop(6.2), 10);
  assert.ok(roundTop(0) > 0);
});

test("sentences", () => {
  assert.equal(sentence({ taken: 5, atoms: 5, left: 0.0789, next: 37 }), "5 atoms: 92.1 % of the patch explained; next: atom 37.");
  assert.equal(sentence({ taken: 0, atoms: 0, left: 1, next: 0 }), "No atom yet: 0.0 % of the patch explained; next: atom 0.");
  assert.equal(sentence({ taken: 1, atoms: 1, left: 1e-33, next: -1 }), "1 atom: 100 % of the patch explained; nothing is left.");
  assert.match(sentence({ taken: 9, atoms: 8, left: 0.0058, next: 1 }), /^9 steps, 8 atoms: 99\.42 %/);
  assert.deepEqual([0.00029, 2.9e-6, 1e-8].map(explained), ["99.971 %", "99.9997 %", "over 99.9999 %"]);
});
