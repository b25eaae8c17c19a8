import assert from "node:assert/strict";
import test from "node:test";
import { generator, normal } from "../sparse_book/show/common.js";
import { certificate, LOWEST, prepare, reconstruct, sentence, solutionPath, solve } from "../sparse_book/show/basis_pursuit.js";
import { ball, pNorm, sentence as said, touch } from "../sparse_book/show/lp_balls.js";

const draw = (count, seed) => {
  const uniform = generator(seed);
  return Float32Array.from({ length: count }, () => normal(uniform));
};
const problem = prepare(draw(12 * 6, 1), 6);
const signal = Float64Array.from(draw(6, 2));
const top = Math.max(...problem.answers(signal).map(Math.abs));
const pull = (code) => problem.answers(reconstruct(problem, code).map((value, i) => signal[i] - value));

test("a solution satisfies the optimality conditions", () => {
  for (const ratio of [0.9, 0.3, 0.05]) {
    const { code, gap, objective } = solve(problem, signal, ratio * top, null, 1e-12, 5000);
    assert.ok(gap <= 1e-12 * objective);
    pull(code).forEach((seen, k) => {
      if (code[k] !== 0) assert.ok(Math.abs(seen - ratio * top * Math.sign(code[k])) < 1e-6 * top);
      else assert.ok(Math.abs(seen) <= ratio * top * (1 + 1e-6));
    });
  }
});

test("the gap bounds the distance from the optimum", () => {
  const lambda = 0.2 * top;
  const best = solve(problem, signal, lambda, null, 1e-12, 5000);
  for (const scale of [0, 0.5, 1.5]) {
    const code = best.code.map((value) => scale * value);
    const { gap, objective } = certificate(problem, signal, lambda, code, pull(code));
    assert.ok(gap >= objective - best.objective - 1e-12);
  }
});

test("a warm start at the solution stays, and λmax silences everyone", () => {
  const { code } = solve(problem, signal, 0.1 * top, null, 1e-9, 5000);
  assert.deepEqual(solve(problem, signal, 0.1 * top, code, 1e-6).code, code);
  assert.ok(solve(problem, signal, 1.0001 * top).code.every((value) => value === 0));
});

test("the path starts silent and ends active", () => {
  const steps = solutionPath(problem, signal, 9);
  assert.ok(steps[0][1].every((value) => value === 0));
  assert.ok(Math.abs(steps.at(-1)[0] - LOWEST) < 1e-12 && steps.at(-1)[1].some((value) => value !== 0));
});

test("the smallest ball touches where a search along the line says", () => {
  for (const p of [0.3, 0.7, 1, 1.3, 2, 4]) {
    for (const degrees of [10, 60, 100, -35]) {
      const angle = (degrees * Math.PI) / 180;
      const a = touch(p, angle, 1);
      const on = Math.cos(angle) * a[0] + Math.sin(angle) * a[1];
      assert.ok(Math.abs(on - 1) < 1e-9);
      for (let t = -6; t <= 6; t += 0.001) {
        const other = [Math.cos(angle) - t * Math.sin(angle), Math.sin(angle) + t * Math.cos(angle)];
        assert.ok(pNorm(other, p) >= pNorm(a, p) - 1e-9, `p = ${p}, ${degrees}°`);
      }
      assert.equal(a.filter((value) => value === 0).length, p <= 1 ? 1 : 0);
    }
  }
});

test("points of a ball lie on it", () => {
  for (const p of [0.3, 1, 2, 4]) for (const point of ball(p, 1.5)) assert.ok(Math.abs(pNorm(point, p) - 1.5) < 1e-6);
});

test("sentences", () => {
  assert.equal(sentence(0.1, 14, 121, 2.345, 0.0312), "λ = 0.10 λmax: 14 of 121 atoms active, ‖a‖₁ = 2.35, 3.1 % of the patch left out.");
  assert.equal(said(0.5, [0, -1.5]), "p = 0.50: the ball touches the line at (0.00, −1.50); one coefficient is active.");
});
