// Widget of "How the penalty flows back": choose a weight of a small ReLU network, see which paths bring it the penalty's gradient.
// A network is {sizes, layers, signal}; each layer is {weights, biases}, weights[unit][source]. The last layer is the output
// layer, which pays no penalty. Layers and units count from 0 here, and from 1 on the screen.
import { button, choice, clamp, controls, fixed, generator, html, readout, slider, svg, table, uniqueId, widgetRoot } from "./common.js";

export const SHAPES = { 2: [3, 4, 3, 2], 3: [3, 4, 3, 3, 2] };

/** How many numbers describe a network: weights and biases of every layer, and one input. */
export const parameterCount = (sizes) => sizes.slice(1).reduce((sum, units, l) => sum + units * (sizes[l] + 1), sizes[0]);

/** The network in a flat list: layer by layer the weights row by row, then the biases; at the end the input. */
export function unpack(sizes, numbers) {
  let at = 0;
  const take = (count) => Array.from(numbers.slice(at, (at += count)));
  const layers = sizes.slice(1).map((units, l) => {
    const weights = Array.from({ length: units }, () => take(sizes[l]));
    return { weights, biases: take(units) };
  });
  return { sizes, layers, signal: take(sizes[0]) };
}

export const pack = ({ layers, signal }) => [...layers.flatMap(({ weights, biases }) => [...weights.flat(), ...biases]), ...signal];

/** Fresh numbers for a network, drawn as PyTorch draws them; every input between 0.1 and 1. */
export function drawNumbers(sizes, seed) {
  const uniform = generator(seed);
  const round = (value) => Math.round(100 * value) / 100;
  const numbers = sizes.slice(1).flatMap((units, l) =>
    Array.from({ length: units * (sizes[l] + 1) }, () => round((2 * uniform() - 1) / Math.sqrt(sizes[l]))));
  return [...numbers, ...Array.from({ length: sizes[0] }, () => round(0.1 + 0.9 * uniform()))];
}

/** Pre-activations z and activations a of every layer; the output layer's are the same thing twice. */
export function forward({ layers, signal }) {
  const [z, a] = [[], []];
  layers.forEach(({ weights, biases }, l) => {
    const from = l ? a[l - 1] : signal;
    const sums = weights.map((row, i) => row.reduce((sum, weight, j) => sum + weight * from[j], biases[i]));
    z.push(sums);
    a.push(l < layers.length - 1 ? sums.map((value) => Math.max(value, 0)) : sums);
  });
  return { z, a };
}

/**
 * Every way from a weight to a penalised unit: {units, factors, value}. `units` begins with the weight's own unit; `factors`
 * are what the weight's unit hears through it and the weights on the way; `value` is their product, or 0 where a unit is silent.
 */
export function paths(network, [layer, unit, source]) {
  const { z, a } = forward(network);
  const hidden = network.layers.length - 1;
  const found = [];
  const walk = (l, units, factors, live) => {
    if (l >= hidden) return;
    const alive = live && z[l][units.at(-1)] > 0;
    found.push({ units, factors, value: alive ? factors.reduce((product, factor) => product * factor, 1) : 0 });
    if (l + 1 < hidden)
      network.layers[l + 1].weights.forEach((row, next) => walk(l + 1, [...units, next], [...factors, row[units.at(-1)]], alive));
  };
  walk(layer, [unit], [layer ? a[layer - 1][source] : network.signal[source]], true);
  return found.sort((one, other) => one.units.length - other.units.length);
}

export const total = (list) => list.reduce((sum, { value }) => sum + value, 0);

/** What flows over each weight beyond the chosen one: {"layer unit source": sum of the paths that use it}. */
export function edgeFlows(list, layer) {
  const flows = {};
  for (const { units, value } of list)
    for (let k = 1; k < units.length; k++) {
      const key = `${layer + k} ${units[k]} ${units[k - 1]}`;
      flows[key] = (flows[key] ?? 0) + value;
    }
  return flows;
}

/** The penalty's gradient for the bias of a unit: all paths from it, without their first factor. */
export function biasGradient(network, layer, unit) {
  const { z } = forward(network);
  const hidden = network.layers.length - 1;
  const reach = (l, k) => {
    if (l >= hidden || !(z[l][k] > 0)) return 0;
    if (l + 1 === hidden) return 1;
    return network.layers[l + 1].weights.reduce((sum, row, next) => sum + row[k] * reach(l + 1, next), 1);
  };
  return reach(layer, unit);
}

const small = (digits, text) => String(text).replace(/\d/g, (digit) => digits[digit]);
export const above = (number) => `⁽${small("⁰¹²³⁴⁵⁶⁷⁸⁹", number)}⁾`;
export const below = (number) => small("₀₁₂₃₄₅₆₇₈₉", number);
export const unitName = (layer, unit) => (layer < 0 ? `x${below(unit + 1)}` : `a${above(layer + 1)}${below(unit + 1)}`);
export const weightName = ([layer, unit, source]) => `W${above(layer + 1)}${below(unit + 1)}${below(source + 1)}`;

/** What the picture says, in words. */
export function sentence(network, chosen) {
  const [layer, unit, source] = chosen;
  const name = `${weightName(chosen)} (${unitName(layer - 1, source)} → ${layer < network.layers.length - 1 ? unitName(layer, unit) : `output ${unit + 1}`})`;
  if (layer >= network.layers.length - 1) return `${name}: no hidden unit depends on it, the penalty's gradient is 0.`;
  const { z } = forward(network);
  if (!(z[layer][unit] > 0)) return `${name}: its unit is silent, no path carries anything, the penalty's gradient is 0.`;
  const list = paths(network, chosen);
  const [own, back] = [list[0].value, total(list.slice(1))];
  const split = list.length > 1 ? ` = ${fixed(own)} own ${back < 0 ? "−" : "+"} ${fixed(Math.abs(back))} come back` : ", all of it its own";
  return `${name}: the penalty's gradient is ${fixed(own + back)}${split}. The unit's bias gets ${fixed(biasGradient(network, layer, unit))}.`;
}

/** The rows of the table: path, product, contribution; the last row is the sum. */
export function rows(network, chosen) {
  const [layer, , source] = chosen;
  if (layer >= network.layers.length - 1) return [["all paths", "", fixed(0)]];
  const list = paths(network, chosen);
  const { z } = forward(network);
  const body = list.map(({ units, factors, value }) => {
    const way = [unitName(layer - 1, source), ...units.map((unit, k) => unitName(layer + k, unit))].join(" → ");
    const stop = units.findIndex((unit, k) => !(z[layer + k][unit] > 0));
    const product = stop < 0 ? factors.map((factor) => fixed(factor)).join(" × ") : `stops at ${unitName(layer + stop, units[stop])}`;
    return [way, product, fixed(value)];
  });
  return [...body, ["all paths", "", fixed(total(list))]];
}

/** The weight whose line passes nearest to a point. `place(layer, unit)` says where a unit stands; −1 is the input. */
export function nearestWeight(sizes, place, x, y) {
  let [best, least] = [[0, 0, 0], Infinity];
  sizes.slice(1).forEach((units, layer) => {
    for (let unit = 0; unit < units; unit++)
      for (let source = 0; source < sizes[layer]; source++) {
        const [from, to] = [place(layer - 1, source), place(layer, unit)];
        const [dx, dy] = [to.x - from.x, to.y - from.y];
        const t = clamp(((x - from.x) * dx + (y - from.y) * dy) / (dx * dx + dy * dy), 0, 1);
        const away = (from.x + t * dx - x) ** 2 + (from.y + t * dy - y) ** 2;
        if (away < least) [best, least] = [[layer, unit, source], away];
      }
  });
  return best;
}

/** The weight a key leads to: up and down through the units it may end in, left and right through layers; null for other keys. */
export function keyTarget(key, [layer, unit, source], sizes) {
  const order = sizes.slice(1).flatMap((units, l) =>
    Array.from({ length: units * sizes[l] }, (_, k) => [l, Math.floor(k / sizes[l]), k % sizes[l]]));
  const at = order.findIndex((other) => other.join() === [layer, unit, source].join());
  if (key === "Home") return order[0];
  if (key === "End") return order.at(-1);
  if (key === "ArrowDown" || key === "ArrowUp") return order[clamp(at + (key === "ArrowDown" ? 1 : -1), 0, order.length - 1)];
  const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
  if (step === undefined) return null;
  const next = clamp(layer + step, 0, sizes.length - 2);
  return [next, Math.min(unit, sizes[next + 1] - 1), Math.min(source, sizes[next] - 1)];
}

const [WIDTH, HEIGHT, RADIUS] = [360, 288, 16];

function render({ model, el }) {
  const stop = new AbortController();
  const on = (node, type, act) => node.addEventListener(type, act, { signal: stop.signal });
  const set = (values) => {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
  };
  const now = () => unpack(model.get("sizes"), model.get("parameters"));
  const change = (edit) => {
    const network = now();
    edit(network);
    set({ parameters: pack(network) });
  };
  const root = widgetRoot(el, "sb-penalty-paths", "The paths of the penalty's gradient in a small network");
  const top = controls(root);
  const shape = choice(top, {
    legend: "Hidden layers", options: { 2: "two", 3: "three" }, value: "2",
    onChange: (layers) => begin(SHAPES[layers]),
  });
  const begin = (sizes) => set({
    sizes: [...sizes], parameters: drawNumbers(sizes, Math.floor(Math.random() * 2 ** 32)), chosen: [0, 0, 0],
  });
  button(top, "New network", () => set({ parameters: drawNumbers(model.get("sizes"), Math.floor(Math.random() * 2 ** 32)) }));
  const pick = html(html(top, "label", { class: "sb-pick" }, "Weight "), "select");
  on(pick, "change", () => set({ chosen: pick.value.split(" ").map(Number) }));
  const say = readout(root);

  const panels = html(root, "div", { class: "sb-panels" });
  const figure = html(panels, "figure", { class: "sb-panel" });
  const caption = html(figure, "figcaption", { id: uniqueId("paths") }, "Tap a line, or use the arrow keys");
  const board = svg(figure, "svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "sb-net", tabindex: 0, role: "application", "aria-labelledby": caption.id,
    "aria-roledescription": "network",
  });
  const drawing = svg(board, "g", { "aria-hidden": "true" });
  const key = html(figure, "p", { class: "sb-key", "aria-hidden": "true" });
  for (const [style, text] of Object.entries({ "sb-chosen": "chosen weight", "sb-plus": "path that pushes it down", "sb-minus": "path that pushes it up" })) {
    const item = html(key, "span");
    svg(svg(item, "svg", { viewBox: "0 0 28 8", width: 28, height: 8 }), "path", { class: style, d: "M1 4H27" });
    html(item, "span", {}, text);
  }
  const side = html(panels, "div", { class: "sb-side" });
  const knobs = html(side, "div", { class: "sb-knobs" });
  const list = table(side, "Paths to penalised units", ["path", "product", "share"]);

  const place = (layer, unit) => {
    const sizes = model.get("sizes");
    const count = sizes[layer + 1];
    return {
      x: 24 + ((WIDTH - 48) * (layer + 1)) / (sizes.length - 1),
      y: 30 + ((HEIGHT - 48) * (unit + 0.5)) / count,
    };
  };
  on(board, "pointerdown", (event) => {
    const box = board.getBoundingClientRect();
    const [x, y] = [((event.clientX - box.left) * WIDTH) / box.width, ((event.clientY - box.top) * HEIGHT) / box.height];
    set({ chosen: nearestWeight(model.get("sizes"), place, x, y) });
  });
  on(board, "keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const next = keyTarget(event.key, model.get("chosen"), model.get("sizes"));
    if (next === null) return;
    set({ chosen: next });
    event.preventDefault();
  });

  let built = ""; // the shape for which sliders and choices stand
  let inputs = [];
  let weight = null;
  let bias = null;
  function rebuild(sizes) {
    built = sizes.join();
    shape.set(String(sizes.length - 2));
    pick.replaceChildren();
    sizes.slice(1).forEach((units, layer) => {
      const group = html(pick, "optgroup", { label: layer < sizes.length - 2 ? `layer ${layer + 1}` : "output layer" });
      for (let unit = 0; unit < units; unit++)
        for (let source = 0; source < sizes[layer]; source++) {
          const end = layer < sizes.length - 2 ? unitName(layer, unit) : `output ${unit + 1}`;
          html(group, "option", { value: `${layer} ${unit} ${source}` }, `${weightName([layer, unit, source])}: ${unitName(layer - 1, source)} → ${end}`);
        }
    });
    knobs.replaceChildren();
    const knob = (label, min, max, act) =>
      slider(knobs, { label, min, max, step: 0.01, value: 0, format: fixed, onInput: (value) => change((network) => act(network, value)) });
    inputs = Array.from({ length: sizes[0] }, (_, j) => knob(unitName(-1, j), 0, 1, ({ signal }, value) => (signal[j] = value)));
    weight = knob("weight", -2, 2, ({ layers }, value) => {
      const [layer, unit, source] = model.get("chosen");
      layers[layer].weights[unit][source] = value;
    });
    bias = knob("bias of its unit", -2, 2, ({ layers }, value) => {
      const [layer, unit] = model.get("chosen");
      layers[layer].biases[unit] = value;
    });
  }

  function draw() {
    const sizes = model.get("sizes");
    const numbers = model.get("parameters");
    if (numbers.length !== parameterCount(sizes)) return; // the other half of a change is on its way
    if (built !== sizes.join()) rebuild(sizes);
    const network = now();
    const chosen = model.get("chosen");
    const [layer, unit, source] = chosen;
    if (layer >= sizes.length - 1 || unit >= sizes[layer + 1] || source >= sizes[layer]) return;
    const hidden = sizes.length - 2;
    const { z, a } = forward(network);
    const found = layer < hidden ? paths(network, chosen) : [];
    const flows = edgeFlows(found, layer);
    drawing.replaceChildren();
    const line = (l, i, j, style, width) => {
      const [from, to] = [place(l - 1, j), place(l, i)];
      const attributes = { class: style, d: `M${from.x} ${from.y}L${to.x} ${to.y}`, "data-weight": `${l} ${i} ${j}` };
      const node = svg(drawing, "path", attributes);
      if (width) node.style.strokeWidth = width.toFixed(2);
      return node;
    };
    const later = [];
    network.layers.forEach(({ weights }, l) => weights.forEach((row, i) => row.forEach((_, j) => {
      const flow = flows[`${l} ${i} ${j}`] ?? 0;
      if (flow) later.push(() => line(l, i, j, flow > 0 ? "sb-plus" : "sb-minus", 1.5 + 9 * Math.min(1, Math.abs(flow))).setAttribute("data-flow", flow));
      else line(l, i, j, "sb-thread");
    })));
    later.forEach((act) => act());
    line(layer, unit, source, "sb-chosen");
    sizes.forEach((count, column) => {
      const l = column - 1;
      const middle = place(l, 0).x;
      const title = l < 0 ? "input" : l < hidden ? `layer ${l + 1}` : "output";
      svg(drawing, "text", { class: "sb-title", x: clamp(middle, 22, WIDTH - 24), y: 14, "text-anchor": "middle" }, title);
      for (let k = 0; k < count; k++) {
        const { x, y } = place(l, k);
        const value = l < 0 ? network.signal[k] : a[l][k];
        const dead = l >= 0 && l < hidden && !(z[l][k] > 0);
        const ends = found.filter(({ units }) => units.length === l - layer + 1 && units.at(-1) === k);
        const lit = ends.some((path) => path.value !== 0);
        const style = `sb-unit${dead ? " sb-dead" : ""}${lit ? " sb-lit" : ""}`;
        svg(drawing, "circle", { class: style, cx: x, cy: y, r: RADIUS });
        svg(drawing, "text", { class: "sb-value", x, y: y + 4, "text-anchor": "middle" }, dead ? "0" : fixed(value, value <= -0.095 || value >= 9.5 ? 1 : 2));
      }
    });
    inputs.forEach(({ set: show }, j) => show(network.signal[j]));
    weight.set(network.layers[layer].weights[unit][source]);
    bias.set(network.layers[layer].biases[unit]);
    pick.value = chosen.join(" ");
    say.textContent = sentence(network, chosen);
    list.set(rows(network, chosen));
  }
  const names = ["sizes", "parameters", "chosen"];
  for (const name of names) model.on(`change:${name}`, draw);
  draw();
  return () => {
    stop.abort();
    for (const name of names) model.off(`change:${name}`, draw);
  };
}

export default { render };
