// Widget "The price of activity": move λ, watch the code of a patch fill or empty.
import { choice, clamp, controls, fixed, floats, html, path, pixels, plot, readout, svg, widgetRoot } from "./common.js";

export const LOWEST = 0.01; // of λ over λmax

/** What every solution needs: atoms as rows of a flat array. */
export function prepare(dictionary, dimension) {
  const atoms = dictionary.length / dimension;
  const rows = Array.from({ length: atoms }, (_, k) => Float64Array.from(dictionary.subarray(k * dimension, (k + 1) * dimension)));
  const dot = (a, b) => a.reduce((sum, value, k) => sum + value * b[k], 0);
  const gram = rows.map((one) => Float64Array.from(rows, (other) => dot(one, other)));
  return { atoms, dimension, rows, gram, answers: (signal) => Float64Array.from(rows, (row) => dot(row, signal)) };
}

export const reconstruct = ({ rows, dimension }, code) => {
  const out = new Float64Array(dimension);
  code.forEach((value, k) => value && rows[k].forEach((pixel, i) => (out[i] += value * pixel)));
  return out;
};

/** Objective and duality gap of ½|s − Φa|² + λ|a|₁, given what the atoms see in the residual. */
export function certificate(problem, signal, lambda, code, pull) {
  const rebuilt = reconstruct(problem, code);
  const energy = rebuilt.reduce((sum, value, i) => sum + (signal[i] - value) ** 2, 0);
  const loudest = pull.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const t = loudest > lambda ? lambda / loudest : 1;
  let [gap, l1] = [(0.5 * (1 - t) ** 2) * energy, 0];
  code.forEach((value, k) => {
    gap += lambda * Math.abs(value) - t * value * pull[k];
    l1 += Math.abs(value);
  });
  return { gap: Math.max(gap, 0), objective: energy / 2 + lambda * l1, energy, l1 };
}

/** Coordinate descent from `start`: first over the active atoms, then over all, until the gap is small. */
export function solve(problem, signal, lambda, start, tolerance = 1e-6, limit = 400) {
  const { atoms, gram, answers } = problem;
  const code = start ? Float64Array.from(start) : new Float64Array(atoms);
  const pull = answers(signal);
  code.forEach((value, k) => value && gram[k].forEach((g, j) => (pull[j] -= value * g)));
  const visit = (k) => {
    const x = pull[k] + gram[k][k] * code[k];
    const next = (x - clamp(x, -lambda, lambda)) / gram[k][k];
    const step = next - code[k];
    if (step === 0) return 0;
    code[k] = next;
    const row = gram[k];
    for (let j = 0; j < atoms; j++) pull[j] -= step * row[j];
    return Math.abs(step) * Math.sqrt(row[k]);
  };
  let seen = certificate(problem, signal, lambda, code, pull);
  for (let round = 0; round < limit && seen.gap > tolerance * seen.objective; round++) {
    for (let k = 0; k < atoms; k++) visit(k);
    const active = [...code.keys()].filter((k) => code[k] !== 0);
    for (let sweep = 0; sweep < 50; sweep++) {
      const moved = active.reduce((most, k) => Math.max(most, visit(k)), 0);
      if (moved < 1e-9 * lambda) break;
    }
    seen = certificate(problem, signal, lambda, code, pull);
  }
  return { code, ...seen };
}

/** Codes for λ falling from λmax, each started from the one before: [[λ / λmax, code], ...]. */
export function solutionPath(problem, signal, count = 33, tolerance = 1e-4) {
  const top = Math.max(...problem.answers(signal).map(Math.abs));
  let code;
  return Array.from({ length: count }, (_, k) => {
    const ratio = LOWEST ** (k / (count - 1));
    code = solve(problem, signal, ratio * top, code, tolerance).code;
    return [ratio, code];
  });
}

export function sentence(ratio, active, atoms, l1, left) {
  return `λ = ${ratio < 0.1 ? fixed(ratio, 3) : fixed(ratio)} λmax: ${active} of ${atoms} atoms active, ‖a‖₁ = ${fixed(l1)}, ${fixed(100 * left, 1)} % of the patch left out.`;
}

function render({ model, el }) {
  const listeners = new AbortController();
  const on = (node, type, act) => node.addEventListener(type, act, { signal: listeners.signal });
  const put = (name, value) => {
    model.set(name, value);
    model.save_changes();
  };
  const side = model.get("side");
  const dimension = side * side;
  const problem = prepare(floats(model.get("dictionary")), dimension);
  const values = floats(model.get("patches"));
  const patches = Array.from({ length: values.length / dimension }, (_, k) => Float64Array.from(values.subarray(k * dimension, (k + 1) * dimension)));
  const known = new Map(); // per patch: λmax and path, computed when first shown
  const about = (k) => {
    if (!known.has(k)) {
      known.set(k, { top: Math.max(...problem.answers(patches[k]).map(Math.abs)), steps: solutionPath(problem, patches[k]) });
    }
    return known.get(k);
  };

  const root = widgetRoot(el, "sb-lasso", "The price of activity");
  const row = controls(root);
  const picked = choice(row, {
    legend: "Patch", options: Object.fromEntries(patches.map((_, k) => [k, String(k + 1)])), value: String(model.get("patch")),
    onChange: (key) => put("patch", Number(key)),
  });
  const said = readout(root);
  const panels = html(root, "div", { class: "sb-panels" });
  const reach = Math.max(...patches.map((_, k) => about(k).steps.at(-1)[1].reduce((most, value) => Math.max(most, Math.abs(value)), 0)));
  const high = Math.ceil(11 * reach) / 10;
  const y = { low: -high, high, ticks: [-high, -high / 2, 0, high / 2, high], label: "a" };
  const left = plot(panels, {
    caption: "Every coefficient against λ", x: { low: LOWEST, high: 1, log: true, ticks: [0.01, 0.03, 0.1, 0.3, 1], label: "λ / λmax" }, y, height: 262,
  });
  const right = plot(panels, { caption: "The code", x: { low: -1, high: problem.atoms, ticks: [0, 40, 80, 120], label: "atom" }, y, height: 262 });
  const curves = Array.from({ length: problem.atoms }, () => svg(left.curves, "path", { class: "sb-strand" }));
  svg(right.curves, "path", { class: "sb-level", d: path([[-1, 0], [problem.atoms, 0]], right) });
  const bars = Array.from({ length: problem.atoms }, () => svg(right.curves, "path", { class: "sb-bar" }));
  left.over.removeAttribute("aria-hidden");
  const handle = svg(left.over, "g", {
    class: "sb-lambda", role: "slider", tabindex: 0, "aria-label": "Price of activity lambda over lambda max", "aria-valuemin": LOWEST, "aria-valuemax": 1,
  });
  svg(handle, "path", { class: "sb-rule", d: `M0 ${left.inner.top}V${left.inner.bottom}` });
  svg(handle, "path", { class: "sb-hit", d: `M-20 ${left.inner.top}H20V${left.inner.bottom + 24}H-20Z` });
  svg(handle, "path", { class: "sb-grip", d: `M0 ${left.inner.bottom - 1}l9 12v14h-18v-14Z` });
  svg(handle, "text", { class: "sb-grip-name", y: left.inner.bottom + 22, "text-anchor": "middle", "aria-hidden": "true" }, "λ");
  const gallery = html(root, "div", { class: "sb-gallery" });
  const images = Object.fromEntries(
    ["patch", "reconstruction", "residual"].map((name) => [name, pixels(gallery, { width: side, height: side, label: name, low: -1, high: 1, caption: name })]),
  );

  const moveTo = (ratio) => put("ratio", clamp(Number(ratio.toPrecision(3)), LOWEST, 1));
  on(handle, "keydown", (event) => {
    const step = event.shiftKey ? 1.02 : 1.1;
    const factors = { ArrowRight: step, ArrowUp: step, ArrowLeft: 1 / step, ArrowDown: 1 / step, PageUp: 2, PageDown: 0.5 };
    if (event.key in factors) moveTo(model.get("ratio") * factors[event.key]);
    else if (event.key === "Home") moveTo(LOWEST);
    else if (event.key === "End") moveTo(1);
    else return;
    event.preventDefault();
  });
  let grip = null; // where the handle was taken, so that nothing leaps
  const where = (event) => {
    const box = left.svg.getBoundingClientRect();
    return ((event.clientX - box.left) * 360) / box.width;
  };
  on(handle, "pointerdown", (event) => {
    grip = where(event) - left.X(model.get("ratio"));
    handle.setPointerCapture(event.pointerId);
    handle.focus({ preventScroll: true });
    event.preventDefault();
  });
  on(handle, "pointermove", (event) => grip !== null && moveTo(left.unX(where(event) - grip)));
  for (const type of ["pointerup", "pointercancel"]) on(handle, type, () => (grip = null));

  let drawn = -1;
  let last;
  function draw() {
    const k = clamp(model.get("patch"), 0, patches.length - 1);
    const ratio = clamp(model.get("ratio"), LOWEST, 1);
    const [signal, { top, steps }] = [patches[k], about(k)];
    if (drawn !== k) {
      curves.forEach((node, j) => node.setAttribute("d", steps.at(-1)[1][j] === 0 && steps.every(([, code]) => code[j] === 0) ? "" : path(steps.map(([at, code]) => [at, code[j]]), left)));
      const bright = signal.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-9);
      images.patch.paint(signal.map((value) => value / bright));
      last = undefined;
      drawn = k;
    }
    const near = steps.findLast(([at]) => at >= ratio * 0.999);
    const found = solve(problem, signal, ratio * top, last ?? near?.[1]);
    last = found.code;
    const bright = signal.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-9);
    const rebuilt = reconstruct(problem, found.code);
    images.reconstruction.paint(rebuilt.map((value) => value / bright));
    images.residual.paint(rebuilt.map((value, i) => (signal[i] - value) / bright));
    bars.forEach((node, j) => {
      node.setAttribute("d", found.code[j] === 0 ? "" : `M${right.X(j).toFixed(2)} ${right.Y(0).toFixed(2)}V${right.Y(found.code[j]).toFixed(3)}`);
    });
    const active = found.code.reduce((count, value) => count + (value !== 0), 0);
    const whole = signal.reduce((sum, value) => sum + value * value, 0);
    const text = sentence(ratio, active, problem.atoms, found.l1, found.energy / whole);
    handle.setAttribute("transform", `translate(${left.X(ratio)} 0)`);
    handle.setAttribute("aria-valuenow", ratio);
    handle.setAttribute("aria-valuetext", text);
    picked.set(String(k));
    said.textContent = text;
  }
  model.on("change", draw);
  draw();
  return () => {
    listeners.abort();
    model.off("change", draw);
  };
}

export default { render };
