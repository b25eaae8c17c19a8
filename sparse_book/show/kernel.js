// Widget of "Convolution": slide a kernel of three by three weights over an image and watch the map fill.
// Images and maps are {width, height, values}, row by row; a place is the number of a window, row by row.
import { button, choice, clamp, controls, fixed, html, readout, slider, svg, table, uniqueId, widgetRoot } from "./common.js";

export const SIDE = 3;

/** Kernels by name; each is nine weights, row by row. */
export const PRESETS = {
  "vertical edges": [-1, 0, 1, -1, 0, 1, -1, 0, 1],
  "horizontal edges": [-1, -1, -1, 0, 0, 0, 1, 1, 1],
  "diagonal edges": [0, 1, 1, -1, 0, 1, -1, -1, 0],
  "dots": [-1, -1, -1, -1, 8, -1, -1, -1, -1],
  "mean": [1, 1, 1, 1, 1, 1, 1, 1, 1],
  "copy": [0, 0, 0, 0, 1, 0, 0, 0, 0],
  "shift": [0, 0, 0, 1, 0, 0, 0, 0, 0],
};

/** The name of a preset with these weights, or "own". */
export const presetOf = (weights) =>
  Object.keys(PRESETS).find((name) => PRESETS[name].every((weight, k) => weight === weights[k])) ?? "own";

/** How many windows of three pixels fit on a side. */
export const outputSize = (size, stride, padding) => Math.floor((size + 2 * padding - SIDE) / stride) + 1;

/** How many windows there are in all. */
export const placeCount = ({ width, height }, stride, padding) => outputSize(width, stride, padding) * outputSize(height, stride, padding);

/** Row and column of the upper left pixel of a window; negative in the padding. */
export function corner(image, place, stride, padding) {
  const columns = outputSize(image.width, stride, padding);
  return { row: Math.floor(place / columns) * stride - padding, column: (place % columns) * stride - padding };
}

/** The nine pixels under a window, zeros in the padding. */
export function pixelsUnder(image, place, stride, padding) {
  const { row, column } = corner(image, place, stride, padding);
  return Array.from({ length: SIDE * SIDE }, (_, k) => {
    const [i, j] = [row + Math.floor(k / SIDE), column + (k % SIDE)];
    return i < 0 || j < 0 || i >= image.height || j >= image.width ? 0 : image.values[i * image.width + j];
  });
}

/** What the kernel answers to a window: the sum of nine products. */
export const answer = (image, weights, place, stride, padding) =>
  pixelsUnder(image, place, stride, padding).reduce((sum, pixel, k) => sum + pixel * weights[k], 0);

/** The whole map. */
export function correlate(image, weights, stride, padding) {
  const values = Array.from({ length: placeCount(image, stride, padding) }, (_, place) => answer(image, weights, place, stride, padding));
  return { width: outputSize(image.width, stride, padding), height: outputSize(image.height, stride, padding), values };
}

/** The place whose window has its middle nearest to a pixel. */
export function nearestPlace(image, row, column, stride, padding) {
  const index = (at, size) => clamp(Math.round((at - 1 + padding) / stride), 0, outputSize(size, stride, padding) - 1);
  return index(row, image.height) * outputSize(image.width, stride, padding) + index(column, image.width);
}

/** The place that a key leads to; null for other keys. */
export function keyPlace(key, place, columns, count) {
  if (key === "Home") return 0;
  if (key === "End") return count - 1;
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[key];
  if (step === undefined) return null;
  const next = place + step;
  return next < 0 || next >= count ? place : next;
}

/** What the picture says, in words. */
export function sentence(image, weights, place, stride, padding) {
  const columns = outputSize(image.width, stride, padding);
  const [i, j] = [Math.floor(place / columns) + 1, (place % columns) + 1];
  const sum = answer(image, weights, place, stride, padding);
  return `Row ${i}, column ${j} of the map: ${fixed(sum)}. ${image.height} × ${image.width} pixels give ${outputSize(image.height, stride, padding)} × ${columns} values.`;
}

/** Grey for a value between −1 and 1: 0 is in the middle. */
export const grey = (value) => {
  const level = Math.round(127.5 * (1 + clamp(value, -1, 1)));
  return `rgb(${level},${level},${level})`;
};

const BOARD = 300;

function render({ model, el }) {
  const stop = new AbortController();
  const on = (node, type, act) => node.addEventListener(type, act, { signal: stop.signal });
  const set = (values) => {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
  };
  const now = () => {
    const { width, height, values } = model.get("images")[model.get("image")];
    return [{ width, height, values }, model.get("stride"), model.get("padding")];
  };
  /** Change a number that decides how many windows there are; the window begins anew. */
  const reshape = (values) => {
    halt();
    set({ ...values, place: 0 });
  };
  const root = widgetRoot(el, "sb-kernel", "A kernel that slides over an image");
  const top = controls(root);
  const names = Object.keys(model.get("images"));
  const pictures = choice(top, {
    legend: "Image", options: Object.fromEntries(names.map((name) => [name, name])), value: model.get("image"),
    onChange: (image) => reshape({ image }),
  });
  const pick = html(html(top, "label", { class: "sb-pick" }, "Kernel "), "select", { "aria-label": "Kernel" });
  for (const name of [...Object.keys(PRESETS), "own"]) html(pick, "option", { value: name, ...(name === "own" ? { disabled: "" } : {}) }, name);
  on(pick, "change", () => set({ weights: [...PRESETS[pick.value]] }));
  const middle = controls(root);
  const stride = slider(middle, { label: "stride", min: 1, max: 3, step: 1, value: 1, onInput: (value) => reshape({ stride: value }) });
  const padding = slider(middle, { label: "padding", min: 0, max: 2, step: 1, value: 0, onInput: (value) => reshape({ padding: value }) });
  const window_ = slider(middle, { label: "window", min: 1, max: 1, step: 1, value: 1, onInput: (value) => { halt(); set({ place: value - 1 }); } });
  const play = button(middle, "Slide", () => (timer ? halt() : slide()));
  const say = readout(root);

  const panels = html(root, "div", { class: "sb-panels" });
  const board = (title, more = {}) => {
    const figure = html(panels, "figure", { class: "sb-panel sb-board" });
    const caption = html(figure, "figcaption", { id: uniqueId("kernel") }, title);
    return svg(figure, "svg", { viewBox: `0 0 ${BOARD} ${BOARD}`, "aria-labelledby": caption.id, ...more });
  };
  const left = board("Image (tap, or arrow keys)", { tabindex: 0, role: "application", "aria-roledescription": "image", class: "sb-image" });
  const right = board("Map", { role: "img", class: "sb-map" });
  const side = html(panels, "div", { class: "sb-side" });
  html(side, "p", { class: "sb-title" }, "Weights");
  const grid = html(side, "div", { class: "sb-weights" });
  const inputs = Array.from({ length: SIDE * SIDE }, (_, k) => {
    const label = `weight in row ${Math.floor(k / SIDE) + 1}, column ${(k % SIDE) + 1}`;
    const input = html(grid, "input", { type: "number", min: -9, max: 9, step: 0.5, "aria-label": label });
    on(input, "change", () => {
      const weights = [...model.get("weights")];
      weights[k] = Number.isFinite(input.valueAsNumber) ? clamp(input.valueAsNumber, -9, 9) : 0;
      set({ weights });
    });
    return input;
  });
  const products = table(side, "Pixel × weight", ["", "", ""]);

  let timer = 0;
  function halt() {
    clearInterval(timer);
    timer = 0;
    play.textContent = "Slide";
  }
  function slide() {
    const [image, s, p] = now();
    const count = placeCount(image, s, p);
    if (model.get("place") >= count - 1) set({ place: 0 });
    play.textContent = "Stop";
    timer = setInterval(() => {
      if (model.get("place") >= count - 1) halt();
      else set({ place: model.get("place") + 1 });
    }, Math.max(15, 6000 / count));
  }
  const cell = () => {
    const [image, , p] = now();
    return BOARD / (Math.max(image.width, image.height) + 2 * p);
  };
  on(left, "pointerdown", (event) => {
    const box = left.getBoundingClientRect();
    const [image, s, p] = now();
    const size = (cell() * box.width) / BOARD;
    halt();
    set({ place: nearestPlace(image, Math.floor((event.clientY - box.top) / size) - p, Math.floor((event.clientX - box.left) / size) - p, s, p) });
  });
  on(left, "keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const [image, s, p] = now();
    const next = keyPlace(event.key, model.get("place"), outputSize(image.width, s, p), placeCount(image, s, p));
    if (next === null) return;
    halt();
    set({ place: next });
    event.preventDefault();
  });

  const square = (parent, row, column, size, fill, style) =>
    svg(parent, "rect", { x: (column * size).toFixed(2), y: (row * size).toFixed(2), width: size.toFixed(2), height: size.toFixed(2), fill, class: style });
  let drawn = "";
  const [base, mark, filled] = [svg(left, "g", { "aria-hidden": "true" }), svg(left, "g", { "aria-hidden": "true" }), svg(right, "g", { "aria-hidden": "true" })];
  function drawImage(image, p) {
    const key = [model.get("image"), p].join();
    if (key === drawn) return;
    drawn = key;
    base.replaceChildren();
    for (let i = -p; i < image.height + p; i++)
      for (let j = -p; j < image.width + p; j++) {
        const inside = i >= 0 && j >= 0 && i < image.height && j < image.width;
        square(base, i + p, j + p, cell(), inside ? grey(2 * image.values[i * image.width + j] - 1) : "none", inside ? "sb-pixel" : "sb-padding");
      }
  }
  function draw() {
    const [image, s, p] = now();
    const weights = model.get("weights");
    const count = placeCount(image, s, p);
    if (count < 1 || weights.length !== SIDE * SIDE) return;
    const place = clamp(model.get("place"), 0, count - 1);
    drawImage(image, p);
    const { row, column } = corner(image, place, s, p);
    mark.replaceChildren();
    svg(mark, "rect", {
      x: ((column + p) * cell()).toFixed(2), y: ((row + p) * cell()).toFixed(2), width: (SIDE * cell()).toFixed(2), height: (SIDE * cell()).toFixed(2),
      class: "sb-window",
    });
    const map = correlate(image, weights, s, p);
    const top_ = Math.max(...map.values.map(Math.abs), 1e-9);
    const size = BOARD / Math.max(map.width, map.height);
    filled.replaceChildren();
    svg(filled, "rect", { x: 0, y: 0, width: (size * map.width).toFixed(2), height: (size * map.height).toFixed(2), class: "sb-frame" });
    for (let k = 0; k <= place; k++) square(filled, Math.floor(k / map.width), k % map.width, size, grey(map.values[k] / top_), "sb-value");
    square(filled, Math.floor(place / map.width), place % map.width, size, "none", "sb-window");
    pictures.set(model.get("image"));
    pick.value = presetOf(weights);
    stride.set(s);
    padding.set(p);
    window_.input.max = count;
    window_.set(place + 1);
    inputs.forEach((input, k) => (input.value = weights[k]));
    const under = pixelsUnder(image, place, s, p);
    products.set([0, 1, 2].map((i) => [0, 1, 2].map((j) => `${fixed(under[3 * i + j])} × ${String(weights[3 * i + j]).replace("-", "−")}`)));
    say.textContent = sentence(image, weights, place, s, p);
  }
  const traits = ["images", "image", "weights", "stride", "padding", "place"];
  for (const name of traits) model.on(`change:${name}`, draw);
  draw();
  return () => {
    halt();
    stop.abort();
    for (const name of traits) model.off(`change:${name}`, draw);
  };
}

export default { render };
