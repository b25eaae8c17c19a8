// Widget of "Receptive fields": choose a learned field, see its Gabor fit and its place among a macaque's cells.
import { html, svg, fixed, clamp, floats, widgetRoot, readout, plot, pixels, uniqueId } from "./common.js";

/** The lower and upper edges of the bins of Ringach's histogram, and its counts: rows n_x, columns n_y. */
export const EDGES = [0, 1, 2, 3, 4, 5].map((k) => 10 ** (-1 + 0.24 * k));
export const COUNTS = [
  [2, 0, 1, 0, 0],
  [8, 9, 4, 1, 0],
  [1, 2, 19, 17, 3],
  [0, 0, 1, 7, 4],
  [0, 0, 0, 0, 0],
];

/** The values of a Gabor function on the pixels of a square patch, row by row. */
export function gaborPatch([x0, y0, direction, frequency, sigmaX, sigmaY, phase, amplitude], side) {
  const values = new Float64Array(side * side);
  const middle = (side - 1) / 2;
  for (let k = 0; k < values.length; k++) {
    const x = (k % side) - middle - x0;
    const y = Math.floor(k / side) - middle - y0;
    const along = x * Math.cos(direction) + y * Math.sin(direction);
    const across = y * Math.cos(direction) - x * Math.sin(direction);
    const bell = Math.exp(-((along / sigmaX) ** 2) / 2 - (across / sigmaY) ** 2 / 2);
    values[k] = amplitude * bell * Math.cos(2 * Math.PI * frequency * along + phase);
  }
  return values;
}

/** Width and length in cycles. */
export const shapeOf = ([, , , frequency, sigmaX, sigmaY]) => [sigmaX * frequency, sigmaY * frequency];

/** How many cells share the bin of (n_x, n_y); 0 outside all bins. */
export function cellsAt(nx, ny) {
  const bin = (value) => EDGES.filter((edge) => edge <= value).length - 1;
  return COUNTS[bin(nx)]?.[bin(ny)] ?? 0;
}

/** The number of the field whose dot is nearest on logarithmic axes. */
export function nearestField(shapes, nx, ny) {
  let best = 0;
  let least = Infinity;
  shapes.forEach(([x, y], k) => {
    const away = Math.log(x / nx) ** 2 + Math.log(y / ny) ** 2;
    if (away < least) [best, least] = [k, away];
  });
  return best;
}

/** The atom a key leads to on a sheet with so many columns, or null. */
export function keyTarget(key, from, count, columns) {
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[key];
  if (key === "Home") return 0;
  if (key === "End") return count - 1;
  if (step === undefined) return null;
  return from + step >= 0 && from + step < count ? from + step : from;
}

/** What the picture says, in words. */
export function sentence(chosen, parameters, explained) {
  const [nx, ny] = shapeOf(parameters);
  const degrees = Math.round((parameters[2] * 180) / Math.PI) % 180;
  const cells = cellsAt(nx, ny);
  const share = cells === 0 ? "no macaque cell shares" : cells === 1 ? "1 of 79 macaque cells shares" : `${cells} of 79 macaque cells share`;
  return (
    `Field ${chosen + 1}: the wave runs at ${degrees}° with ${fixed(parameters[3])} cycles per pixel; ` +
    `n_x = ${fixed(nx)}, n_y = ${fixed(ny)}. The fit explains ${Math.round(100 * explained)} %; ${share} its bin.`
  );
}

function render({ model, el }) {
  const side = model.get("side");
  const area = side * side;
  const view = model.get("atoms");
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  const count = bytes.length / area;
  const numbers = floats(model.get("fits"));
  const fits = Array.from({ length: count }, (_, k) => Array.from(numbers.slice(9 * k, 9 * k + 9)));
  const shapes = fits.map(shapeOf);
  const columns = Math.ceil(Math.sqrt(count));
  const rows = Math.ceil(count / columns);
  const pitch = side + 1;

  const root = widgetRoot(el, "sb-field-fitter", "Learned fields, their Gabor fits and a macaque's cells");
  const say = readout(root);
  const panels = html(root, "div", { class: "sb-panels" });

  // The sheet: one canvas of all fields under a frame around the chosen one.
  const sheet = html(panels, "figure", { class: "sb-panel sb-sheet" });
  html(sheet, "figcaption", { id: uniqueId("sheet") }, "Learned fields");
  const board = html(sheet, "div", { class: "sb-board" });
  const canvas = html(board, "canvas", { width: columns * pitch - 1, height: rows * pitch - 1, "aria-hidden": "true" });
  const image = canvas.getContext("2d").createImageData(canvas.width, canvas.height);
  for (let k = 0; k < count; k++) {
    const [left, top] = [(k % columns) * pitch, Math.floor(k / columns) * pitch];
    for (let p = 0; p < area; p++) {
      const grey = bytes[k * area + p];
      const at = (top + Math.floor(p / side)) * canvas.width + left + (p % side);
      image.data.set([grey, grey, grey, 255], 4 * at);
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  const cursor = html(board, "div", {
    class: "sb-cursor", role: "slider", tabindex: 0, "aria-label": "Chosen field", "aria-valuemin": 1, "aria-valuemax": count,
  });
  cursor.style.width = `${(100 * (side + 2)) / canvas.width}%`;
  cursor.style.height = `${(100 * (side + 2)) / canvas.height}%`;

  const second = html(panels, "div", { class: "sb-panel" });
  const trio = html(second, "div", { class: "sb-trio" });
  const show = (caption) => pixels(trio, { width: side, height: side, label: caption, low: -1, high: 1, caption });
  const [field, fit, rest] = ["field", "Gabor fit", "left over"].map(show);
  const ticks = [0.1, 0.2, 0.4, 0.8, 1.6];
  const plane = plot(second, {
    caption: "Shapes: a macaque's cells (grey) and these fields (dots)",
    x: { low: 0.09, high: 2, ticks, label: "width n_x in cycles", log: true },
    y: { low: 0.09, high: 2, ticks, label: "length n_y in cycles", log: true },
    height: 300,
  });
  COUNTS.forEach((line, i) =>
    line.forEach((cells, j) => {
      const box = { x: plane.X(EDGES[i]), y: plane.Y(EDGES[j + 1]), width: plane.X(EDGES[i + 1]) - plane.X(EDGES[i]), height: plane.Y(EDGES[j]) - plane.Y(EDGES[j + 1]) };
      svg(plane.curves, "rect", { class: "sb-bin", ...box, "fill-opacity": (0.5 * cells) / 19 });
    }),
  );
  for (const [nx, ny] of shapes) svg(plane.curves, "circle", { class: "sb-mote", cx: plane.X(nx), cy: plane.Y(ny), r: 2.2 });
  const dot = svg(plane.over, "circle", { class: "sb-dot", r: 6.5 });

  const stop = new AbortController();
  const on = (node, type, act) => node.addEventListener(type, act, { signal: stop.signal });
  const choose = (k) => {
    model.set("chosen", k);
    model.save_changes();
  };
  on(board, "pointerdown", (event) => {
    const box = canvas.getBoundingClientRect();
    const column = clamp(Math.floor(((event.clientX - box.left) / box.width) * columns), 0, columns - 1);
    const row = clamp(Math.floor(((event.clientY - box.top) / box.height) * rows), 0, rows - 1);
    if (row * columns + column < count) choose(row * columns + column);
    cursor.focus({ preventScroll: true });
    event.preventDefault();
  });
  on(cursor, "keydown", (event) => {
    const next = keyTarget(event.key, model.get("chosen"), count, columns);
    if (next === null) return;
    choose(next);
    event.preventDefault();
  });
  on(plane.svg, "pointerdown", (event) => {
    const box = plane.svg.getBoundingClientRect();
    const [px, py] = [((event.clientX - box.left) * 360) / box.width, ((event.clientY - box.top) * 300) / box.height];
    if (px >= plane.inner.left && py <= plane.inner.bottom) choose(nearestField(shapes, plane.unX(px), plane.unY(py)));
  });

  function draw() {
    const k = model.get("chosen");
    const parameters = fits[k];
    const atom = Array.from(bytes.slice(k * area, (k + 1) * area), (grey) => (grey - 128) / 127);
    const drawn = gaborPatch(parameters, side);
    field.paint(atom);
    fit.paint(drawn);
    rest.paint(atom.map((value, p) => value - drawn[p]));
    cursor.style.left = `${(100 * ((k % columns) * pitch - 1)) / canvas.width}%`;
    cursor.style.top = `${(100 * (Math.floor(k / columns) * pitch - 1)) / canvas.height}%`;
    const [nx, ny] = shapes[k];
    dot.setAttribute("cx", plane.X(clamp(nx, 0.09, 2)));
    dot.setAttribute("cy", plane.Y(clamp(ny, 0.09, 2)));
    const words = sentence(k, parameters, parameters[8]);
    say.textContent = words;
    cursor.setAttribute("aria-valuenow", k + 1);
    cursor.setAttribute("aria-valuetext", words);
  }
  model.on("change:chosen", draw);
  draw();
  return () => {
    stop.abort();
    model.off("change:chosen", draw);
  };
}

export default { render };
