// Widget of "Neural codes": choose the activity of a code, see what it can say, whom it confuses, what it survives.
// A pattern of up to 64 units is a pair of 32-bit words, so that "contains" costs two operations.
import { button, clamp, controls, fixed, generator, html, legend, path, plot, readout, slider, svg, uniqueId, widgetRoot } from "./common.js";

/** log2 of the number of patterns with `active` of `units` binary units active. */
export function capacityBits(units, active) {
  let bits = 0;
  for (let i = 1; i <= active; i++) bits += Math.log2((units - active + i) / i);
  return bits;
}

const logChoose = (n, k) => (k < 0 || k > n ? -Infinity : capacityBits(n, k) * Math.LN2);

/** The number of patterns; exact up to 2^53, which is more than any use of it needs. */
export function patternCount(units, active) {
  let count = 1;
  for (let i = 1; i <= Math.min(active, units - active); i++) count = (count * (units - i + 1)) / i;
  return Math.round(count);
}

/** Probabilities of the overlaps 0…active of two random patterns. */
export const overlapDistribution = (units, active) =>
  Array.from({ length: active + 1 }, (_, m) =>
    Math.exp(logChoose(active, m) + logChoose(units - active, active - m) - logChoose(units, active)));

/** The chance of guessing right after 0…active failures, averaged over random codes. */
export function rightGuesses(units, active, stimuli) {
  const every = patternCount(units, active);
  return Array.from({ length: active + 1 }, (_, lost) => {
    const share = patternCount(units - active + lost, lost) / every;
    let missed = 0;
    for (let i = 0; i < stimuli; i++) missed += Math.log1p(-Math.min(1, share / (1 - i / every)));
    return Math.min(1, -Math.expm1(missed) / (stimuli * share));
  });
}

/** How often a stimulus is misread when a share of the units falls silent, from `rightGuesses`. */
export function expectedMisreading(right, failing) {
  const active = right.length - 1;
  return right.reduce((sum, chance, lost) => {
    const ways = Math.exp(logChoose(active, lost)) * failing ** lost * (1 - failing) ** (active - lost);
    return sum + ways * (1 - chance);
  }, 0);
}

const wordsOf = (places) => {
  const words = [0, 0];
  for (const unit of places) words[unit >> 5] |= 1 << (unit & 31);
  return words;
};
export const isActive = (pattern, unit) => ((pattern[unit >> 5] >>> (unit & 31)) & 1) === 1;
export const bitCount = (pattern) => pattern.reduce((sum, word) => {
  let rest = word - ((word >>> 1) & 0x55555555);
  rest = (rest & 0x33333333) + ((rest >>> 2) & 0x33333333);
  return sum + (Math.imul((rest + (rest >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24);
}, 0);
export const both = (a, b) => [a[0] & b[0], a[1] & b[1]];

function shuffle(items, uniform, count = items.length) {
  for (let i = 0; i < count; i++) {
    const j = i + Math.floor(uniform() * (items.length - i));
    [items[i], items[j]] = [items[j], items[i]];
  }
  return items;
}

function everyPattern(units, active, from = 0) {
  if (active === 0) return [[]];
  const found = [];
  for (let unit = from; unit <= units - active; unit++)
    for (const rest of everyPattern(units, active - 1, unit + 1)) found.push([unit, ...rest]);
  return found;
}

/** A code: `count` different patterns, or all where fewer exist. */
export function drawCode(count, units, active, uniform) {
  const every = patternCount(units, active);
  if (2 * count >= every) return shuffle(everyPattern(units, active).map(wordsOf), uniform).slice(0, count);
  const code = new Map();
  const names = Array.from({ length: units }, (_, unit) => unit);
  while (code.size < count) {
    const words = wordsOf(shuffle(names, uniform, active).slice(0, active));
    code.set(words.join(), words);
  }
  return [...code.values()];
}

/** How many patterns of a code contain all surviving units: these are the nearest ones. */
export function fitting(survivors, code) {
  let count = 0;
  for (const pattern of code)
    count += (pattern[0] & survivors[0]) === survivors[0] && (pattern[1] & survivors[1]) === survivors[1] ? 1 : 0;
  return count;
}

/** The units that still work, when each fails with probability `failing`. */
export const alive = (failing, chances) => wordsOf(chances.flatMap((chance, unit) => (chance < failing ? [] : [unit])));

/** The share of misread stimuli among `shown` random ones; ties are guesses. */
export function simulateMisreading(code, units, failing, shown, uniform) {
  let wrong = 0;
  for (let trial = 0; trial < shown; trial++) {
    const pattern = code[Math.floor(uniform() * code.length)];
    const survivors = [0, 0];
    for (let unit = 0; unit < units; unit++)
      if (isActive(pattern, unit) && uniform() >= failing) survivors[unit >> 5] |= 1 << (unit & 31);
    wrong += 1 - 1 / fitting(survivors, code);
  }
  return wrong / shown;
}

/** How often pairs of a code's patterns overlap in 0…active units. */
export function pairOverlaps(code, active) {
  const often = new Array(active + 1).fill(0);
  for (let i = 0; i < code.length; i++) for (let j = 0; j < i; j++) often[bitCount(both(code[i], code[j]))]++;
  const pairs = (code.length * (code.length - 1)) / 2;
  return often.map((count) => (pairs ? count / pairs : 0));
}

export const percent = (share) => `${fixed(100 * share, 1)} %`;

export function sentence({ units, active, stimuli, failing, misread, expected }) {
  const bits = capacityBits(units, active);
  const silence = failing === 0 ? "With no unit failing" : `With ${Math.round(100 * failing)} % failing`;
  return `${active} of ${units} active: ${fixed(bits, 1)} bits, ${fixed(bits / active, 1)} per spike; two patterns share ` +
    `${fixed((active * active) / units)} units. ${silence}, ${percent(misread)} of ${stimuli} stimuli are misread (expected: ${percent(expected)}).`;
}

/** What a reader of the survivors can conclude. */
export function verdict(left, active, fits) {
  const who = fits === 1 ? "read correctly" : `a guess among ${fits}`;
  return left === active ? `all ${active} left: ${who}` : `${left} of ${active} left: ${who}`;
}

const SHARES = Array.from({ length: 13 }, (_, k) => k / 20);
const COLUMNS = 16;
const niceTicks = (top) => {
  const step = [1, 2, 4, 8, 16].find((size) => top / size <= 8);
  return Array.from({ length: Math.floor(top / step) + 1 }, (_, k) => k * step);
};

function render({ model, el }) {
  const listeners = new AbortController();
  const on = (node, type, act) => node.addEventListener(type, act, { signal: listeners.signal });
  const root = widgetRoot(el, "sb-neural-codes", "Activity of a neural code");
  const get = (name) => model.get(name);

  const set = (values) => {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
  };
  const row = controls(root);
  const knobs = {
    units: slider(row, { label: "Units N", min: 8, max: 64, step: 1, value: get("units"), onInput: (units) => set({ active: Math.min(get("active"), units), units }) }),
    active: slider(row, { label: "Active k", min: 1, max: get("units"), step: 1, value: get("active"), onInput: (active) => set({ active }) }),
    failing: slider(row, { label: "Failing", min: 0, max: 60, step: 1, value: 100 * get("failing"), format: (v) => `${Math.round(v)} %`, onInput: (v) => set({ failing: v / 100 }) }),
    stimuli: slider(row, { label: "Stimuli", min: 1, max: 8, step: 1, value: Math.log2(get("stimuli")), format: (v) => String(Math.round(2 ** v)), onInput: (v) => set({ stimuli: 2 ** v }) }),
  };
  button(row, "New stimuli", () => set({ seed: get("seed") + 1 }));
  const said = readout(root);

  const panels = html(root, "div", { class: "sb-panels" });
  const places = ["sb-populations", "sb-capacity", "sb-errors", "sb-overlaps"].map((name) => html(panels, "div", { class: `sb-cell ${name}` }));
  const stages = ["A", "B"].map((name) => {
    const figure = html(places[0], "figure", { class: "sb-panel" });
    const id = uniqueId("sb-population");
    html(figure, "figcaption", { id }, `Stimulus ${name}`);
    const picture = svg(figure, "svg", { role: "img", "aria-labelledby": id, class: "sb-population" });
    return { picture, conclusion: html(figure, "p", { class: "sb-verdict" }) };
  });

  /** A handle that follows the pointer along x; the sliders do the same by keyboard. */
  function handle(chart, move) {
    const node = svg(chart.svg, "g", { class: "sb-grip", "aria-hidden": "true" });
    svg(node, "circle", { class: "sb-hit", r: 22 });
    svg(node, "circle", { class: "sb-dot", r: 7 });
    let held = false;
    const at = (event) => {
      const box = chart.svg.getBoundingClientRect();
      return chart.unX(((event.clientX - box.left) * 360) / box.width);
    };
    on(node, "pointerdown", (event) => {
      held = true;
      node.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    on(node, "pointermove", (event) => held && move(at(event)));
    for (const type of ["pointerup", "pointercancel"]) on(node, type, () => (held = false));
    return (x, y) => node.setAttribute("transform", `translate(${chart.X(x).toFixed(2)} ${chart.Y(y).toFixed(2)})`);
  }

  const errors = plot(places[2], {
    caption: "Misread when units fail",
    x: { low: 0, high: 0.6, ticks: [0, 0.2, 0.4, 0.6], label: "share failing" },
    y: { low: 0, high: 1, ticks: [0, 0.25, 0.5, 0.75, 1], label: "share misread" },
  });
  const errorLine = svg(errors.curves, "path", { class: "sb-curve sb-c1" });
  const errorDots = SHARES.map((share) => svg(errors.over, "circle", { class: "sb-ring", r: 4, cx: errors.X(share) }));
  const moveError = handle(errors, (share) => set({ failing: clamp(Math.round(100 * share), 0, 60) / 100 }));
  legend(places[2], { "sb-c1": "mean over random codes", "sb-circles": "this code, simulated" });

  let moveCapacity;
  function drawCapacity(units) {
    places[1].replaceChildren();
    const ticks = niceTicks(units);
    const chart = plot(places[1], {
      caption: "Capacity: drag the point",
      x: { low: 0, high: units, ticks, label: "active units k" },
      y: { low: 0, high: 74, ticks: [0, 16, 32, 48, 64], label: "bits" },
    });
    svg(chart.curves, "path", { class: "sb-curve sb-c5", d: path([[0, units], [units, units]], chart) });
    svg(chart.curves, "path", { class: "sb-curve sb-c1", d: path(Array.from({ length: units + 1 }, (_, k) => [k, capacityBits(units, k)]), chart) });
    legend(places[1], { "sb-c1": "exactly k active", "sb-c5": "any number active" });
    moveCapacity = handle(chart, (k) => set({ active: clamp(Math.round(k), 1, units) }));
  }

  function drawOverlaps(units, active, code) {
    const often = pairOverlaps(code, active);
    const theory = overlapDistribution(units, active);
    const high = Math.max(...often, ...theory) > 0.5 ? 1 : 0.5;
    places[3].replaceChildren();
    const chart = plot(places[3], {
      caption: "Overlap of two patterns",
      x: { low: -0.5, high: active + 0.5, ticks: niceTicks(active), label: "shared units" },
      y: { low: 0, high, ticks: [0, high / 2, high], label: "share of pairs" },
    });
    const width = Math.min(22, 0.7 * (chart.X(1) - chart.X(0)));
    often.forEach((share, m) => svg(chart.curves, "rect", { class: "sb-bar", x: chart.X(m) - width / 2, width, y: chart.Y(share), height: chart.Y(0) - chart.Y(share) }));
    theory.forEach((share, m) => svg(chart.over, "circle", { class: "sb-theory", r: 3.2, cx: chart.X(m), cy: chart.Y(share) }));
    legend(places[3], { "sb-blocks": "pairs of this code", "sb-points": "two random patterns" });
  }

  function drawPopulation(stage, units, pattern, other, working) {
    const rows = Math.ceil(units / COLUMNS);
    stage.picture.setAttribute("viewBox", `0 0 360 ${rows * 22 + 4}`);
    stage.picture.replaceChildren();
    for (let unit = 0; unit < units; unit++) {
      const spot = svg(stage.picture, "g", { transform: `translate(${15 + 22 * (unit % COLUMNS)} ${13 + 22 * Math.floor(unit / COLUMNS)})` });
      const fires = isActive(pattern, unit);
      svg(spot, "circle", { class: fires ? "sb-unit sb-fires" : "sb-unit", r: fires ? 6.5 : 3 });
      if (fires && isActive(other, unit)) svg(spot, "circle", { class: "sb-shared", r: 9.5 });
      if (!isActive(working, unit)) svg(spot, "path", { class: fires ? "sb-failed" : "sb-failed sb-idle", d: "M-7 -7L7 7M7 -7L-7 7" });
    }
  }

  let drawn = "";
  let code, right, chances, shownUnits;
  function draw() {
    const units = get("units");
    const active = Math.min(get("active"), units);
    const [failing, wanted, seed] = [get("failing"), get("stimuli"), get("seed")];
    const stimuli = Math.min(wanted, patternCount(units, active));
    const state = [units, active, stimuli, seed].join();
    if (units !== shownUnits) {
      shownUnits = units;
      knobs.active.input.max = units;
      drawCapacity(units);
    }
    if (state !== drawn) {
      drawn = state;
      const uniform = generator(seed);
      chances = Array.from({ length: 64 }, uniform);
      code = drawCode(stimuli, units, active, uniform);
      right = rightGuesses(units, active, stimuli);
      errorLine.setAttribute("d", path(Array.from({ length: 61 }, (_, k) => [k / 100, expectedMisreading(right, k / 100)]), errors));
      SHARES.forEach((share, k) => errorDots[k].setAttribute("cy", errors.Y(simulateMisreading(code, units, share, 300, generator(seed + 1000 + k)))));
      drawOverlaps(units, active, code);
    }
    const misread = simulateMisreading(code, units, failing, 2000, generator(seed + 7));
    const working = alive(failing, chances.slice(0, units));
    stages.forEach((stage, k) => {
      const [pattern, other] = [code[k % code.length], code[(k + 1) % code.length]];
      drawPopulation(stage, units, pattern, other, working);
      const survivors = both(pattern, working);
      stage.conclusion.textContent = verdict(bitCount(survivors), active, fitting(survivors, code));
    });
    moveCapacity(active, capacityBits(units, active));
    moveError(failing, misread);
    knobs.units.set(units);
    knobs.active.set(active);
    knobs.failing.set(100 * failing);
    knobs.stimuli.set(Math.log2(wanted));
    said.textContent = sentence({ units, active, stimuli, failing, misread, expected: expectedMisreading(right, failing) });
  }
  const names = ["units", "active", "failing", "stimuli", "seed"].map((name) => `change:${name}`);
  for (const name of names) model.on(name, draw);
  draw();
  return () => {
    listeners.abort();
    for (const name of names) model.off(name, draw);
  };
}

export default { render };
