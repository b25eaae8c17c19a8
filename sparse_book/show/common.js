// What the widgets of the book share: elements, controls, axes, images, numbers.
// No dependencies. `bundle` in widget.py pastes this file in front of a widget's own script.

const SVG_SPACE = "http://www.w3.org/2000/svg";

const fill = (node, attributes, text) => {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
};

/** Append an HTML element to `parent` and return it. */
export function html(parent, tag, attributes = {}, text) {
  return parent.appendChild(fill(document.createElement(tag), attributes, text));
}

/** Append an SVG element to `parent` and return it. */
export function svg(parent, tag, attributes = {}, text) {
  return parent.appendChild(fill(document.createElementNS(SVG_SPACE, tag), attributes, text));
}

/** A name that no other widget of the page has: each widget loads its own copy of the script. */
export const uniqueId = (prefix) => `${prefix}-${Math.random().toString(36).slice(2)}`;

/** A number as a reader expects it: fixed digits, a true minus sign, no "−0.00". */
export function fixed(value, digits = 2) {
  const text = value.toFixed(digits);
  return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", "−");
}

export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/** A reproducible generator of uniform numbers in [0, 1) (mulberry32). */
export function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** A standard normal number from a uniform generator (Box and Muller). */
export const normal = (uniform) => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());

/** The float32 numbers of a `traitlets.Bytes` trait, whatever its alignment. */
export function floats(view) {
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  return new Float32Array(bytes.slice().buffer);
}

/** The root element of a widget, named for screen readers. */
export function widgetRoot(el, name, label) {
  return html(el, "div", { class: `sb-widget ${name}`, role: "group", "aria-label": label });
}

/** A row that holds controls side by side and wraps. */
export const controls = (parent) => html(parent, "div", { class: "sb-controls" });

/** A labelled slider. Returns {set, input}; `set` shows a value without telling `onInput`. */
export function slider(parent, { label, min, max, step, value, format = String, onInput }) {
  const box = html(parent, "label", { class: "sb-slider" });
  html(box, "span", {}, label);
  const input = html(box, "input", { type: "range", min, max, step });
  const output = html(box, "output");
  const set = (next) => {
    input.value = next;
    output.textContent = format(next);
    input.setAttribute("aria-valuetext", format(next));
  };
  input.addEventListener("input", () => {
    set(Number(input.value));
    onInput(Number(input.value));
  });
  set(value);
  return { set, input };
}

/** A group of radio buttons from {key: label}. Returns {set}. */
export function choice(parent, { legend, options, value, onChange }) {
  const group = html(parent, "fieldset", { class: "sb-choice" });
  html(group, "legend", {}, legend);
  const name = uniqueId("sb-choice");
  const radios = Object.entries(options).map(([key, text]) => {
    const label = html(group, "label");
    const radio = html(label, "input", { type: "radio", name, value: key });
    html(label, "span", {}, text);
    radio.addEventListener("change", () => onChange(key));
    return radio;
  });
  const set = (key) => radios.forEach((radio) => (radio.checked = radio.value === key));
  set(value);
  return { set };
}

/** A push button. */
export function button(parent, label, onClick) {
  const node = html(parent, "button", { type: "button", class: "sb-button" }, label);
  node.addEventListener("click", onClick);
  return node;
}

/** A sentence that says what the picture shows; screen readers hear its changes. */
export const readout = (parent) => html(parent, "p", { class: "sb-readout", role: "status", "aria-live": "polite" });

/** Let the Tab key reach a box while its content is larger than it, so that the arrow keys scroll it. */
export function scrollable(box, label) {
  if (typeof ResizeObserver === "undefined") return;
  const names = { tabindex: "0", role: "group", "aria-label": label };
  const check = () => {
    const scrolls = box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1;
    for (const [name, value] of Object.entries(names)) scrolls ? box.setAttribute(name, value) : box.removeAttribute(name);
  };
  const observer = new ResizeObserver(check);
  for (const node of [box, ...box.children]) observer.observe(node);
}

/** A table from a header and rows of cells; `set(rows)` replaces the body. */
export function table(parent, caption, header) {
  const box = html(parent, "div", { class: "sb-table" });
  const node = html(box, "table");
  scrollable(box, caption);
  html(node, "caption", {}, caption);
  const line = html(html(node, "thead"), "tr");
  for (const text of header) html(line, "th", { scope: "col" }, text);
  const body = html(node, "tbody");
  const set = (rows) => {
    body.replaceChildren();
    for (const row of rows) {
      const tr = html(body, "tr");
      row.forEach((text, k) => html(tr, k ? "td" : "th", k ? {} : { scope: "row" }, text));
    }
  };
  return { node, set };
}

const tickText = (value) => String(Math.round(value * 1e6) / 1e6).replace("-", "−");

/**
 * Axes for curves. `x` and `y` are {low, high, ticks, label, log}.
 * Returns {svg, X, Y, unX, unY, curves, over, inner}: scales to and from drawing units, a clipped
 * group for curves and a group above it. The drawing is 360 units wide and shrinks with the page.
 */
export function plot(parent, { caption, x, y, height = 250, tick = tickText }) {
  const id = uniqueId("sb-plot");
  const width = 360;
  const inner = { left: 44, right: width - 12, top: 12, bottom: height - 40 };
  const figure = html(parent, "figure", { class: "sb-panel" });
  html(figure, "figcaption", { id }, caption);
  const root = svg(figure, "svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-labelledby": id });
  const scale = ({ low, high, log }, from, to) => {
    const f = log ? Math.log : (v) => v;
    const back = log ? Math.exp : (v) => v;
    const [a, b] = [f(low), f(high)];
    return [(v) => from + ((f(v) - a) / (b - a)) * (to - from), (px) => back(a + ((px - from) / (to - from)) * (b - a))];
  };
  const [X, unX] = scale(x, inner.left, inner.right);
  const [Y, unY] = scale(y, inner.bottom, inner.top);
  const clip = svg(svg(root, "clipPath", { id: `${id}-clip` }), "rect", {
    x: inner.left, y: inner.top - 4, width: inner.right - inner.left, height: inner.bottom - inner.top + 8,
  });
  clip.parentNode.setAttribute("clipPathUnits", "userSpaceOnUse");
  const frame = svg(root, "g", { class: "sb-axes", "aria-hidden": "true" });
  svg(frame, "path", { d: `M${inner.left} ${inner.top}V${inner.bottom}H${inner.right}` });
  for (const value of x.ticks) {
    svg(frame, "path", { d: `M${X(value)} ${inner.bottom}v4` });
    svg(frame, "text", { x: X(value), y: inner.bottom + 16, "text-anchor": "middle" }, tick(value));
  }
  for (const value of y.ticks) {
    svg(frame, "path", { d: `M${inner.left} ${Y(value)}h-4` });
    svg(frame, "text", { x: inner.left - 7, y: Y(value) + 4, "text-anchor": "end" }, tick(value));
  }
  svg(frame, "text", { class: "sb-name", x: inner.right, y: height - 6, "text-anchor": "end" }, x.label);
  svg(frame, "text", { class: "sb-name", x: inner.left + 6, y: inner.top + 8 }, y.label);
  const curves = svg(root, "g", { "clip-path": `url(#${id}-clip)`, "aria-hidden": "true" });
  const over = svg(root, "g", { "aria-hidden": "true" });
  return { svg: root, X, Y, unX, unY, curves, over, inner };
}

/** The `d` of a path through [x, y] points in data units. */
export const path = (points, { X, Y }) =>
  points.map(([x, y], k) => `${k ? "L" : "M"}${X(x).toFixed(2)} ${Y(y).toFixed(2)}`).join("");

/** A key below a drawing: {class: label} for lines drawn with these classes. */
export function legend(parent, entries) {
  const key = html(parent, "p", { class: "sb-key", "aria-hidden": "true" });
  for (const [style, text] of Object.entries(entries)) {
    const item = html(key, "span");
    svg(svg(item, "svg", { viewBox: "0 0 28 8", width: 28, height: 8 }), "path", { class: `sb-curve ${style}`, d: "M1 4H27" });
    html(item, "span", {}, text);
  }
}

/** A small grey image with big pixels: a canvas whose `paint(values)` maps low…high to black…white. */
export function pixels(parent, { width, height, label, low = 0, high = 1, caption }) {
  const figure = html(parent, "figure", { class: "sb-pixels" });
  const canvas = html(figure, "canvas", { width, height, role: "img", "aria-label": label });
  if (caption) html(figure, "figcaption", {}, caption);
  const context = canvas.getContext("2d");
  const paint = (values, from = low, to = high) => {
    const image = context.createImageData(width, height);
    for (let k = 0; k < width * height; k++) {
      const grey = clamp(Math.round((255 * (values[k] - from)) / (to - from)), 0, 255);
      image.data.set([grey, grey, grey, 255], 4 * k);
    }
    context.putImageData(image, 0, 0);
  };
  return { figure, canvas, paint };
}
