// Widget of "Measures of sparsity": drag bars, move their wealth about, watch every measure respond.
// The arithmetic is exported, so that it can be tested without a page.
import { button, clamp, controls, fixed, html, readout, svg, widgetRoot } from "./common.js";

const sum = (a) => a.reduce((total, v) => total + v, 0);
const largest = (a) => Math.max(...a);

/** Squared ratio of the 1-norm and the 2-norm; silence counts as constant. */
function squaredRatio(a) {
  const top = largest(a);
  if (top === 0) return a.length;
  const unit = a.map((v) => v / top);
  return sum(unit) ** 2 / sum(unit.map((v) => v * v));
}

function giniIndex(a) {
  const total = sum(a);
  if (total === 0) return 0;
  const n = a.length;
  return sum([...a].sort((x, y) => x - y).map((v, k) => (2 * k + 1 - n) * v)) / (n * total);
}

function excessKurtosis(a) {
  if (largest(a) === Math.min(...a)) return -2;
  const n = a.length;
  const mean = sum(a) / n;
  const second = sum(a.map((v) => (v - mean) ** 2)) / n;
  return sum(a.map((v) => (v - mean) ** 4)) / n / second ** 2 - 3;
}

const squeezed = (cost) => 8 / (8 + cost);

/** Every measure: `value` of non-negative bars; `sign` is −1 where less means sparser; `gauge` maps values to 0…1, sparser to the right. */
export const MEASURES = [
  { key: "active_units", name: "active units", sign: -1, value: (a) => a.filter((v) => v > 0).length, gauge: squeezed },
  { key: "activity_ratio", name: "activity ratio", sign: -1, value: (a) => a.filter((v) => v > 0).length / a.length, gauge: (v) => 1 - v },
  { key: "lp_norm", name: "ℓ½ norm", sign: -1, value: (a) => sum(a.map(Math.sqrt)) ** 2, gauge: (v) => squeezed(v / 8) },
  { key: "l1_norm", name: "ℓ₁ norm", sign: -1, value: sum, gauge: squeezed },
  { key: "log_penalty", name: "Σ log(1 + a²)", sign: -1, value: (a) => sum(a.map((v) => Math.log1p(v * v))), gauge: squeezed },
  { key: "exponential_penalty", name: "Σ −exp(−a²)", sign: -1, value: (a) => -sum(a.map((v) => Math.exp(-v * v))), gauge: (v) => -v / (4 - v) },
  { key: "hoyer", name: "Hoyer", sign: 1, value: (a) => (Math.sqrt(a.length) - Math.sqrt(squaredRatio(a))) / (Math.sqrt(a.length) - 1), gauge: (v) => v },
  { key: "treves_rolls_activity", name: "Treves–Rolls", sign: -1, value: (a) => squaredRatio(a) / a.length, gauge: (v) => 1 - v },
  { key: "vinje_gallant", name: "Vinje–Gallant", sign: 1, value: (a) => (a.length - squaredRatio(a)) / (a.length - 1), gauge: (v) => v },
  { key: "gini", name: "Gini", sign: 1, value: giniIndex, gauge: (v) => v },
  { key: "kurtosis", name: "kurtosis", sign: 1, value: excessKurtosis, gauge: (v) => (v + 2) / (v + 7) },
];

const place = (a, position, v) => a.map((old, k) => (k === position ? v : old));

function takeFromTheRich(a) {
  const [rich, poor] = [a.indexOf(largest(a)), a.indexOf(Math.min(...a))];
  const gift = (a[rich] - a[poor]) / 4;
  return place(place(a, rich, a[rich] - gift), poor, a[poor] + gift);
}

const HIGHEST = 50;
const MOST = 24;

/** The six moves: what they do, when they can be made, and the sign of the change that the criterion asks for. */
export const MOVES = {
  robin: { label: "Rich gives to poor", criterion: "D1, Robin Hood", wanted: -1, act: takeFromTheRich, open: (a) => largest(a) > Math.min(...a) },
  scale: { label: "Double all", criterion: "D2, scaling", wanted: 0, act: (a) => a.map((v) => 2 * v), open: (a) => largest(a) > 0 && 2 * largest(a) <= HIGHEST },
  tide: { label: "Add ½ to all", criterion: "D3, rising tide", wanted: -1, act: (a) => a.map((v) => v + 0.5), open: (a) => largest(a) > Math.min(...a) && largest(a) + 0.5 <= HIGHEST },
  clone: { label: "Clone all", criterion: "D4, cloning", wanted: 0, act: (a) => [...a, ...a], open: (a) => largest(a) > 0 && 2 * a.length <= MOST },
  gates: { label: "Raise the richest", criterion: "P1, Bill Gates", wanted: 1, act: (a) => place(a, a.indexOf(largest(a)), largest(a) + 2), open: (a) => largest(a) > 0 && largest(a) + 2 <= HIGHEST },
  baby: { label: "Add a zero", criterion: "P2, babies", wanted: 1, act: (a) => [...a, 0], open: (a) => largest(a) > 0 && a.length < MOST },
};

export const PRESETS = {
  "one hot": [0, 0, 0, 4, 0, 0, 0, 0],
  "two equal": [0, 3, 0, 0, 0, 0, 3, 0],
  "Laplace-like": [1, 0.2, 2.9, 0.45, 0.05, 1.55, 0.7, 0.3],
  uniform: [2, 2, 2, 2, 2, 2, 2, 2],
};

/** −1, 0 or 1: whether a measure calls `after` less sparse than `before`, as sparse, or sparser. */
export function response(measure, before, after) {
  const [old, next] = [measure.value(before), measure.value(after)];
  const size = Math.max(Math.abs(old), Math.abs(next));
  return Math.abs(next - old) <= 1e-9 * size + 1e-13 ? 0 : measure.sign * Math.sign(next - old);
}

/** The highest value that the drawing shows: a round number with room for the bars. */
export const ceiling = (a) => [5, 10, 20, HIGHEST].find((top) => top >= largest(a)) ?? HIGHEST;

/** One sentence about the last change. */
export function story(before, after, move) {
  const answers = MEASURES.map((measure) => response(measure, before, after));
  if (move === "") {
    const count = (sign) => answers.filter((answer) => answer === sign).length;
    if (count(0) === answers.length) return `${after.length} bars. Drag one, or make a move.`;
    return `${count(1)} measures say sparser, ${count(-1)} less sparse, ${count(0)} see no change.`;
  }
  const { criterion, wanted } = MOVES[move];
  const wish = { "-1": "should fall", 0: "should stay", 1: "should rise" }[wanted];
  const rebels = MEASURES.filter((_, k) => answers[k] !== wanted).map(({ name }) => name);
  const verdict = rebels.length ? `${MEASURES.length - rebels.length} of ${MEASURES.length} obey; not ${rebels.join(", ")}.` : `all ${MEASURES.length} obey.`;
  return `${criterion}: sparsity ${wish}, and ${verdict}`;
}

const BOX = { width: 360, height: 240, left: 30, right: 6, top: 12, bottom: 10 };
const SIGNS = { "-1": "▼", 0: "=", 1: "▲" };
const WORDS = { "-1": "less sparse", 0: "no change", 1: "sparser" };

function render({ model, el }) {
  const listeners = new AbortController();
  const on = (node, type, act) => node.addEventListener(type, act, { signal: listeners.signal });
  const root = widgetRoot(el, "sb-bars", "How measures of sparsity respond to moves");

  const presets = controls(root);
  html(presets, "span", { class: "sb-bars-lead" }, "Start from");
  for (const [name, values] of Object.entries(PRESETS)) button(presets, name, () => change([...values], [...values], ""));
  const row = controls(root);
  row.classList.add("sb-bars-moves");
  html(row, "span", { class: "sb-bars-lead" }, "Move");
  const moves = Object.entries(MOVES).map(([key, move]) => {
    const node = button(row, move.label, () => move.open(model.get("values")) && change(move.act(model.get("values")), model.get("values"), key));
    node.title = move.criterion;
    return [node, move];
  });
  const sentence = readout(root);

  const panels = html(root, "div", { class: "sb-panels" });
  const picture = html(panels, "figure", { class: "sb-panel" });
  html(picture, "figcaption", {}, "Drag the bars, or use the arrow keys");
  const drawing = svg(picture, "svg", { viewBox: `0 0 ${BOX.width} ${BOX.height}`, role: "group", "aria-label": "Bars" });
  const axis = svg(drawing, "g", { class: "sb-axes", "aria-hidden": "true" });
  const bars = svg(drawing, "g");

  const side = html(panels, "div", { class: "sb-bars-list sb-table" });
  const list = html(side, "table");
  html(list, "caption", {}, "A longer gauge means sparser");
  const head = html(html(list, "thead"), "tr");
  for (const text of ["measure", "value", "gauge", "change"]) html(head, "th", { scope: "col" }, text);
  const body = html(list, "tbody");
  const lines = MEASURES.map((measure) => {
    const line = html(body, "tr", { "data-measure": measure.key });
    html(line, "th", { scope: "row" }, measure.name);
    const value = html(line, "td", { class: "sb-bars-value" });
    const gauge = html(html(html(line, "td"), "div", { class: "sb-bars-gauge", "aria-hidden": "true" }), "div");
    return { measure, value, gauge, arrow: html(line, "td", { class: "sb-bars-arrow" }) };
  });

  function change(values, before, move) {
    model.set("before", [...before]);
    model.set("move", move);
    model.set("values", values);
    model.save_changes();
  }

  let top = ceiling(model.get("values"));
  let held = null; // {bar, before}: which bar is being dragged, and the bars as they were
  const floor = BOX.height - BOX.bottom;
  const Y = (v) => floor - (v / top) * (floor - BOX.top);
  const grain = () => top / 100;
  const rounded = (v) => clamp(Math.round(v / grain()) * grain(), 0, top);
  const pitch = (count) => (BOX.width - BOX.left - BOX.right) / count;

  function pull(event) {
    const box = drawing.getBoundingClientRect();
    const height = ((event.clientY - box.top) * BOX.height) / box.height;
    const v = rounded(((floor - height) / (floor - BOX.top)) * top);
    change(place(model.get("values"), held.bar, v), held.before, "");
  }
  function release() {
    held = null;
    schedule();
  }
  function addBar(index) {
    const handle = svg(bars, "g", { class: "sb-bars-bar", role: "slider", tabindex: 0, "aria-label": `Bar ${index + 1}`, "aria-orientation": "vertical" });
    const parts = ["sb-bars-hit", "sb-bars-body", "sb-bars-grip"].map((name) => svg(handle, "rect", { class: name }));
    on(handle, "pointerdown", (event) => {
      held = { bar: index, before: model.get("values") };
      handle.setPointerCapture(event.pointerId);
      handle.focus({ preventScroll: true });
      pull(event);
      event.preventDefault();
    });
    on(handle, "pointermove", (event) => held?.bar === index && pull(event));
    for (const type of ["pointerup", "pointercancel"]) on(handle, type, () => held && release());
    on(handle, "keydown", (event) => {
      const values = model.get("values");
      const small = event.shiftKey ? grain() : 5 * grain();
      const steps = { ArrowUp: small, ArrowRight: small, ArrowDown: -small, ArrowLeft: -small, PageUp: 20 * grain(), PageDown: -20 * grain() };
      let v = null;
      if (event.key in steps) v = clamp(values[index] + steps[event.key], 0, top);
      else if (event.key === "Home") v = 0;
      else if (event.key === "End") v = top;
      if (v === null) return;
      change(place(values, index, Math.round(v * 1e9) / 1e9), values, "");
      event.preventDefault();
    });
    return { handle, parts };
  }

  let drawn = [];
  function draw() {
    const [values, before, move] = ["values", "before", "move"].map((name) => model.get(name));
    if (!held) top = Math.max(ceiling(values), document.activeElement?.classList?.contains("sb-bars-bar") ? top : 0);
    axis.replaceChildren();
    svg(axis, "path", { d: `M${BOX.left} ${BOX.top}V${floor}H${BOX.width - BOX.right}` });
    for (const v of [0, top / 2, top]) {
      svg(axis, "path", { d: `M${BOX.left} ${Y(v)}h-4` });
      svg(axis, "text", { x: BOX.left - 7, y: Y(v) + 4, "text-anchor": "end" }, String(v));
    }
    while (drawn.length > values.length) drawn.pop().handle.remove();
    while (drawn.length < values.length) drawn.push(addBar(drawn.length));
    const width = pitch(values.length);
    drawn.forEach(({ handle, parts: [hit, block, grip] }, k) => {
      const [x, y] = [BOX.left + k * width, Y(values[k])];
      const place = (node, left, upper, wide, high) => Object.entries({ x: left, y: upper, width: wide, height: high }).forEach(([name, v]) => node.setAttribute(name, v.toFixed(2)));
      place(hit, x, 0, width, BOX.height);
      place(block, x + 0.14 * width, y, 0.72 * width, Math.max(0, floor - y));
      place(grip, x + 0.14 * width, y - 3, 0.72 * width, 6);
      for (const [name, v] of Object.entries({ min: 0, max: top, now: values[k], text: fixed(values[k]) })) handle.setAttribute(`aria-value${name}`, v);
    });
    for (const { measure, value, gauge, arrow } of lines) {
      const v = measure.value(values);
      const answer = response(measure, before, values);
      const rebels = move !== "" && answer !== MOVES[move].wanted;
      value.textContent = fixed(v, 3);
      gauge.style.width = `${(100 * clamp(measure.gauge(v), 0, 1)).toFixed(1)}%`;
      arrow.replaceChildren();
      arrow.parentNode.classList.toggle("sb-bars-rebel", rebels);
      if (move === "" && String(before) === String(values)) continue;
      html(arrow, "span", { "aria-hidden": "true" }, SIGNS[answer]);
      html(arrow, "span", rebels ? {} : { class: "sb-bars-hidden" }, rebels ? " disobeys" : WORDS[answer]);
    }
    for (const [node, { open }] of moves) node.setAttribute("aria-disabled", !open(values));
    const text = story(before, values, move);
    if (sentence.textContent !== text) sentence.textContent = text;
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
  model.on("change:values change:before change:move", schedule);
  draw();
  return () => {
    listeners.abort();
    model.off("change:values change:before change:move", schedule);
  };
}

export default { render };
