// Widget of "Autoencoders": drag the price, watch an autoencoder rebuild a digit, and its code; switch units of the code off.
import { button, clamp, controls, html, readout, slider, table, uniqueId, widgetRoot } from "./common.js";
import {
  activeCount, denseStates, digitPicker, greyAround, greyUp, largest, networkShelf, paintSheet, priceText, rectify, tileSheet, unpackDigits,
} from "./stored_networks.js";

/** The layers of an autoencoder with three hidden layers, the output rectified too; `silenced` units of the code say 0. */
export function run(tensors, pixels, silenced = []) {
  const layer = (k, input) => rectify(denseStates(tensors[2 * k], tensors[2 * k + 1], input));
  const encoder = layer(0, pixels);
  const code = layer(1, encoder);
  const heard = code.map((value, unit) => (silenced.includes(unit) ? 0 : value));
  const decoder = layer(2, heard);
  return { encoder, code, heard, decoder, image: layer(3, decoder) };
}

/** The mean squared error per pixel. */
export const errorOf = (image, rebuilt) => image.reduce((sum, value, k) => sum + (value - rebuilt[k]) ** 2, 0) / image.length;

/** Active units of the three hidden layers, as the decoder hears them. */
export const activity = ({ encoder, heard, decoder }) => [encoder, heard, decoder].map(activeCount);

/** The silenced units after one is pressed. */
export const toggled = (silenced, unit) =>
  silenced.includes(unit) ? silenced.filter((other) => other !== unit) : [...silenced, unit].sort((a, b) => a - b);

const errorText = (error) => error.toFixed(4);

/** What the pictures say, in words. */
export function sentence({ price, label, said, pixels, silenced, error, active }) {
  const [encoder, code, decoder] = activity(said);
  const off = silenced.length ? ` (${silenced.length} switched off)` : "";
  return (
    `λ = ${priceText(price)}: for this ${label}, ${code} of ${said.code.length} code units are active${off}, ${encoder} of ${said.encoder.length} in the encoder, ` +
    `${decoder} of ${said.decoder.length} in the decoder. Error per pixel: ${errorText(errorOf(pixels, said.image))}. ` +
    `On all test digits: ${errorText(error)}, with ${active.toFixed(1)} active units in all.`
  );
}

const SIDE = 28;

function render({ model, el }) {
  const set = (values) => {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
  };
  const shelf = networkShelf(model);
  const digits = unpackDigits(model.get("digits"));
  const labels = model.get("labels");
  const prices = model.get("coefficients");

  const root = widgetRoot(el, "sb-rebuilding", "An autoencoder's reconstruction of a digit at several prices");
  const picker = digitPicker(root, { digits, labels, value: model.get("digit"), onChange: (digit) => set({ digit }) });
  const top = controls(root);
  const knob = slider(top, {
    label: "Price λ", min: 0, max: prices.length - 1, step: 1, value: model.get("network"),
    format: (network) => priceText(prices[network]), onInput: (network) => set({ network }),
  });
  const reset = button(top, "Switch all units on", () => set({ silenced: [] }));
  const panels = html(root, "div", { class: "sb-panels" });
  const row = html(panels, "div", { class: "sb-trio" });
  const [input, output, miss] = ["digit", "rebuilt", "difference"].map((text) => {
    const figure = html(row, "figure", { class: "sb-tiles" });
    const caption = html(figure, "figcaption", { id: uniqueId("picture") }, text);
    return html(figure, "canvas", { width: SIDE, height: SIDE, role: "img", "aria-labelledby": caption.id });
  });
  const desk = html(panels, "div", { class: "sb-desk", role: "group", "aria-label": "Units of the code" });
  html(desk, "p", { class: "sb-title" }, "Code: press a unit to switch it off or on");
  const grid = html(desk, "div", { class: "sb-code" });
  const keys = Array.from({ length: shelf(0)[3].values.length }, (_, unit) => {
    const key = html(grid, "button", { type: "button", class: "sb-unit" });
    html(key, "span", { class: "sb-bar" });
    key.addEventListener("click", () => set({ silenced: toggled(model.get("silenced"), unit) }));
    return key;
  });
  const say = readout(root);
  const compared = table(root, "All autoencoders, no unit switched off", ["λ", "code, this digit", "error, this digit", "active, test digits", "error, test digits"]);

  const paint = (canvas, values, grey) => paintSheet(canvas, tileSheet(values, { count: 1, height: SIDE, width: SIDE, columns: 1, grey }));
  function draw() {
    const network = clamp(model.get("network"), 0, prices.length - 1);
    const [pixels, silenced] = [digits[model.get("digit")], model.get("silenced")];
    const said = run(shelf(network), pixels, silenced);
    picker.set(model.get("digit"));
    knob.set(network);
    reset.disabled = !silenced.length;
    paint(input, pixels, greyUp(1));
    paint(output, said.image, greyUp(1));
    paint(miss, said.image.map((value, k) => value - pixels[k]), greyAround(1));
    const loudest = largest(said.code);
    keys.forEach((key, unit) => {
      const value = said.code[unit];
      const off = silenced.includes(unit);
      key.setAttribute("aria-pressed", String(!off));
      key.setAttribute("aria-label", `unit ${unit + 1}: ${value.toFixed(2)}${off ? ", switched off" : ""}`);
      key.querySelector("span").style.height = `${loudest > 0 ? (100 * value) / loudest : 0}%`;
    });
    compared.set(prices.map((price, k) => {
      const plain = run(shelf(k), pixels);
      return [priceText(price), activeCount(plain.code), errorText(errorOf(pixels, plain.image)), model.get("active")[k].toFixed(1), errorText(model.get("errors")[k])];
    }));
    compared.node.querySelectorAll("tbody tr").forEach((line, k) => {
      if (k === network) line.setAttribute("aria-current", "true");
    });
    const [label, error, active] = [labels[model.get("digit")], model.get("errors")[network], model.get("active")[network]];
    say.textContent = sentence({ price: prices[network], label, said, pixels, silenced, error, active });
  }
  const traits = ["digit", "network", "silenced"];
  for (const name of traits) model.on(`change:${name}`, draw);
  draw();
  return () => {
    for (const name of traits) model.off(`change:${name}`, draw);
  };
}

export default { render };
