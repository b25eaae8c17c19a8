// Widget of "Convolutional networks": drag the price, see maps, kernels, active units and accuracy of a trained network move together.
import { clamp, controls, html, readout, slider, table, uniqueId, widgetRoot } from "./common.js";
import {
  activeCount, argmax, denseStates, digitPicker, greyAround, greyUp, largest, mapStates, networkShelf, paintSheet, priceText, rectify,
  shareText, shortShare, softmax, tileSheet, tileTarget, unpackDigits,
} from "./stored_networks.js";

/** What a network makes of an image of 28 × 28 pixels: maps of both layers, the dense units, logits and probabilities. */
export function run(tensors, pixels) {
  const [kernels, biases, deeper, deeperBiases, dense, denseBiases, output, outputBiases] = tensors;
  const first = mapStates(kernels, biases, { count: 1, height: 28, width: 28, values: pixels });
  rectify(first.values);
  const second = mapStates(deeper, deeperBiases, first);
  rectify(second.values);
  const units = rectify(denseStates(dense, denseBiases, second.values));
  const logits = denseStates(output, outputBiases, units);
  return { first, second, units, logits, probabilities: softmax(logits) };
}

/** How many maps of a layer have no active unit. */
export function emptyMaps({ count, height, width, values }) {
  const area = height * width;
  return Array.from({ length: count }, (_, m) => activeCount(values.subarray(m * area, (m + 1) * area))).filter((active) => active === 0).length;
}

/** Active units of all three hidden layers. */
export const activity = ({ first, second, units }) => [first.values, second.values, units].map(activeCount);

const sum = (values) => values.reduce((total, value) => total + value, 0);

/** What the pictures say, in words. */
export function sentence({ price, label, said, accuracy, active }) {
  const counts = activity(said);
  const all = said.first.values.length + said.second.values.length + said.units.length;
  const answer = argmax(said.probabilities);
  return (
    `λ = ${priceText(price)}: for this ${label}, ${sum(counts)} of ${all} units are active: ${counts[0]} in the first maps, ${counts[1]} in the second, ` +
    `${counts[2]} of ${said.units.length} dense ones; ${emptyMaps(said.second)} of ${said.second.count} second maps are empty. ` +
    `It reads ${answer} (${shareText(said.probabilities[answer])}). On all test digits: ${(100 * accuracy).toFixed(2)} % right, ${active.toFixed(0)} units active.`
  );
}

const COLUMNS = { kernels: 6, first: 3, second: 4, units: 16 };

function render({ model, el }) {
  const stop = new AbortController();
  const on = (node, type, act) => node.addEventListener(type, act, { signal: stop.signal });
  const set = (name, value) => {
    model.set(name, value);
    model.save_changes();
  };
  const shelf = networkShelf(model);
  const digits = unpackDigits(model.get("digits"));
  const labels = model.get("labels");
  const prices = model.get("coefficients");
  let known = { digit: -1, said: [] };
  const saidBy = (network) => {
    if (known.digit !== model.get("digit")) known = { digit: model.get("digit"), said: [] };
    return (known.said[network] ??= run(shelf(network), digits[known.digit]));
  };

  const root = widgetRoot(el, "sb-feature-maps", "Feature maps of convolutional networks at several prices");
  const picker = digitPicker(root, { digits, labels, value: model.get("digit"), onChange: (digit) => set("digit", digit) });
  const knob = slider(controls(root), {
    label: "Price λ", min: 0, max: prices.length - 1, step: 1, value: model.get("network"),
    format: (network) => priceText(prices[network]), onInput: (network) => set("network", network),
  });
  const panels = html(root, "div", { class: "sb-panels" });
  const sheet = (parent, style, more = {}) => {
    const figure = html(parent, "figure", { class: `sb-tiles ${style}` });
    const caption = html(figure, "figcaption", { id: uniqueId("sheet") });
    const box = html(figure, "div", { class: "sb-sheet" });
    const canvas = html(box, "canvas", { role: "img", "aria-labelledby": caption.id, ...more });
    return { caption, box, canvas };
  };
  const [left, middle, right] = ["sb-one", "sb-two", "sb-three"].map((style) => html(panels, "div", { class: `sb-column ${style}` }));
  const kernels = sheet(left, "sb-first-kernels");
  const first = sheet(left, "sb-first-maps");
  const second = sheet(middle, "sb-second-maps", { "aria-hidden": "true" });
  const own = sheet(middle, "sb-second-kernels");
  const units = sheet(right, "sb-units");
  html(right, "p", { class: "sb-title" }, "Answer");
  const bars = html(right, "div", { class: "sb-bars", "aria-hidden": "true" });
  const rows = Array.from({ length: 10 }, (_, k) => {
    const name = html(bars, "span", {}, k);
    const fill = html(html(bars, "span", { class: "sb-track" }), "i");
    return { name, fill, share: html(bars, "span") };
  });
  const say = readout(root);
  const compared = table(root, "All networks", ["λ", "active, this digit", "active, test digits", "right, test digits"]);
  const cursor = html(second.box, "div", {
    class: "sb-cursor-frame", role: "slider", tabindex: 0, "aria-label": "Map of the second layer", "aria-valuemin": 1,
  });
  on(second.box, "pointerdown", (event) => {
    const { count } = saidBy(model.get("network")).second;
    const box = second.canvas.getBoundingClientRect();
    const place = (at, from, size, parts) => clamp(Math.floor(((at - from) / size) * parts), 0, parts - 1);
    const column = place(event.clientX, box.left, box.width, COLUMNS.second);
    const chosen = place(event.clientY, box.top, box.height, Math.ceil(count / COLUMNS.second)) * COLUMNS.second + column;
    if (chosen < count) set("chosen", chosen);
    cursor.focus({ preventScroll: true });
    event.preventDefault();
  });
  on(cursor, "keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const next = tileTarget(event.key, model.get("chosen"), saidBy(model.get("network")).second.count, COLUMNS.second);
    if (next === null) return;
    set("chosen", next);
    event.preventDefault();
  });

  const magnitude = (values) => largest(values.map(Math.abs));
  function paintMaps(target, maps, columns) {
    paintSheet(target.canvas, tileSheet(maps.values, { ...maps, columns, grey: greyUp(largest(maps.values)) }));
  }
  function drawChosen(said, tensors) {
    const chosen = clamp(model.get("chosen"), 0, said.second.count - 1);
    const [, channels, side] = tensors[2].shape;
    const area = channels * side * side;
    const values = tensors[2].values.subarray(chosen * area, (chosen + 1) * area);
    const grey = greyAround(magnitude(tensors[2].values));
    paintSheet(own.canvas, tileSheet(values, { count: channels, height: side, width: side, columns: COLUMNS.kernels, grey }));
    own.caption.textContent = `Its kernels for map ${chosen + 1}, one for each first map (grey: zero)`;
    const [wide, high] = [COLUMNS.second, Math.ceil(said.second.count / COLUMNS.second)];
    cursor.style.cssText = `left:${(100 * (chosen % wide)) / wide}%;top:${(100 * Math.floor(chosen / wide)) / high}%;width:${100 / wide}%;height:${100 / high}%`;
    const map = said.second.values.subarray(chosen * said.second.height * said.second.width, (chosen + 1) * said.second.height * said.second.width);
    cursor.setAttribute("aria-valuemax", said.second.count);
    cursor.setAttribute("aria-valuenow", chosen + 1);
    cursor.setAttribute("aria-valuetext", `map ${chosen + 1}: ${activeCount(map)} of ${map.length} units active`);
  }
  function draw() {
    const network = clamp(model.get("network"), 0, prices.length - 1);
    const [tensors, said] = [shelf(network), saidBy(network)];
    const counts = activity(said);
    picker.set(model.get("digit"));
    knob.set(network);
    const [count, , side] = tensors[0].shape;
    const grey = greyAround(magnitude(tensors[0].values));
    paintSheet(kernels.canvas, tileSheet(tensors[0].values, { count, height: side, width: side, columns: COLUMNS.kernels, grey }));
    kernels.caption.textContent = "Kernels of the first layer (grey: zero)";
    paintMaps(first, said.first, COLUMNS.first);
    first.caption.textContent = `First maps: ${counts[0]} of ${said.first.values.length} units active`;
    paintMaps(second, said.second, COLUMNS.second);
    second.caption.textContent = `Second maps (tap, or arrow keys): ${counts[1]} of ${said.second.values.length} active, ${emptyMaps(said.second)} of ${said.second.count} empty`;
    drawChosen(said, tensors);
    const squares = Array.from(said.units).flatMap((value) => new Array(16).fill(value)); // four pixels by four for each unit
    const line = { count: said.units.length, height: 4, width: 4, columns: COLUMNS.units, grey: greyUp(largest(said.units)) };
    paintSheet(units.canvas, tileSheet(squares, line));
    units.caption.textContent = `Dense units: ${counts[2]} of ${said.units.length} active`;
    rows.forEach(({ name, fill, share }, k) => {
      fill.style.width = `${100 * said.probabilities[k]}%`;
      share.textContent = shortShare(said.probabilities[k]);
      name.className = share.className = k === argmax(said.probabilities) ? "sb-first" : "";
    });
    compared.set(prices.map((price, k) => [
      priceText(price), sum(activity(saidBy(k))), model.get("active")[k].toFixed(0), `${(100 * model.get("accuracy")[k]).toFixed(2)} %`,
    ]));
    compared.node.querySelectorAll("tbody tr").forEach((row, k) => {
      if (k === network) row.setAttribute("aria-current", "true");
    });
    const [label, accuracy, active] = [labels[model.get("digit")], model.get("accuracy")[network], model.get("active")[network]];
    say.textContent = sentence({ price: prices[network], label, said, accuracy, active });
  }
  const traits = ["digit", "network", "chosen"];
  for (const name of traits) model.on(`change:${name}`, draw);
  draw();
  return () => {
    stop.abort();
    for (const name of traits) model.off(`change:${name}`, draw);
  };
}

export default { render };
