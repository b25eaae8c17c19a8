// Widget of "Matching pursuit": choose a patch of a photograph, step through MP or OMP in cosine atoms.
// The arithmetic is exported so that it can be tested without a page.
import { html, svg, fixed, clamp, floats, widgetRoot, controls, slider, choice, button, readout, plot, path, pixels } from "./common.js";

const SIDE = 8;
const FREQUENCIES = 11;
const STEPS = 16;

/** Cosine atoms of a side × side patch, flattened row by row: atom i · frequencies + j, of unit norm. */
export function cosineAtoms(side, frequencies) {
  const waves = Array.from({ length: frequencies }, (_, f) => {
    const wave = Array.from({ length: side }, (__, n) => Math.cos((Math.PI / frequencies) * f * (n + 0.5)));
    const mean = f ? wave.reduce((sum, v) => sum + v, 0) / side : 0;
    const norm = Math.hypot(...wave.map((v) => v - mean));
    return wave.map((v) => (v - mean) / norm);
  });
  return waves.flatMap((down) => waves.map((across) => Float64Array.from(down.flatMap((v) => across.map((w) => v * w)))));
}

export const dot = (a, b) => a.reduce((sum, v, k) => sum + v * b[k], 0);

/** The patch whose upper left pixel is (row, column): {mean, signal}, the signal being the patch less its mean. */
export function cutPatch(photo, width, row, column, side) {
  const values = Float64Array.from({ length: side * side }, (_, k) => photo[(row + Math.floor(k / side)) * width + column + (k % side)]);
  const mean = values.reduce((sum, v) => sum + v, 0) / values.length;
  return { mean, signal: values.map((v) => v - mean) };
}

/**
 * The states of a pursuit, from nothing chosen to `steps` atoms:
 * {winner, chosen, coefficients, residual, norm, correlations}. `winner` is the atom that this step chose (−1 at
 * first), `chosen` the different atoms in order, `correlations` those that the next choice will be made from.
 * Ends early when the residual correlates with no atom beyond rounding.
 */
export function pursue(signal, atoms, method, steps) {
  const start = Math.sqrt(dot(signal, signal));
  const look = (state) => ({ ...state, norm: Math.sqrt(dot(state.residual, state.residual)), correlations: atoms.map((atom) => dot(atom, state.residual)) });
  const states = [look({ winner: -1, chosen: [], coefficients: [], residual: signal })];
  const directions = []; // OMP: orthonormal q = Σ recipe · chosen atom
  for (let step = 0; step < steps; step++) {
    const { chosen, coefficients, residual, correlations } = states[step];
    const allowed = (k) => method === "mp" || !chosen.includes(k);
    let winner = -1;
    correlations.forEach((c, k) => {
      if (allowed(k) && (winner < 0 || Math.abs(c) > Math.abs(correlations[winner]))) winner = k;
    });
    if (winner < 0 || Math.abs(correlations[winner]) <= 1e-13 * start) break;
    if (method === "mp") {
      const place = chosen.includes(winner) ? chosen.indexOf(winner) : chosen.length;
      const next = [...coefficients];
      next[place] = (next[place] ?? 0) + correlations[winner];
      const left = residual.map((v, k) => v - correlations[winner] * atoms[winner][k]);
      states.push(look({ winner, chosen: place < chosen.length ? chosen : [...chosen, winner], coefficients: next, residual: left }));
      continue;
    }
    // Gram and Schmidt, twice for the sake of rounding; `recipe` says how q is mixed from the atoms.
    let q = atoms[winner];
    let recipe = [...chosen.map(() => 0), 1];
    for (let pass = 0; pass < 2; pass++) {
      for (const known of directions) {
        const share = dot(q, known.q);
        q = q.map((v, k) => v - share * known.q[k]);
        recipe = recipe.map((v, k) => v - share * (known.recipe[k] ?? 0));
      }
    }
    const length = Math.sqrt(dot(q, q));
    if (length < 1e-10) break;
    q = q.map((v) => v / length);
    recipe = recipe.map((v) => v / length);
    directions.push({ q, recipe });
    const z = dot(residual, q);
    states.push(look({
      winner,
      chosen: [...chosen, winner],
      coefficients: recipe.map((v, k) => (coefficients[k] ?? 0) + z * v),
      residual: residual.map((v, k) => v - z * q[k]),
    }));
  }
  return states;
}

/** The atom that the next step will choose, or −1 at the end. */
export function nextWinner(states, step) {
  return step + 1 < states.length ? states[step + 1].winner : -1;
}

/** How many steps chose an atom that had been chosen before. */
export const repeats = (states, step) => step - states[step].chosen.length;

/** Vertical and horizontal frequency of an atom, as its name. */
export const atomName = (atom) => `(${Math.floor(atom / FREQUENCIES)}, ${atom % FREQUENCIES})`;

export function sentence(states, step, method) {
  const { norm, winner } = states[step];
  if (states[0].norm === 0) return "A perfectly flat patch: its mean says it all, and there is nothing to choose.";
  const share = fixed((100 * norm * norm) / states[0].norm ** 2, 1);
  const length = `residual ${fixed(norm, 4)}, ${share} % of the energy`;
  if (step === 0) return `Nothing chosen yet: ${length}.`;
  const again = states[step - 1].chosen.includes(winner) ? " again" : "";
  const count = `${step} step${step > 1 ? "s" : ""} of ${method.toUpperCase()}`;
  return `${count}, the last took atom ${atomName(winner)}${again}: ${length}.`;
}

function render({ model, el }) {
  const listeners = new AbortController();
  const on = (node, type, act) => node.addEventListener(type, act, { signal: listeners.signal });
  const [height, width] = [model.get("height"), model.get("width")];
  const photo = floats(model.get("pixels"));
  const atoms = cosineAtoms(SIDE, FREQUENCIES);
  const set = (values) => {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
  };
  const root = widgetRoot(el, "sb-pursuit", "Matching pursuit, step by step");

  // The photograph with its frame, and the controls beside it.
  const head = html(root, "div", { class: "sb-pursuit-head" });
  const view = pixels(head, { width, height, label: "Photograph" , caption: "Drag the frame, or move it with the arrow keys (Shift: 8 pixels)." });
  view.paint(photo);
  const stage = html(view.figure, "div", { class: "sb-pursuit-stage" });
  view.figure.prepend(stage);
  stage.append(view.canvas);
  const frame = html(stage, "div", { class: "sb-pursuit-frame", role: "button", tabindex: 0, "aria-roledescription": "movable frame" });
  frame.style.width = `${(100 * SIDE) / width}%`;
  frame.style.height = `${(100 * SIDE) / height}%`;

  const side = html(head, "div", { class: "sb-pursuit-side" });
  const bar = controls(side);
  const method = choice(bar, { legend: "Pursuit", options: { omp: "orthogonal", mp: "plain" }, value: model.get("method"), onChange: (value) => set({ method: value }) });
  const stepper = slider(bar, { label: "Step", min: 0, max: STEPS, step: 1, value: model.get("step"), onInput: (value) => goTo(value) });
  const pair = html(bar, "span", { class: "sb-pursuit-pair" });
  const back = button(pair, "◀", () => goTo(step() - 1));
  const forth = button(pair, "▶", () => goTo(step() + 1));
  back.setAttribute("aria-label", "Step back");
  forth.setAttribute("aria-label", "Step forward");
  const said = readout(side);
  const tiles = html(side, "div", { class: "sb-pursuit-tiles" });
  const tile = (caption, label) => pixels(tiles, { width: SIDE, height: SIDE, caption, label });
  const shown = {
    patch: tile("patch", "The chosen patch; its mean is the middle grey"),
    rebuilt: tile("rebuilt", "The reconstruction, in the greys of the patch"),
    residual: tile("residual", "The residual, scaled for itself; zero is the middle grey"),
    next: tile("next", "The atom that wins next"),
  };

  const strip = html(root, "div", { class: "sb-pursuit-strip", role: "list", "aria-label": "Chosen atoms and their coefficients" });

  const panels = html(root, "div", { class: "sb-panels" });
  const corr = plot(panels, { caption: "Cosine with the residual", x: { low: -1, high: atoms.length, ticks: [0, 22, 44, 66, 88, 110], label: "atom" }, y: { low: -1, high: 1, ticks: [-1, -0.5, 0, 0.5, 1], label: "marks below: chosen" }, height: 230 });
  const bars = svg(corr.curves, "path", { class: "sb-pursuit-bars" });
  const past = svg(corr.curves, "path", { class: "sb-pursuit-past" });
  const ring = svg(corr.over, "circle", { class: "sb-pursuit-ring", r: 7 });
  const fall = plot(panels, { caption: "Energy left, in per cent", x: { low: 0, high: STEPS, ticks: [0, 4, 8, 12, 16], label: "step" }, y: { low: 0.01, high: 100, ticks: [0.01, 0.1, 1, 10, 100], label: "", log: true }, height: 230 });
  const curve = { omp: svg(fall.curves, "path", { class: "sb-curve sb-c1" }), mp: svg(fall.curves, "path", { class: "sb-curve sb-c2" }) };
  const dotMark = svg(fall.over, "circle", { class: "sb-dot", r: 6 });
  const names = {};
  for (const [key, text] of [["omp", "orthogonal"], ["mp", "plain"]]) names[key] = svg(fall.over, "text", { class: `sb-pursuit-${key}`, "text-anchor": "end" }, text);

  let patch = null;
  let runs = null;
  const states = () => runs[model.get("method")];
  const step = () => Math.min(model.get("step"), states().length - 1);
  const goTo = (value) => set({ step: clamp(value, 0, states().length - 1) });
  const place = (row, column) => set({ row: clamp(Math.round(row), 0, height - SIDE), column: clamp(Math.round(column), 0, width - SIDE) });

  on(frame, "keydown", (event) => {
    const far = event.shiftKey ? SIDE : 1;
    const moves = { ArrowUp: [-far, 0], ArrowDown: [far, 0], ArrowLeft: [0, -far], ArrowRight: [0, far] };
    if (!(event.key in moves)) return;
    const [down, right] = moves[event.key];
    place(model.get("row") + down, model.get("column") + right);
    event.preventDefault();
  });
  let grip = null; // where in the frame the pointer holds it, in pixels of the photograph
  const where = (event) => {
    const box = view.canvas.getBoundingClientRect();
    return [((event.clientY - box.top) * height) / box.height, ((event.clientX - box.left) * width) / box.width];
  };
  on(stage, "pointerdown", (event) => {
    const [y, x] = where(event);
    const [row, column] = [model.get("row"), model.get("column")];
    const inside = y >= row && y < row + SIDE && x >= column && x < column + SIDE;
    grip = inside ? [y - row, x - column] : [SIDE / 2, SIDE / 2];
    stage.setPointerCapture(event.pointerId);
    frame.focus({ preventScroll: true });
    place(y - grip[0], x - grip[1]);
    event.preventDefault();
  });
  on(stage, "pointermove", (event) => {
    if (grip === null) return;
    const [y, x] = where(event);
    place(y - grip[0], x - grip[1]);
  });
  for (const type of ["pointerup", "pointercancel"]) on(stage, type, () => (grip = null));

  const peak = (values) => values.reduce((top, v) => Math.max(top, Math.abs(v)), 0) || 1;
  const paintAround = (canvas, values) => canvas.paint(values, -peak(values), peak(values));

  function choosePatch() {
    patch = cutPatch(photo, width, model.get("row"), model.get("column"), SIDE);
    runs = { mp: pursue(patch.signal, atoms, "mp", STEPS), omp: pursue(patch.signal, atoms, "omp", STEPS) };
    const [row, column] = [model.get("row"), model.get("column")];
    frame.style.top = `${(100 * row) / height}%`;
    frame.style.left = `${(100 * column) / width}%`;
    frame.setAttribute("aria-label", `Patch at row ${row}, column ${column}; arrow keys move it`);
    paintAround(shown.patch, patch.signal);
    draw();
  }

  function drawStrip({ chosen, coefficients, winner }) {
    strip.replaceChildren();
    chosen.forEach((atom, k) => {
      const item = html(strip, "div", { role: "listitem", class: atom === winner ? "sb-pursuit-latest" : "", "data-atom": atom });
      const image = pixels(item, { width: SIDE, height: SIDE, label: `Atom ${atomName(atom)}`, caption: fixed(coefficients[k], 3) });
      paintAround(image, atoms[atom]);
    });
    if (!chosen.length) html(strip, "p", {}, "The chosen atoms will stand here, each with its coefficient.");
  }

  function draw() {
    const all = states();
    const now = step();
    const state = all[now];
    const scale = all[0].norm || 1;
    const length = state.norm > 1e-13 * scale ? state.norm : Infinity; // of nothing, no cosine
    const next = nextWinner(all, now);
    method.set(model.get("method"));
    stepper.set(now);
    back.disabled = now === 0;
    forth.disabled = now >= all.length - 1;
    shown.rebuilt.paint(patch.signal.map((v, k) => v - state.residual[k]), -peak(patch.signal), peak(patch.signal));
    paintAround(shown.residual, state.residual);
    if (next >= 0) paintAround(shown.next, atoms[next]);
    shown.next.figure.style.visibility = next >= 0 ? "" : "hidden";
    drawStrip(state);

    const base = corr.Y(0).toFixed(2);
    const line = (k) => `M${corr.X(k).toFixed(2)} ${base}V${corr.Y(state.correlations[k] / length).toFixed(2)}`;
    bars.setAttribute("d", atoms.map((_, k) => line(k)).join(""));
    past.setAttribute("d", state.chosen.map((k) => `M${corr.X(k).toFixed(2)} ${corr.inner.bottom}v-7`).join(""));
    ring.style.display = next >= 0 ? "" : "none";
    if (next >= 0) {
      ring.setAttribute("cx", corr.X(next));
      ring.setAttribute("cy", corr.Y(state.correlations[next] / length));
    }
    const share = (s) => Math.max(0.001, 100 * (s.norm / scale) ** 2);
    for (const key of ["omp", "mp"]) {
      const points = runs[key].map((s, k) => [k, share(s)]);
      curve[key].setAttribute("d", path(points, fall));
      const [x, y] = points[points.length - 1];
      names[key].setAttribute("x", fall.X(x));
      names[key].setAttribute("y", clamp(fall.Y(y), fall.inner.top + 8, fall.inner.bottom - 4) + (key === "omp" ? 16 : -10));
    }
    dotMark.setAttribute("cx", fall.X(now));
    dotMark.setAttribute("cy", Math.min(fall.Y(share(state)), fall.inner.bottom));
    said.textContent = sentence(all, now, model.get("method"));
  }

  for (const name of ["row", "column"]) model.on(`change:${name}`, choosePatch);
  for (const name of ["method", "step"]) model.on(`change:${name}`, draw);
  choosePatch();
  return () => {
    listeners.abort();
    model.off(null, choosePatch);
    model.off(null, draw);
  };
}

export default { render };
