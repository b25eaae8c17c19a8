// Widget of "Matching pursuit": frame a patch of a photograph, and watch a greedy coder explain it atom by atom.
// A dictionary is a list of atoms of unit norm, each a Float64Array of side² pixels, row by row.
import { button, choice, clamp, controls, fixed, html, legend, path, pixels, plot, readout, slider, svg, widgetRoot } from "./common.js";

function inner(a, b) {
  let sum = 0;
  for (let k = 0; k < a.length; k++) sum += a[k] * b[k];
  return sum;
}
export const energy = (vector) => inner(vector, vector);

/** Cosine atoms of square patches; atom i·frequencies + j has vertical frequency i and horizontal frequency j. */
export function cosineDictionary(side, frequencies) {
  const waves = Array.from({ length: frequencies }, (_, i) => {
    const wave = Float64Array.from({ length: side }, (_, x) => Math.cos((Math.PI / frequencies) * i * (x + 0.5)));
    const mean = i ? wave.reduce((sum, value) => sum + value, 0) / side : 0;
    const centred = wave.map((value) => value - mean);
    const norm = Math.sqrt(energy(centred));
    return centred.map((value) => value / norm);
  });
  return waves.flatMap((down) => waves.map((across) =>
    Float64Array.from({ length: side * side }, (_, pixel) => down[Math.floor(pixel / side)] * across[pixel % side])));
}

export const correlate = (residual, dictionary) => Float64Array.from(dictionary, (atom) => inner(residual, atom));

/** The atom with the largest |correlation|. What differs by rounding alone is a tie, and the lowest index wins. */
export function strongest(correlations) {
  const most = correlations.reduce((top, value) => Math.max(top, Math.abs(value)), 0);
  return correlations.findIndex((value) => Math.abs(value) >= most * (1 - 1e-12));
}

/** The next atom, or −1 where nothing is left of the patch but rounding. */
export function nextAtom(correlations, patch) {
  const atom = strongest(correlations);
  return Math.abs(correlations[atom]) > 1e-10 * Math.sqrt(energy(patch)) ? atom : -1;
}

/** Choose, explain, look again: `explain(atom, residual, correlation)` returns the next {codes, residual}. */
function pursue(patch, dictionary, steps, explain) {
  const history = [];
  let residual = Float64Array.from(patch);
  while (history.length < steps) {
    const correlations = correlate(residual, dictionary);
    const atom = nextAtom(correlations, patch);
    if (atom < 0) break;
    const after = explain(atom, residual, correlations[atom]);
    residual = after.residual;
    history.push({ atom, correlations, ...after });
  }
  return history;
}

/**
 * Matching pursuit. Each step is {atom, codes, residual, correlations}: the chosen atom, codes and residual after it, and
 * the correlations that it won. Fewer steps than asked for where nothing is left.
 */
export function matchingPursuit(patch, dictionary, steps) {
  let codes = new Float64Array(dictionary.length);
  return pursue(patch, dictionary, steps, (atom, residual, correlation) => {
    codes = codes.slice();
    codes[atom] += correlation;
    return { codes, residual: residual.map((value, k) => value - correlation * dictionary[atom][k]) };
  });
}

/** Orthogonal matching pursuit, with the same answer: every atom is straightened (Gram and Schmidt, twice), then used. */
export function orthogonalMatchingPursuit(patch, dictionary, steps) {
  const [chosen, directions, upper, weights] = [[], [], [], []];
  return pursue(patch, dictionary, steps, (atom, residual) => {
    let straight = dictionary[atom];
    const column = new Float64Array(directions.length + 1);
    for (let pass = 0; pass < 2; pass++)
      directions.forEach((direction, k) => {
        const part = inner(direction, straight);
        column[k] += part;
        straight = straight.map((value, pixel) => value - part * direction[pixel]);
      });
    const norm = Math.sqrt(energy(straight));
    column[directions.length] = norm;
    straight = straight.map((value) => value / norm);
    const weight = inner(straight, residual);
    chosen.push(atom);
    directions.push(straight);
    upper.push(column);
    weights.push(weight);
    // The atoms are directions × upper triangle, so that the codes follow from the weights from the last one upwards.
    const codes = new Float64Array(dictionary.length);
    for (let k = chosen.length - 1; k >= 0; k--) {
      let rest = weights[k];
      for (let later = k + 1; later < chosen.length; later++) rest -= upper[later][k] * codes[chosen[later]];
      codes[chosen[k]] = rest / upper[k][k];
    }
    return { codes, residual: residual.map((value, pixel) => value - weight * straight[pixel]) };
  });
}

/** The share of the patch's energy that is left after 0, 1, 2… steps. */
export function sharesLeft(patch, history) {
  const whole = energy(patch);
  return [whole ? 1 : 0, ...history.map(({ residual }) => energy(residual) / whole)];
}

export const cut = (photograph, width, row, column, side) =>
  Float64Array.from({ length: side * side }, (_, k) => photograph[(row + Math.floor(k / side)) * width + column + (k % side)]);

/** Chosen atoms in the order of their first choice, each once. */
export const distinctAtoms = (history) => [...new Set(history.map(({ atom }) => atom))];

/** An explained share in percent, with as many digits as it takes to see what is missing. */
export function explained(left) {
  const missing = 100 * left;
  if (missing < 1e-12) return "100 %";
  if (missing < 1e-4) return "over 99.9999 %";
  return `${fixed(100 - missing, missing >= 1 ? 1 : Math.min(4, Math.ceil(-Math.log10(missing)) + 1))} %`;
}

export function sentence({ taken, atoms, left, next }) {
  const many = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;
  const done = taken === 0 ? "No atom yet" : taken === atoms ? many(atoms, "atom") : `${many(taken, "step")}, ${many(atoms, "atom")}`;
  const then = next >= 0 ? `next: atom ${next}` : "nothing is left";
  return `${done}: ${explained(left)} of the patch explained; ${then}.`;
}

/** The smallest of 1, ½, ¼… that holds all values: a scale that changes in steps a reader can follow. */
export function greyRange(values) {
  const most = values.reduce((top, value) => Math.max(top, Math.abs(value)), 0);
  let range = 1;
  while (range > 1 / 128 && most <= range / 2) range /= 2;
  return range;
}

/** The least of 1, 2, 5, 10… times a power of ten that is not below `value`. */
export function roundTop(value) {
  const unit = 10 ** Math.floor(Math.log10(Math.max(value, 1e-4)));
  return [1, 2, 5, 10].find((size) => size * unit >= value * (1 - 1e-9)) * unit;
}

const LIMIT = 24;
const FLOOR = 1e-3; // per cent
const CODERS = { matching: matchingPursuit, orthogonal: orthogonalMatchingPursuit };

/** Grey values from 0 to 1 of a trait that holds bytes or float32 numbers. */
export function greys(view, count) {
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength).slice();
  return bytes.length === count ? Float64Array.from(bytes, (value) => value / 255) : Float64Array.from(new Float32Array(bytes.buffer));
}

/** Build the widget once; returns {draw, stop}. */
function build(model, el) {
  const listeners = new AbortController();
  const on = (node, type, act) => node.addEventListener(type, act, { signal: listeners.signal });
  const get = (name) => model.get(name);
  const set = (values) => {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
  };
  const [width, height, side] = [get("width"), get("height"), get("side")];
  const photograph = greys(get("photograph"), width * height);
  const dictionary = cosineDictionary(side, get("frequencies"));
  const loudest = dictionary.map((atom) => atom.reduce((top, value) => Math.max(top, Math.abs(value)), 0));
  const last = { row: height - side, column: width - side };
  let histories, taken;

  const root = widgetRoot(el, "sb-pursuit", "Matching pursuit on a patch of a photograph");
  const go = (steps) => set({ steps: clamp(Math.round(steps), 0, Math.min(LIMIT, histories[get("method")].length)) });
  const row = controls(root);
  const method = choice(row, {
    legend: "Pursuit", options: { matching: "matching", orthogonal: "orthogonal" }, value: get("method"),
    onChange: (name) => set({ method: name }),
  });
  const walk = html(row, "div", { class: "sb-walk" });
  // Buttons at their end stay focusable, so that the keyboard does not lose its place.
  const walking = Object.entries({ Start: () => 0, "← Back": () => taken - 1, "Step →": () => taken + 1 }).map(([label, target]) =>
    button(walk, label, () => go(target())));
  const knob = slider(row, { label: "Steps", min: 0, max: LIMIT, step: 1, value: 0, onInput: go });
  const said = readout(root);

  const stage = html(root, "div", { class: "sb-stage" });
  const left = html(stage, "div", { class: "sb-left" });
  const photo = pixels(left, { width, height, label: "The photograph" });
  photo.figure.classList.add("sb-photo");
  photo.paint(photograph);
  const layer = svg(photo.figure, "svg", { viewBox: `0 0 ${width} ${height}`, class: "sb-layer" });
  const frame = svg(layer, "g", { class: "sb-frame", tabindex: 0, role: "application", "aria-roledescription": "movable frame" });
  const reach = Math.max(side, (44 * width) / 360);
  svg(frame, "rect", { class: "sb-hit", x: (side - reach) / 2, y: (side - reach) / 2, width: reach, height: reach });
  for (const name of ["sb-halo", "sb-edge"]) svg(frame, "rect", { class: name, x: -0.4, y: -0.4, width: side + 0.8, height: side + 0.8 });
  html(left, "p", { class: "sb-hint" }, "Drag the frame, or move it with the arrow keys.");

  const right = html(stage, "div", { class: "sb-right" });
  const sum = html(right, "div", { class: "sb-sum" });
  const picture = (label) => pixels(sum, { width: side, height: side, label, caption: label });
  const whole = picture("patch");
  html(sum, "span", { class: "sb-sign", "aria-hidden": "true" }, "=");
  const rebuilt = picture("reconstruction");
  html(sum, "span", { class: "sb-sign", "aria-hidden": "true" }, "+");
  const rest = picture("residual");
  const scale = html(rest.figure, "span", { class: "sb-scale" });
  const heading = html(right, "p", { class: "sb-heading" }, "Atoms and their coefficients");
  const chosen = html(right, "ol", { class: "sb-atoms", "aria-label": heading.textContent });

  const panels = html(root, "div", { class: "sb-panels" });
  const bars = html(panels, "div", { class: "sb-cell sb-bars" });
  const fall = html(panels, "div", { class: "sb-cell sb-fall" });
  const ticks = Array.from({ length: LIMIT / 4 + 1 }, (_, k) => 4 * k);
  const chart = plot(fall, {
    caption: "What is left of the patch",
    x: { low: 0, high: LIMIT, ticks, label: "steps" },
    y: { low: FLOOR, high: 100, ticks: [100, 10, 1, 0.1, 0.01, 0.001], label: "", log: true },
  });
  svg(chart.svg, "text", { class: "sb-name", x: chart.inner.right, y: chart.inner.top + 8, "text-anchor": "end", "aria-hidden": "true" }, "% of its energy");
  const lines = {};
  for (const [name, colour] of Object.entries({ matching: "sb-c1", orthogonal: "sb-c3" }))
    lines[name] = svg(chart.curves, "path", { class: `sb-curve ${colour}`, "data-method": name });
  const grip = svg(chart.over, "g", { class: "sb-grip" });
  svg(grip, "circle", { class: "sb-hit", r: 22 });
  svg(grip, "circle", { class: "sb-dot", r: 7 });
  legend(fall, { "sb-c1": "matching pursuit", "sb-c3": "orthogonal" });

  /** Follow a pointer from where `begin(event)` returns something; `move(event, begun)` hears the rest. */
  function follow(node, begin, move) {
    let begun = null;
    on(node, "pointerdown", (event) => {
      if (event.button !== 0 || !(begun = begin(event))) return;
      node.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    on(node, "pointermove", (event) => begun && move(event, begun));
    for (const type of ["pointerup", "pointercancel"]) on(node, type, () => (begun = null));
  }
  const at = (event) => {
    const box = layer.getBoundingClientRect();
    return { x: ((event.clientX - box.left) * width) / box.width, y: ((event.clientY - box.top) * height) / box.height };
  };
  const moveTo = (top, start) => {
    const place = { row: clamp(Math.round(top), 0, last.row), column: clamp(Math.round(start), 0, last.column) };
    if (place.row !== get("row") || place.column !== get("column")) set(place);
  };
  let tapped = false; // a finger beside the frame may scroll the page; only its tap moves the frame
  const centre = ({ x, y }) => moveTo(y - side / 2, x - side / 2);
  follow(layer, (event) => {
    const { x, y } = at(event);
    const inside = frame.contains(event.target);
    tapped = !inside && event.pointerType === "touch";
    if (tapped) return null;
    if (!inside) centre({ x, y });
    frame.focus({ preventScroll: true });
    return { x: x - get("column"), y: y - get("row") };
  }, (event, begun) => {
    const { x, y } = at(event);
    moveTo(y - begun.y, x - begun.x);
  });
  on(layer, "click", (event) => tapped && centre(at(event)));
  const arrows = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  const turns = { "+": () => taken + 1, "=": () => taken + 1, "-": () => taken - 1, Home: () => 0, End: () => LIMIT };
  on(frame, "keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const far = event.shiftKey ? side : 1;
    if (arrows[event.key]) moveTo(get("row") + far * arrows[event.key][0], get("column") + far * arrows[event.key][1]);
    else if (turns[event.key]) go(turns[event.key]());
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  follow(grip, () => true, (event) => {
    const box = chart.svg.getBoundingClientRect();
    go(chart.unX(((event.clientX - box.left) * 360) / box.width));
  });

  function drawBars(correlations, used, next) {
    const sizes = Array.from(correlations, Math.abs);
    const top = roundTop(Math.max(...sizes));
    bars.replaceChildren();
    const axes = plot(bars, {
      caption: "How well each atom fits what is left",
      x: { low: -2, high: sizes.length + 1, ticks: [0, 20, 40, 60, 80, 100, 120].filter((k) => k < sizes.length), label: "atom" },
      y: { low: 0, high: top * 1.12, ticks: [0, top / 2, top], label: "|correlation|" },
    });
    const stick = (k) => `M${axes.X(k).toFixed(2)} ${axes.Y(0)}V${axes.Y(sizes[k]).toFixed(2)}`;
    svg(axes.curves, "path", { class: "sb-stick", d: sizes.map((_, k) => stick(k)).join("") });
    for (const atom of used) svg(axes.over, "circle", { class: "sb-used", r: 3, cx: axes.X(atom).toFixed(2), cy: axes.Y(sizes[atom]).toFixed(2) });
    if (next >= 0) {
      svg(axes.curves, "path", { class: "sb-stick sb-next", d: stick(next) });
      svg(axes.over, "circle", { class: "sb-dot", r: 5, cx: axes.X(next).toFixed(2), cy: axes.Y(sizes[next]).toFixed(2), "data-atom": next });
      const before = next > 0.6 * sizes.length;
      svg(axes.over, "text", { class: "sb-winner", x: axes.X(next) + (before ? -10 : 10), y: axes.Y(sizes[next]) + 4, "text-anchor": before ? "end" : "start" }, `next: ${next}`);
    }
    legend(bars, { "sb-sticks": "all atoms", "sb-winners": "takes the next step", "sb-rings": "chosen before" });
  }

  function drawAtoms(used, codes, newest, next) {
    chosen.replaceChildren();
    const tile = (atom, text, classes, label) => {
      const item = html(chosen, "li", { class: `sb-atom ${classes}`, "data-atom": atom, title: label });
      const small = pixels(item, { width: side, height: side, label });
      small.paint(dictionary[atom], -loudest[atom], loudest[atom]);
      html(item, "span", { "aria-hidden": "true" }, text);
    };
    for (const atom of used) {
      const marks = [atom === newest ? "sb-newest" : "", atom === next ? "sb-coming" : ""].join(" ");
      const spoken = `atom ${atom}, coefficient ${fixed(codes[atom], 3)}${atom === newest ? ", newest" : ""}${atom === next ? ", next" : ""}`;
      tile(atom, fixed(codes[atom]), marks, spoken);
    }
    const room = LIMIT - used.length;
    if (room && next >= 0 && !used.includes(next)) tile(next, "next", "sb-coming sb-new", `next: atom ${next}`);
    while (chosen.childElementCount < LIMIT) html(html(chosen, "li", { class: "sb-atom sb-empty", "aria-hidden": "true" }), "i");
  }

  let patch, place;
  function draw() {
    const [top, start, name] = [get("row"), get("column"), get("method")];
    if (place !== `${top} ${start}`) {
      place = `${top} ${start}`;
      patch = cut(photograph, width, top, start, side);
      histories = Object.fromEntries(Object.entries(CODERS).map(([key, coder]) => [key, coder(patch, dictionary, LIMIT)]));
      frame.setAttribute("transform", `translate(${start} ${top})`);
      frame.setAttribute("aria-label", `Patch at row ${top}, column ${start}. Arrow keys move it, with Shift by a whole patch; plus and minus step.`);
      whole.paint(patch);
      for (const [key, history] of Object.entries(histories))
        lines[key].setAttribute("d", path(sharesLeft(patch, history).map((share, k) => [k, Math.max(100 * share, FLOOR / 10)]), chart));
    }
    const history = histories[name];
    taken = Math.min(get("steps"), history.length);
    const now = history[taken - 1];
    const residual = now ? now.residual : patch;
    const codes = now ? now.codes : new Float64Array(dictionary.length);
    const used = distinctAtoms(history.slice(0, taken));
    const correlations = correlate(residual, dictionary);
    const next = nextAtom(correlations, patch);
    const share = sharesLeft(patch, history)[taken];
    rebuilt.paint(patch.map((value, k) => value - residual[k]));
    const range = greyRange(residual);
    rest.paint(residual, -range, range);
    scale.textContent = `grey: 0 ± ${Number(range.toPrecision(2))}`;
    drawAtoms(used, codes, now ? now.atom : -1, next);
    drawBars(correlations, used, next);
    grip.setAttribute("transform", `translate(${chart.X(taken).toFixed(2)} ${chart.Y(Math.max(100 * share, FLOOR)).toFixed(2)})`);
    method.set(name);
    knob.set(taken);
    walking.forEach((node, k) => node.setAttribute("aria-disabled", k < 2 ? taken === 0 : taken >= Math.min(LIMIT, history.length)));
    said.textContent = sentence({ taken, atoms: used.length, left: share, next });
  }
  draw();
  return { draw, stop: () => listeners.abort() };
}

function render({ model, el }) {
  let widget = build(model, el);
  const draw = () => widget.draw();
  const rebuild = () => {
    if (model.get("photograph").byteLength % (model.get("width") * model.get("height"))) return; // its size follows
    widget.stop();
    el.replaceChildren();
    widget = build(model, el);
  };
  const heard = [
    ...["row", "column", "method", "steps"].map((name) => [`change:${name}`, draw]),
    ...["photograph", "width", "height", "side", "frequencies"].map((name) => [`change:${name}`, rebuild]),
  ];
  for (const [name, act] of heard) model.on(name, act);
  return () => {
    widget.stop();
    for (const [name, act] of heard) model.off(name, act);
  };
}

export default { render };
