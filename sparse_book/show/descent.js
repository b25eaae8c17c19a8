// Widget of "A yardstick for every parameter": all rules of descent from one start, on a surface that the reader picks.
// A rule moves each coordinate by itself, from its slope and a memory; the same steps as sparse_book.training.optimizers.
import { button, choice, clamp, controls, fixed, html, path, plot, readout, slider, svg, widgetRoot } from "./common.js";

const LOG = { log: true };
/** How a setting is moved by a slider; `log` sliders move its decimal logarithm. */
export const SETTINGS = {
  learning_rate: { label: "rate α", low: -5, high: 1, step: 0.05, ...LOG },
  momentum: { label: "momentum γ", low: 0, high: 0.99, step: 0.01 },
  rho: { label: "memory ρ", low: 0, high: 0.995, step: 0.005 },
  beta1: { label: "β₁", low: 0, high: 0.99, step: 0.01 },
  beta2: { label: "β₂", low: 0, high: 0.999, step: 0.001 },
  epsilon: { label: "ε", low: -8, high: 0, step: 0.1, ...LOG },
  factor: { label: "factor κ", low: -10, high: 2, step: 0.1, ...LOG },
};

/** The rules: what they are called, whose steps they take, all settings, and those that have a slider. */
export const RULES = {
  gradient: { label: "gradient", optimizer: "sgd", settings: { learning_rate: 0.04, momentum: 0 }, sliders: ["learning_rate"] },
  momentum: { label: "momentum", optimizer: "sgd", settings: { learning_rate: 0.02, momentum: 0.8 }, sliders: ["learning_rate", "momentum"] },
  adagrad: {
    label: "Adagrad", optimizer: "adagrad", settings: { learning_rate: 0.5, rate_decay: 0, initial_accumulator: 0, epsilon: 1e-10 },
    sliders: ["learning_rate"],
  },
  rmsprop: {
    label: "RMSProp", optimizer: "rmsprop", settings: { learning_rate: 0.05, rho: 0.9, momentum: 0, epsilon: 1e-8 },
    sliders: ["learning_rate", "rho", "momentum"],
  },
  adadelta: {
    label: "Adadelta", optimizer: "adadelta", settings: { learning_rate: 1, rho: 0.9, epsilon: 1e-4 }, sliders: ["learning_rate", "rho", "epsilon"],
  },
  adam: {
    label: "Adam", optimizer: "adam", settings: { learning_rate: 0.1, beta1: 0.9, beta2: 0.99, epsilon: 1e-8 },
    sliders: ["learning_rate", "beta1", "beta2"],
  },
  "adagrad-squared": {
    label: "Adagrad, squared", optimizer: "adagrad-squared", settings: { learning_rate: 1, factor: 1e-6, epsilon: 1e-10 }, sliders: ["factor"],
  },
  "adadelta-squared": {
    label: "Adadelta, squared", optimizer: "adadelta-squared", settings: { learning_rate: 1, factor: 1e-3, rho: 0.9, epsilon: 1e-4 },
    sliders: ["factor", "rho", "epsilon"],
  },
};

/** What a coordinate of slope g does next: each returns the move and writes its memory m. Steps count from 1. */
const adadelta = ({ rho, epsilon }, g, m) => {
  m.square = rho * (m.square ?? 0) + (1 - rho) * g * g;
  const move = (Math.sqrt((m.moves ?? 0) + epsilon) / Math.sqrt(m.square + epsilon)) * g;
  m.moves = rho * (m.moves ?? 0) + (1 - rho) * move * move;
  return move;
};
export const MOVES = {
  sgd: ({ learning_rate, momentum }, g, m) => learning_rate * (m.velocity = momentum * (m.velocity ?? 0) + g),
  adagrad: ({ learning_rate, rate_decay, initial_accumulator, epsilon }, g, m, step) => {
    m.total = (m.total ?? 0) + g * g;
    return ((learning_rate / (1 + (step - 1) * rate_decay)) * g) / (Math.sqrt(initial_accumulator + m.total) + epsilon);
  },
  rmsprop: ({ learning_rate, rho, momentum, epsilon }, g, m) => {
    m.square = rho * (m.square ?? 0) + (1 - rho) * g * g;
    m.velocity = momentum * (m.velocity ?? 0) + g / (Math.sqrt(m.square) + epsilon);
    return learning_rate * m.velocity;
  },
  adadelta: (settings, g, m) => settings.learning_rate * adadelta(settings, g, m),
  adam: ({ learning_rate, beta1, beta2, epsilon }, g, m, step) => {
    m.mean = beta1 * (m.mean ?? 0) + (1 - beta1) * g;
    m.square = beta2 * (m.square ?? 0) + (1 - beta2) * g * g;
    return ((learning_rate / (1 - beta1 ** step)) * m.mean) / (Math.sqrt(m.square / (1 - beta2 ** step)) + epsilon);
  },
  "adagrad-squared": ({ learning_rate, factor, epsilon }, g, m) => {
    m.total = (m.total ?? 0) + g * g;
    return (learning_rate * factor * m.total ** 2 * g) / (Math.sqrt(m.total) + epsilon);
  },
  "adadelta-squared": (settings, g, m) => {
    const move = adadelta(settings, g, m);
    return settings.learning_rate * settings.factor * m.square ** 2 * move;
  },
};

const bowl = (u, v) => (u * u + 20 * v * v) / 2;
const HALF = Math.SQRT1_2;
const box = (x, y, xTicks, yTicks) => ({ x: { low: x[0], high: x[1], ticks: xTicks }, y: { low: y[0], high: y[1], ticks: yTicks } });
const wide = box([-3, 3], [-2.4, 2.4], [-2, 0, 2], [-2, -1, 0, 1, 2]);

/** The valleys' bottoms: roots of 4x³ − 4x = ½, by Newton's method. */
const bottoms = [-1, 1].map((x) => {
  for (let k = 0; k < 30; k++) x -= (4 * x ** 3 - 4 * x - 0.5) / (12 * x * x - 4);
  return x;
});

/** Surfaces: height, slope, the lowest points, a start, and the part that is drawn. */
export const SURFACES = {
  bowl: { label: "bowl", height: bowl, slope: (x, y) => [x, 20 * y], lowest: [[0, 0]], start: [-2.6, 1.6], ...wide },
  tilted: {
    label: "tilted bowl", height: (x, y) => bowl(HALF * (x + y), HALF * (y - x)), lowest: [[0, 0]], start: [-2.6, -0.4], ...wide,
    slope: (x, y) => [(x + y) / 2 - 10 * (y - x), (x + y) / 2 + 10 * (y - x)],
  },
  banana: {
    label: "banana", height: (x, y) => ((1 - x) ** 2 + 5 * (y - x * x) ** 2) / 4, lowest: [[1, 1]], start: [-1.6, 1.4],
    slope: (x, y) => [(x - 1) / 2 - 5 * x * (y - x * x), 2.5 * (y - x * x)], ...box([-2.1, 2.1], [-0.9, 2.5], [-2, -1, 0, 1, 2], [0, 1, 2]),
  },
  saddle: {
    label: "saddle", height: (x, y) => 2 * x * x - (y * y) / 2 + y ** 4 / 8, lowest: [[0, Math.SQRT2], [0, -Math.SQRT2]], start: [-1.8, 0.02],
    slope: (x, y) => [4 * x, -y + y ** 3 / 2], ...box([-2.4, 2.4], [-2.1, 2.1], [-2, -1, 0, 1, 2], [-2, -1, 0, 1, 2]),
  },
  valleys: {
    label: "two valleys", height: (x, y) => ((x * x - 1) ** 2 - x / 2) / 3 + y * y / 2, lowest: [[bottoms[1], 0]], start: [-1.9, 1.2],
    slope: (x, y) => [(4 * x * (x * x - 1) - 0.5) / 3, y], ...box([-2.1, 2.1], [-1.7, 1.7], [-2, -1, 0, 1, 2], [-1, 0, 1]),
  },
  plateau: {
    label: "plateau", height: (x, y) => 1 - Math.exp(-(x * x + y * y) / 2), lowest: [[0, 0]], start: [-2.5, 1.3], ...wide,
    slope: (x, y) => [x, y].map((value) => value * Math.exp(-(x * x + y * y) / 2)),
  },
};

/** The points that a rule visits: the start, and one for every step until the numbers overflow. */
export function walk(optimizer, settings, surface, start, steps) {
  const move = MOVES[optimizer];
  const memory = [{}, {}];
  const points = [[...start]];
  for (let step = 1; step <= steps; step++) {
    const [x, y] = points.at(-1);
    const slope = surface.slope(x, y);
    const next = points.at(-1).map((value, k) => value - move(settings, slope[k], memory[k], step));
    if (!next.every(Number.isFinite)) break;
    points.push(next);
  }
  return points;
}

/** How far above the lowest points a point lies. */
export const above = (surface, [x, y]) => Math.max(0, surface.height(x, y) - surface.height(...surface.lowest[0]));

/** Has a path left the part of the surface that is drawn, for good or by overflow? */
export function lost(surface, points, steps) {
  const [x, y] = points.at(-1);
  const { x: across, y: up } = surface;
  return points.length <= steps || x < across.low || x > across.high || y < up.low || y > up.high;
}

const small = (value) => (value === 0 ? "0" : value < 1e-9 ? "under 10⁻⁹" : value >= 0.001 ? fixed(value, 3) : tiny(value));
const raised = (number) => String(number).replace(/[-\d]/g, (sign) => (sign === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[sign]));
/** A number in powers of ten, with one digit after the first. */
export function tiny(value) {
  const [mantissa, exponent] = value.toExponential(1).split("e");
  return `${mantissa} · 10${raised(Number(exponent))}`;
}

/** A setting as the reader sees it. */
export const settingText = (name, value) =>
  SETTINGS[name].log ? (value >= 0.01 ? String(Number(value.toPrecision(2))) : tiny(value)) : fixed(value, SETTINGS[name].step < 0.01 ? 3 : 2);

/** Names without repetition, in the order of RULES. */
export const ordered = (names) => Object.keys(RULES).filter((name) => names.includes(name));

/** The rules that are shown, with their paths and where these end. */
export function race({ surface: key, start, steps, shown, settings }) {
  const surface = SURFACES[key];
  return ordered(shown).map((name) => {
    const points = walk(RULES[name].optimizer, { ...RULES[name].settings, ...settings[name] }, surface, start, steps);
    const gone = lost(surface, points, steps);
    return { name, points, gone, height: gone ? Infinity : above(surface, points.at(-1)) };
  });
}

/** What the picture says, in words. */
export function sentence(runners, steps) {
  if (!runners.length) return "No rule is shown.";
  const label = ({ name }) => RULES[name].label;
  const best = runners.reduce((one, other) => (other.height < one.height ? other : one));
  const gone = runners.filter((runner) => runner.gone).map(label);
  const away = gone.length ? ` Off the map: ${gone.join(", ")}.` : "";
  const after = `After ${steps} step${steps === 1 ? "" : "s"}`;
  if (best.gone) return `${after} no rule is on the map.`;
  return `${after} ${label(best)} is the lowest, ${small(best.height)} above the minimum.${away}`;
}

/** The rows of the table: height and length of way, for each rule that is shown. */
export function rows(runners) {
  return Object.fromEntries(runners.map(({ name, points, gone, height }) => {
    const way = points.slice(1).reduce((sum, [x, y], k) => sum + Math.hypot(x - points[k][0], y - points[k][1]), 0);
    return [name, [gone ? "off the map" : small(height), gone ? "" : fixed(way)]];
  }));
}

/** Level lines of a surface on a grid: for each level the segments [[x, y], [x, y]] (marching squares). */
export function contours(surface, count = 11, cells = 48) {
  const at = ({ low, high }, k) => low + ((high - low) * k) / cells;
  const grid = Array.from({ length: cells + 1 }, (_, j) =>
    Array.from({ length: cells + 1 }, (_, i) => above(surface, [at(surface.x, i), at(surface.y, j)])));
  const top = Math.max(...grid.flat());
  return Array.from({ length: count }, (_, k) => {
    const level = top * ((k + 1) / (count + 1)) ** 2;
    const segments = [];
    for (let j = 0; j < cells; j++)
      for (let i = 0; i < cells; i++) {
        const corners = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]];
        const crossings = [];
        corners.forEach(([a, b], c) => {
          const [d, e] = corners[(c + 1) % 4];
          const [one, other] = [grid[b][a] - level, grid[e][d] - level];
          if (one < 0 === other < 0) return;
          const t = one / (one - other);
          crossings.push([at(surface.x, a + t * (d - a)), at(surface.y, b + t * (e - b))]);
        });
        for (let c = 0; c + 1 < crossings.length; c += 2) segments.push([crossings[c], crossings[c + 1]]);
      }
    return { level, segments };
  });
}

/** Where a key moves the start: a fortieth of the picture, with Shift a tenth; null for other keys. */
export function keyTarget(key, [x, y], surface, far = false) {
  const unit = ({ low, high }) => (high - low) / (far ? 10 : 40);
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[key];
  if (key === "Home") return [...surface.start];
  return step ? inside([x + step[0] * unit(surface.x), y + step[1] * unit(surface.y)], surface) : null;
}

/** The nearest place on the map, to three digits. */
export const inside = ([x, y], surface) =>
  [[x, surface.x], [y, surface.y]].map(([value, { low, high }]) => Math.round(1000 * clamp(value, low, high)) / 1000 + 0);

const HEIGHT = 300;
const MOST = 300;

function render({ model, el }) {
  const stop = new AbortController();
  const on = (node, type, act) => node.addEventListener(type, act, { signal: stop.signal });
  const get = (name) => model.get(name);
  const set = (values) => {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
  };
  const root = widgetRoot(el, "sb-descent", "Paths of optimizers on a surface");
  const top = controls(root);
  const surfaces = Object.fromEntries(Object.entries(SURFACES).map(([key, { label }]) => [key, label]));
  const ground = choice(top, {
    legend: "Surface", options: surfaces, value: get("surface"), onChange: (key) => set({ surface: key, start: [...SURFACES[key].start] }),
  });
  const say = readout(root);
  const panels = html(root, "div", { class: "sb-panels" });
  const left = html(panels, "div", { class: "sb-map" });
  const side = html(panels, "div", { class: "sb-side" });
  const count = slider(left, { label: "Steps", min: 1, max: MOST, step: 1, value: get("steps"), onInput: (steps) => set({ steps }) });
  const hint = html(left, "p", { class: "sb-hint" }, "Drag the start, or move it with the arrow keys (Shift: further).");

  const list = html(html(side, "div", { class: "sb-table" }), "table");
  html(list, "caption", {}, "Rules");
  const line = html(html(list, "thead"), "tr");
  for (const text of ["shown", "above the minimum", "way"]) html(line, "th", { scope: "col" }, text);
  const body = html(list, "tbody");
  const lines = Object.fromEntries(Object.entries(RULES).map(([name, { label }], k) => {
    const row = html(body, "tr", { "data-rule": name });
    const pick = html(html(row, "th", { scope: "row" }), "label", { class: "sb-rule" });
    const tick = html(pick, "input", { type: "checkbox" });
    on(tick, "change", () => set({ shown: ordered(tick.checked ? [...get("shown"), name] : get("shown").filter((other) => other !== name)) }));
    const sample = svg(pick, "svg", { viewBox: "0 0 34 14", width: 34, height: 14, "aria-hidden": "true" });
    svg(sample, "path", { class: `sb-curve sb-r${k + 1}`, d: "M1 7H33" });
    html(pick, "span", {}, `${k + 1} ${label}`);
    return [name, { tick, cells: [html(row, "td"), html(row, "td")] }];
  }));
  const tune = html(html(side, "label", { class: "sb-pick" }, "Settings of "), "select");
  Object.entries(RULES).forEach(([name, { label }]) => html(tune, "option", { value: name }, label));
  on(tune, "change", () => set({ tuned: tune.value, shown: ordered([...get("shown"), tune.value]) }));
  const knobs = html(side, "div", { class: "sb-knobs" });
  button(side, "Settings as before", () => set({ settings: {} }));

  let map = null; // the drawing of one surface
  let drawn = "";
  function survey(key) {
    drawn = key;
    map?.svg.parentNode.remove();
    const surface = SURFACES[key];
    map = plot(left, { caption: `The surface: ${surface.label}`, x: { ...surface.x, label: "" }, y: { ...surface.y, label: "" }, height: HEIGHT });
    left.insertBefore(map.svg.parentNode, hint);
    const frame = map.svg;
    frame.classList.add("sb-ground");
    for (const { segments } of contours(surface)) {
      const d = segments.map((pair) => path(pair, map)).join("");
      svg(map.curves, "path", { class: "sb-level", d });
    }
    for (const [x, y] of surface.lowest) svg(map.curves, "path", { class: "sb-lowest", d: star(map.X(x), map.Y(y)) });
    map.paths = svg(map.curves, "g");
    map.ends = svg(map.curves, "g");
    map.over.removeAttribute("aria-hidden");
    map.grip = svg(map.over, "g", { class: "sb-start", tabindex: 0, role: "application", "aria-roledescription": "movable point" });
    svg(map.grip, "circle", { class: "sb-hit", r: 22 });
    svg(map.grip, "circle", { class: "sb-dot", r: 7 });
    listen(frame, map.grip);
  }
  const star = (x, y) => Array.from({ length: 10 }, (_, k) => {
    const [r, angle] = [k % 2 ? 3.2 : 8, (Math.PI * (k - 2.5)) / 5];
    return `${k ? "L" : "M"}${(x + r * Math.cos(angle)).toFixed(2)} ${(y + r * Math.sin(angle)).toFixed(2)}`;
  }).join("") + "Z";

  function listen(frame, grip) {
    const at = (event) => {
      const box = frame.getBoundingClientRect();
      return [map.unX(((event.clientX - box.left) * 360) / box.width), map.unY(((event.clientY - box.top) * HEIGHT) / box.height)];
    };
    const go = (place) => set({ start: inside(place, SURFACES[drawn]) });
    let begun = null;
    let tapped = false; // a finger beside the start may scroll the page; only its tap moves the start
    on(frame, "pointerdown", (event) => {
      if (event.button !== 0) return;
      const held = grip.contains(event.target);
      tapped = !held && event.pointerType === "touch";
      if (tapped) return;
      if (!held) go(at(event));
      const [x, y] = at(event);
      begun = [get("start")[0] - x, get("start")[1] - y];
      grip.focus({ preventScroll: true });
      frame.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    on(frame, "pointermove", (event) => {
      if (begun) go(at(event).map((value, k) => value + begun[k]));
    });
    for (const type of ["pointerup", "pointercancel"]) on(frame, type, () => (begun = null));
    on(frame, "click", (event) => tapped && go(at(event)));
    on(grip, "keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      const next = keyTarget(event.key, get("start"), SURFACES[drawn], event.shiftKey);
      const more = { "+": 1, "=": 1, "-": -1 }[event.key];
      if (next) set({ start: next });
      else if (more) set({ steps: clamp(get("steps") + more, 1, MOST) });
      else return;
      event.preventDefault();
    });
  }

  let turned = ""; // the rule whose sliders stand
  let dials = {};
  function tuneTo(name) {
    turned = name;
    tune.value = name;
    knobs.replaceChildren();
    dials = Object.fromEntries(RULES[name].sliders.map((setting) => {
      const { label, low, high, step, log } = SETTINGS[setting];
      const real = (value) => (log ? 10 ** value : value);
      const dial = slider(knobs, {
        label, min: low, max: high, step, value: low, format: (value) => settingText(setting, real(value)),
        onInput: (value) => set({ settings: { ...get("settings"), [name]: { ...get("settings")[name], [setting]: real(value) } } }),
      });
      return [setting, (value) => dial.set(log ? Math.log10(value) : value)];
    }));
  }

  function draw() {
    const names = ["surface", "start", "steps", "shown", "settings"];
    const state = Object.fromEntries(names.map((name) => [name, get(name)]));
    if (drawn !== state.surface) survey(state.surface);
    if (turned !== get("tuned")) tuneTo(get("tuned"));
    const own = { ...RULES[turned].settings, ...state.settings[turned] };
    for (const [setting, show] of Object.entries(dials)) show(own[setting]);
    ground.set(state.surface);
    count.set(state.steps);
    const runners = race(state);
    map.paths.replaceChildren();
    map.ends.replaceChildren();
    const far = (value) => clamp(value, -50, 50); // beyond the frame a path need not be exact
    for (const { name, points } of runners) {
      const k = Object.keys(RULES).indexOf(name) + 1;
      svg(map.paths, "path", { class: `sb-curve sb-r${k}`, "data-rule": name, d: path(points.map((point) => point.map(far)), map) });
      const [x, y] = points.at(-1).map(far);
      const end = svg(map.ends, "g", { class: `sb-end sb-r${k}`, transform: `translate(${map.X(x).toFixed(2)} ${map.Y(y).toFixed(2)})` });
      svg(end, "circle", { r: 7 });
      svg(end, "text", { y: 4, "text-anchor": "middle" }, String(k));
    }
    const [x, y] = state.start;
    map.grip.setAttribute("transform", `translate(${map.X(x).toFixed(2)} ${map.Y(y).toFixed(2)})`);
    map.grip.setAttribute("aria-label", `Start at ${fixed(x)}, ${fixed(y)}. Arrow keys move it, Home brings it back; plus and minus change the steps.`);
    const found = rows(runners);
    for (const [name, { tick, cells }] of Object.entries(lines)) {
      tick.checked = state.shown.includes(name);
      cells.forEach((cell, k) => (cell.textContent = found[name]?.[k] ?? ""));
    }
    say.textContent = sentence(runners, state.steps);
  }
  const heard = ["surface", "start", "steps", "shown", "tuned", "settings"];
  for (const name of heard) model.on(`change:${name}`, draw);
  draw();
  return () => {
    stop.abort();
    for (const name of heard) model.off(`change:${name}`, draw);
  };
}

export default { render };
