// Widget of "Sparse activation functions": draw a signal, choose an activation function, see what it keeps.
// The arithmetic is exported, so that it can be tested without a page.
import { button, choice, clamp, controls, fixed, generator, html, normal, path, plot, readout, slider, svg, widgetRoot } from "./common.js";

const all = (s) => s.map((_, t) => t);

/** The given places in the order of the book: by magnitude, and of equals the first. */
const ordered = (s, places) => [...places].sort((a, b) => Math.abs(s[b]) - Math.abs(s[a]) || a - b);

/** The k places of largest magnitude. */
export const largest = (s, k) => ordered(s, all(s)).slice(0, k);

/** The place of largest magnitude of every whole cell of m samples. */
export function largestOfCells(s, m) {
  const cells = Array.from({ length: Math.floor(s.length / m) }, (_, cell) => all(s).slice(cell * m, (cell + 1) * m));
  return cells.map((cell) => ordered(s, cell)[0]);
}

/** Peaks that are positive and valleys that are not; a missing neighbour counts as equal. */
export function candidates(s) {
  const rises = (t) => t > 0 && t < s.length && s[t] > s[t - 1];
  return all(s).filter((t) => rises(t) === s[t] > 0 && rises(t + 1) !== s[t] > 0);
}

/** The distance within which a greater extremum silences others. */
export const minimumDistance = (m, tolerance) => clamp(m - tolerance, 1, 999);

/** Greedily by descending magnitude: whoever is kept removes candidates within the distance. */
export function extremaPlaces(s, distance) {
  const kept = [];
  for (const t of ordered(s, candidates(s))) if (kept.every((u) => Math.abs(t - u) > distance)) kept.push(t);
  return kept;
}

const relu = (s) => s.map((v) => Math.max(v, 0));
const keep = (s, places) => {
  const chosen = new Set(places);
  return s.map((v, t) => (chosen.has(t) ? v : 0));
};

/** Every activation function: what it keeps of s, for kernel size m and border tolerance b. */
export const ACTIVATIONS = {
  identity: { name: "identity", apply: (s) => [...s] },
  relu: { name: "ReLU", apply: relu },
  top_k_absolutes: { name: "top-k absolutes", apply: (s, m) => keep(s, largest(s, Math.floor(s.length / m))) },
  extrema_pool_indices: { name: "extrema-pool indices", cells: true, apply: (s, m) => keep(s, largestOfCells(s, m)) },
  extrema: { name: "extrema", reach: minimumDistance, apply: (s, m, b) => keep(s, extremaPlaces(s, minimumDistance(m, b))) },
  max_activations: { name: "max-activations", apply: (s, m) => keep(relu(s), largest(relu(s), Math.floor(s.length / m))) },
  max_pool_indices: { name: "max-pool indices", cells: true, apply: (s, m) => keep(relu(s), largestOfCells(relu(s), m)) },
  peaks: { name: "peaks", reach: (m) => m, apply: (s, m) => keep(relu(s), extremaPlaces(relu(s), m)) },
};

/** The places of what is not zero. */
export const active = (kept) => all(kept).filter((t) => kept[t] !== 0);

/** Numbers of a description per sample: a kernel of m weights, two numbers for every kept sample. */
export const inverseCompression = (kept, m, length) => (m + 2 * kept) / length;

/** Values lie on a grid, so that equal ones occur; no negative zeros. */
export const STEP = 0.05;
export const onGrid = (v) => clamp(Math.round(v / STEP), -20, 20) / 20 + 0;

const bell = (t, centre, width) => Math.exp(-(((t - centre) / width) ** 2) / 2);
const make = (length, value) => Array.from({ length }, (_, t) => onGrid(value(t)));

/** Signals to begin with. */
export const PRESETS = {
  heartbeats: (n) =>
    make(n, (t) => {
      const beat = [14, 45, 74, 104].map((c, k) => [1, 0.6, 0.9, 0.75][k] * (bell(t, c, 1.3) - 0.45 * bell(t, c + 4, 1.4) + 0.3 * bell(t, c + 12, 3) + 0.15 * bell(t, c - 8, 2)));
      return beat.reduce((a, b) => a + b);
    }),
  sines: (n) => make(n, (t) => 0.6 * Math.sin(t / 3.1) + 0.4 * Math.sin(t / 8)),
  noise: (n) => {
    const uniform = generator(7);
    return make(n, () => 0.4 * normal(uniform));
  },
  plateaus: (n) => make(n, (t) => [0, 0.5, 0.5, 0.8, 0.2, -0.4, -0.4, 0, 0.6, -0.7][Math.floor(t / 6) % 10]),
  ringing: (n) => make(n, (t) => Math.exp(-t / 45) * Math.cos(t / 1.9)),
};

/** What a stroke from one sample to another does: a straight line between the two. */
export function stroke(values, from, to) {
  const next = [...values];
  const [[t0, v0], [t1, v1]] = from[0] <= to[0] ? [from, to] : [to, from];
  for (let t = t0; t <= t1; t++) next[t] = onGrid(t1 === t0 ? to[1] : v0 + ((v1 - v0) * (t - t0)) / (t1 - t0));
  return next;
}

/** What the picture says, in words. */
export function sentence(key, values, m, tolerance) {
  const kept = active(ACTIVATIONS[key].apply(values, m, tolerance)).length;
  const n = values.length;
  return `${ACTIVATIONS[key].name}, m = ${m}: ${kept} of ${n} samples kept. ${m} + 2 · ${kept} numbers, CR⁻¹ = ${fixed(inverseCompression(kept, m, n))}.`;
}

function render({ model, el }) {
  const listeners = new AbortController();
  const on = (node, type, act) => node.addEventListener(type, act, { signal: listeners.signal });
  const set = (changes) => {
    for (const [name, value] of Object.entries(changes)) model.set(name, value);
    model.save_changes();
  };
  const root = widgetRoot(el, "sb-activations", "What sparse activation functions keep of a signal");
  const length = model.get("values").length;
  const most = Math.min(40, length);

  const signals = controls(root);
  html(signals, "span", { class: "sb-activations-lead" }, "Signal");
  for (const [name, values] of Object.entries(PRESETS)) button(signals, name, () => set({ values: values(length) }));
  button(signals, "silence", () => set({ values: Array(length).fill(0) }));
  const functions = choice(root, {
    legend: "Keep",
    options: Object.fromEntries(Object.entries(ACTIVATIONS).map(([key, { name }]) => [key, name])),
    value: model.get("activation"),
    onChange: (key) => set({ activation: key }),
  });
  const row = controls(root);
  const size = slider(row, { label: "Kernel size m", min: 1, max: most, step: 1, value: 1, onInput: (v) => set({ kernel_size: v }) });
  const tolerance = slider(row, { label: "Border tolerance", min: 0, max: 10, step: 1, value: 0, onInput: (v) => set({ border_tolerance: v }) });
  const says = readout(root);

  const panels = html(root, "div", { class: "sb-panels" });
  const picture = plot(panels, {
    caption: "Draw here, or use the arrow keys",
    x: { low: 0, high: length, ticks: [0, 1, 2, 3, 4].map((k) => Math.round((k * length) / 4)), label: "sample" },
    y: { low: -1.1, high: 1.1, ticks: [-1, -0.5, 0, 0.5, 1], label: "" },
    height: 260,
  });
  const sheet = svg(picture.svg, "rect", {
    class: "sb-activations-sheet", x: picture.inner.left, y: 0, width: picture.inner.right - picture.inner.left, height: 232,
  });
  const guides = svg(picture.curves, "path", { class: "sb-activations-guides" });
  svg(picture.curves, "path", { class: "sb-activations-zero", d: path([[0, 0], [length, 0]], picture) });
  const curve = svg(picture.curves, "path", { class: "sb-curve sb-activations-signal" });
  const stems = svg(picture.curves, "path", { class: "sb-curve sb-c1 sb-activations-stems" });
  const dots = svg(picture.over, "g");
  const handle = svg(picture.svg, "g", { class: "sb-activations-cursor", role: "slider", tabindex: 0, "aria-label": "Cursor: left and right choose a sample, up and down move it", "aria-valuemin": -1, "aria-valuemax": 1, "aria-orientation": "vertical" });
  svg(handle, "line", { x1: 0, x2: 0, y1: picture.inner.top, y2: picture.inner.bottom });
  const ring = svg(handle, "circle", { r: 6 });

  const side = html(panels, "div", { class: "sb-activations-list sb-table" });
  const list = html(side, "table");
  html(list, "caption", {}, "All functions at this kernel size");
  const head = html(html(list, "thead"), "tr");
  for (const text of ["", "kept", "CR⁻¹"]) html(head, "th", { scope: "col" }, text);
  const body = html(list, "tbody");
  const lines = Object.entries(ACTIVATIONS).map(([key, { name }]) => {
    const line = html(body, "tr", { "data-activation": key });
    html(line, "th", { scope: "row" }, name);
    return { key, line, count: html(line, "td"), ratio: html(line, "td") };
  });

  // The pointer draws; the keys move one sample at a time.
  let cursor = 0;
  let held = null; // the last [sample, value] of the stroke
  const where = (event) => {
    const box = picture.svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) * 360) / box.width;
    const y = ((event.clientY - box.top) * 260) / box.height;
    return [clamp(Math.floor(picture.unX(x)), 0, length - 1), clamp(picture.unY(y), -1, 1)];
  };
  const draws = (from, to) => {
    cursor = to[0];
    set({ values: stroke(model.get("values"), from, to) });
    schedule();
  };
  on(sheet, "pointerdown", (event) => {
    held = where(event);
    sheet.setPointerCapture(event.pointerId);
    handle.focus({ preventScroll: true });
    draws(held, held);
    event.preventDefault();
  });
  on(sheet, "pointermove", (event) => {
    if (!held) return;
    const next = where(event);
    draws(held, next);
    held = next;
  });
  for (const type of ["pointerup", "pointercancel"]) on(sheet, type, () => (held = null));
  on(handle, "keydown", (event) => {
    const along = { ArrowLeft: -1, ArrowRight: 1, PageUp: 10, PageDown: -10, Home: -length, End: length }[event.key];
    const up = { ArrowUp: STEP, ArrowDown: -STEP }[event.key];
    if (along === undefined && up === undefined) return;
    event.preventDefault();
    if (along !== undefined) {
      cursor = clamp(cursor + along, 0, length - 1);
      schedule();
      return;
    }
    const values = [...model.get("values")];
    values[cursor] = onGrid(values[cursor] + up * (event.shiftKey ? 5 : 1));
    set({ values });
  });

  function draw() {
    const [values, key, m, b] = ["values", "activation", "kernel_size", "border_tolerance"].map((name) => model.get(name));
    const rule = ACTIVATIONS[key];
    const kept = rule.apply(values, m, b);
    const places = active(kept);
    const middle = (t) => t + 0.5;
    curve.setAttribute("d", path(values.map((v, t) => [middle(t), v]), picture));
    stems.setAttribute("d", places.map((t) => path([[middle(t), 0], [middle(t), kept[t]]], picture)).join(""));
    dots.replaceChildren();
    values.forEach((v, t) => {
      const chosen = kept[t] !== 0;
      const look = { class: chosen ? "sb-activations-kept" : "sb-activations-dot", r: chosen ? 3.2 : 1.3 };
      svg(dots, "circle", { ...look, cx: picture.X(middle(t)).toFixed(2), cy: picture.Y(v).toFixed(2), "data-value": v, "data-kept": kept[t] });
    });
    const borders = rule.cells ? Array.from({ length: Math.floor(length / m) + 1 }, (_, cell) => path([[cell * m, -1.1], [cell * m, 1.1]], picture)) : [];
    const reach = rule.reach?.(m, b);
    const spans = rule.reach ? places.map((t, k) => path([[middle(t) - reach, -1.06 + 0.05 * (k % 3)], [middle(t) + reach, -1.06 + 0.05 * (k % 3)]], picture)) : [];
    guides.setAttribute("d", [...borders, ...spans].join(""));
    handle.setAttribute("transform", `translate(${picture.X(middle(cursor)).toFixed(2)} 0)`);
    ring.setAttribute("cy", picture.Y(values[cursor]).toFixed(2));
    handle.setAttribute("aria-valuenow", values[cursor]);
    handle.setAttribute("aria-valuetext", `sample ${cursor}: ${fixed(values[cursor])}, ${kept[cursor] !== 0 ? "kept" : "not kept"}`);
    for (const { key: name, line, count, ratio } of lines) {
      const number = active(ACTIVATIONS[name].apply(values, m, b)).length;
      count.textContent = number;
      ratio.textContent = fixed(inverseCompression(number, m, length));
      line.classList.toggle("sb-activations-chosen", name === key);
    }
    functions.set(key);
    size.set(m);
    tolerance.set(b);
    tolerance.input.disabled = key !== "extrema";
    const text = sentence(key, values, m, b);
    if (says.textContent !== text) says.textContent = text;
  }
  let waiting = false;
  function schedule() {
    if (waiting) return;
    waiting = true;
    queueMicrotask(() => {
      waiting = false;
      if (!listeners.signal.aborted) draw();
    });
  }
  const watched = "change:values change:activation change:kernel_size change:border_tolerance";
  model.on(watched, schedule);
  draw();
  return () => {
    listeners.abort();
    model.off(watched, schedule);
  };
}

export default { render };
