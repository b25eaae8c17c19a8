// What the widgets with trained networks share: weights from bytes, layers, and a row of digits to choose from.
// Imports nothing: `bundle` in widget.py pastes this file in front of a widget's own script.

const viewOf = (Kind, view) => new Kind(view.buffer, view.byteOffset, view.byteLength);

/** How many numbers a shape holds. */
export const sizeOf = (shape) => shape.reduce((product, side) => product * side, 1);

/** The tensors of one network, code times scale: [{shape, values}], in the order in which they were stored. */
export function unpackNetwork({ codes, scales, shapes }, network) {
  const bytes = viewOf(Int8Array, codes);
  let at = network * shapes.reduce((sum, shape) => sum + sizeOf(shape), 0);
  return shapes.map((shape, k) => {
    const values = Float64Array.from(bytes.subarray(at, (at += sizeOf(shape))), (code) => code * scales[network][k]);
    return { shape, values };
  });
}

/** All networks of a widget, each unpacked when it is first asked for. */
export function networkShelf(model) {
  const stored = { codes: model.get("codes"), scales: model.get("scales"), shapes: model.get("shapes") };
  const shelf = [];
  return (network) => (shelf[network] ??= unpackNetwork(stored, network));
}

/** The stored digits as arrays of numbers from 0 to 1. */
export function unpackDigits(view, pixels = 784) {
  const bytes = viewOf(Uint8Array, view);
  return Array.from({ length: bytes.length / pixels }, (_, k) => Float64Array.from(bytes.subarray(k * pixels, (k + 1) * pixels), (byte) => byte / 255));
}

/** The states of a dense layer: W x + b. */
export function denseStates(weight, bias, input) {
  const [units, sources] = weight.shape;
  const states = Float64Array.from(bias.values);
  for (let i = 0, at = 0; i < units; i++) {
    let sum = 0;
    for (let j = 0; j < sources; j++) sum += weight.values[at++] * input[j];
    states[i] += sum;
  }
  return states;
}

/** The states of a convolutional layer: every kernel at every place, stride 1, no padding. Maps are {count, height, width, values}. */
export function mapStates(kernels, bias, { height, width, values }) {
  const [count, channels, side] = kernels.shape;
  const [high, wide] = [height - side + 1, width - side + 1];
  const out = { count, height: high, width: wide, values: new Float64Array(count * high * wide) };
  for (let m = 0; m < count; m++)
    for (let i = 0; i < high; i++)
      for (let j = 0; j < wide; j++) {
        let sum = bias.values[m];
        for (let c = 0; c < channels; c++)
          for (let u = 0; u < side; u++) {
            const [from, at] = [(c * height + i + u) * width + j, ((m * channels + c) * side + u) * side];
            for (let v = 0; v < side; v++) sum += kernels.values[at + v] * values[from + v];
          }
        out.values[(m * high + i) * wide + j] = sum;
      }
  return out;
}

/** Set what is negative to zero, in place. */
export function rectify(values) {
  for (let k = 0; k < values.length; k++) if (!(values[k] > 0)) values[k] = 0;
  return values;
}

/** Probabilities from logits. */
export function softmax(logits) {
  const top = Math.max(...logits);
  const powers = Array.from(logits, (logit) => Math.exp(logit - top));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

/** How many activations are not zero. */
export const activeCount = (values) => values.reduce((count, value) => count + (value > 0 ? 1 : 0), 0);

export const largest = (values) => values.reduce((top, value) => Math.max(top, value), 0);

export const argmax = (values) => values.reduce((best, value, k) => (value > values[best] ? k : best), 0);

/** A price as one writes it: 0.00005, not 5e-5. */
export const priceText = (price) => (price === 0 ? "0" : price.toFixed(7).replace(/\.?0+$/, ""));

/** A share as one reads it: never "100.0 %" of what is not certain. */
export function shareText(share) {
  const rounded = (100 * share).toFixed(1);
  if (rounded === "100.0" && share < 1) return "over 99.9 %";
  return rounded === "0.0" && share > 0 ? "under 0.1 %" : `${rounded} %`;
}

/** The same beside a bar. */
export const shortShare = (share) => shareText(share).replace("over ", ">").replace("under ", "<");

/** Pixels of a sheet of tiles with one clear pixel between them: {width, height, data}. `grey` maps a value to 0…255. */
export function tileSheet(values, { count, height, width, columns, grey }) {
  const rows = Math.ceil(count / columns);
  const sheet = { width: columns * (width + 1) - 1, height: rows * (height + 1) - 1 };
  sheet.data = new Uint8ClampedArray(4 * sheet.width * sheet.height);
  for (let k = 0; k < count; k++)
    for (let p = 0; p < height * width; p++) {
      const row = Math.floor(k / columns) * (height + 1) + Math.floor(p / width);
      const column = (k % columns) * (width + 1) + (p % width);
      const level = grey(values[k * height * width + p]);
      sheet.data.set([level, level, level, 255], 4 * (row * sheet.width + column));
    }
  return sheet;
}

/** Paint a sheet, or one image, on a canvas of any size. */
export function paintSheet(canvas, { width, height, data }) {
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  image.data.set(data);
  context.putImageData(image, 0, 0);
}

/** Grey levels: from 0 (black) to `top` (white); and from −top (black) to top (white), zero in the middle. */
export const greyUp = (top) => (value) => (top > 0 ? (255 * value) / top : 0);
export const greyAround = (top) => (value) => (top > 0 ? 127.5 * (1 + value / top) : 127.5);

/** The tile that a key leads to on a sheet, or null. */
export function tileTarget(key, from, count, columns) {
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[key];
  if (key === "Home") return 0;
  if (key === "End") return count - 1;
  if (step === undefined) return null;
  return from + step >= 0 && from + step < count ? from + step : from;
}

/** A number of a digit among those of its class: "a 7, the second". */
export function digitName(labels, k) {
  const before = labels.slice(0, k).filter((label) => label === labels[k]).length;
  return `${labels[k]}, ${["first", "second", "third", "fourth"][before] ?? `number ${before + 1}`}`;
}

/** Radio buttons that show digits. Returns {set}; `set(-1)` clears the choice. */
export function digitPicker(parent, { digits, labels, value, onChange }) {
  const add = (to, tag, style) => to.appendChild(Object.assign(document.createElement(tag), style ? { className: style } : {}));
  const group = add(parent, "fieldset", "sb-digits");
  add(group, "legend").textContent = "Digit";
  const name = `sb-digits-${Math.random().toString(36).slice(2)}`;
  const radios = digits.map((digit, k) => {
    const label = add(group, "label");
    const radio = Object.assign(add(label, "input"), { type: "radio", name, value: k });
    radio.setAttribute("aria-label", digitName(labels, k));
    const canvas = add(label, "canvas");
    canvas.setAttribute("aria-hidden", "true");
    paintSheet(canvas, tileSheet(digit, { count: 1, height: 28, width: 28, columns: 1, grey: greyUp(1) }));
    radio.addEventListener("change", () => onChange(k));
    return radio;
  });
  const set = (chosen) => radios.forEach((radio, k) => (radio.checked = k === chosen));
  set(value);
  return { set };
}
