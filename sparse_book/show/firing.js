// Widget of "The activity penalty": draw a digit, watch which hidden units of a dense and of a sparse network fire.
// Ink is 28 × 28 whole numbers from 0 to 255, row by row; a place on the board is (row, column), counted from 0 at the middles of pixels.
// The digits of MNIST have their centre of mass at (14, 14), within half a pixel.
import { button, choice, clamp, controls, html, readout, slider, svg, uniqueId, widgetRoot } from "./common.js";
import {
  activeCount, argmax, denseStates, digitPicker, greyAround, greyUp, largest, networkShelf, paintSheet, priceText, rectify, shareText, shortShare, softmax,
  tileSheet, unpackDigits,
} from "./stored_networks.js";

export const SIDE = 28;
export const MIDDLE = 14;

/** What a network with one hidden layer makes of 784 numbers from 0 to 1. */
export function run([weight, bias, output, outputBias], pixels) {
  const units = rectify(denseStates(weight, bias, pixels));
  const logits = denseStates(output, outputBias, units);
  return { units, logits, probabilities: softmax(logits) };
}

/** Ink after a line with a soft pen, from place to place; `erase` takes ink away instead. */
export function stroke(ink, [row, column], [toRow, toColumn], erase = false) {
  const next = [...ink];
  const steps = Math.max(1, Math.ceil(2 * Math.hypot(toRow - row, toColumn - column)));
  for (let step = 0; step <= steps; step++) {
    const [i, j] = [row + ((toRow - row) * step) / steps, column + ((toColumn - column) * step) / steps];
    for (let r = Math.max(0, Math.ceil(i - 2)); r <= Math.min(SIDE - 1, i + 2); r++)
      for (let c = Math.max(0, Math.ceil(j - 2)); c <= Math.min(SIDE - 1, j + 2); c++) {
        const level = Math.round(255 * clamp(1.8 - Math.hypot(r - i, c - j), 0, 1));
        const at = r * SIDE + c;
        next[at] = erase ? Math.min(next[at], 255 - level) : Math.max(next[at], level);
      }
  }
  return next;
}

/** By how many whole rows and columns ink must move to have its centre of mass in the middle; [0, 0] without ink. */
export function shiftOf(ink) {
  let [mass, rows, columns] = [0, 0, 0];
  ink.forEach((level, k) => {
    mass += level;
    rows += level * Math.floor(k / SIDE);
    columns += level * (k % SIDE);
  });
  return mass ? [MIDDLE - rows / mass, MIDDLE - columns / mass].map((away) => Math.round(away) || 0) : [0, 0];
}

/** Ink moved by whole pixels; what leaves the board is lost. */
export function shifted(ink, [down, right]) {
  return Array.from({ length: SIDE * SIDE }, (_, k) => {
    const [row, column] = [Math.floor(k / SIDE) - down, (k % SIDE) - right];
    return row < 0 || column < 0 || row >= SIDE || column >= SIDE ? 0 : ink[row * SIDE + column];
  });
}

/** What the networks see: the ink, centred as the digits of MNIST are, as numbers from 0 to 1. */
export const seen = (ink) => shifted(ink, shiftOf(ink)).map((level) => level / 255);

/** Where a key takes the pen, or null. */
export function penTarget(key, [row, column]) {
  const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[key];
  return step ? [clamp(row + step[0], 0, SIDE - 1), clamp(column + step[1], 0, SIDE - 1)] : null;
}

const NAMES = ["Dense", "Sparse"];

/** What the pictures say, in words. */
export function sentence(prices, said, drawn) {
  const parts = prices.map((price, k) => {
    const answer = argmax(said[k].probabilities);
    return (
      `${NAMES[k]} (λ = ${priceText(price)}): ${activeCount(said[k].units)} of ${said[k].units.length} units fire, ` +
      `it reads ${answer} (${shareText(said[k].probabilities[answer])}).`
    );
  });
  return [drawn ? "" : "Nothing is drawn.", ...parts].join(" ").trim();
}

const GRID = 8;

function render({ model, el }) {
  const stop = new AbortController();
  const on = (node, type, act) => node.addEventListener(type, act, { signal: stop.signal });
  const set = (values) => {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
  };
  const shelf = networkShelf(model);
  const digits = unpackDigits(model.get("digits")).map((digit) => Array.from(digit, (value) => Math.round(255 * value)));
  const prices = model.get("coefficients");
  let erasing = false;

  const root = widgetRoot(el, "sb-firing", "Draw a digit and watch two networks fire");
  const picker = digitPicker(root, {
    digits: digits.map((digit) => digit.map((level) => level / 255)), labels: model.get("labels"), value: model.get("digit"),
    onChange: (digit) => set({ digit, ink: [...digits[digit]] }),
  });
  const top = controls(root);
  choice(top, { legend: "Pen", options: { ink: "ink", eraser: "eraser" }, value: "ink", onChange: (pen) => (erasing = pen === "eraser") });
  const clear = () => set({ ink: new Array(SIDE * SIDE).fill(0) });
  button(top, "Clear", clear);
  const panels = html(root, "div", { class: "sb-panels" });

  // The board: a canvas under a frame of the size that digits have, and a pen for the keyboard.
  const desk = html(panels, "figure", { class: "sb-desk" });
  const caption = html(desk, "figcaption", { id: uniqueId("board") }, "Draw here, about as large as the frame");
  const hint = html(desk, "p", { class: "sb-hint", id: uniqueId("hint") }, "Keys: arrows move the pen, space lowers or lifts it, Delete clears.");
  const board = html(desk, "div", {
    class: "sb-drawing", tabindex: 0, role: "application", "aria-roledescription": "drawing board", "aria-labelledby": caption.id, "aria-describedby": hint.id,
  });
  const canvas = html(board, "canvas", { width: SIDE, height: SIDE, "aria-hidden": "true" });
  html(board, "div", { class: "sb-size" });
  const nib = html(board, "div", { class: "sb-nib" });
  const told = html(desk, "p", { class: "sb-pen", role: "status", "aria-live": "polite" });
  const look = html(desk, "figure", { class: "sb-look" });
  const view = html(look, "canvas", { width: SIDE, height: SIDE, "aria-hidden": "true" });
  html(look, "figcaption", {}, "What the networks see: your ink, moved to the middle");
  let pen = { place: [14, 14], down: false };
  const draw_ = (from, to) => set({ ink: stroke(model.get("ink"), from, to, erasing) });
  const placeOf = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientY - box.top) / box.height) * SIDE - 0.5, ((event.clientX - box.left) / box.width) * SIDE - 0.5];
  };
  let last = null;
  on(board, "pointerdown", (event) => {
    if (event.button) return;
    last = placeOf(event);
    board.setPointerCapture(event.pointerId);
    board.focus({ preventScroll: true });
    draw_(last, last);
    event.preventDefault();
  });
  on(board, "pointermove", (event) => {
    if (!last) return;
    const next = placeOf(event);
    draw_(last, next);
    last = next;
  });
  for (const type of ["pointerup", "pointercancel", "lostpointercapture"]) on(board, type, () => (last = null));
  function showPen() {
    const [row, column] = pen.place;
    nib.style.left = `${(100 * column) / SIDE}%`;
    nib.style.top = `${(100 * row) / SIDE}%`;
    nib.classList.toggle("sb-down", pen.down);
    told.textContent = `Pen ${pen.down ? "down" : "up"} at row ${row + 1}, column ${column + 1}.`;
  }
  on(board, "keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const next = penTarget(event.key, pen.place);
    if (next) {
      const from = pen.place;
      pen = { ...pen, place: next };
      if (pen.down) draw_(from, next);
    } else if (event.key === " ") {
      pen = { ...pen, down: !pen.down };
      if (pen.down) draw_(pen.place, pen.place);
    } else if (event.key === "Delete" || event.key === "Backspace") clear();
    else return;
    showPen();
    event.preventDefault();
  });

  const brains = prices.map((price, k) => {
    const column = html(panels, "figure", { class: `sb-brain sb-brain-${k}` });
    const title = html(column, "figcaption", { id: uniqueId("brain") });
    const drawing = svg(column, "svg", { viewBox: `0 0 ${GRID * 20} ${GRID * 20}`, role: "img", "aria-labelledby": title.id });
    const units = shelf(k)[1].values.length;
    const circles = Array.from({ length: units }, (_, unit) => {
      const [cx, cy] = [(unit % GRID) * 20 + 10, Math.floor(unit / GRID) * 20 + 10];
      svg(drawing, "circle", { class: "sb-seat", cx, cy, r: 8.5 });
      const dot = svg(drawing, "circle", { class: "sb-glow", cx, cy, r: 0 });
      return dot;
    });
    on(drawing, "pointerdown", (event) => {
      const box = drawing.getBoundingClientRect();
      const place = (at, from, size) => clamp(Math.floor(((at - from) / size) * GRID), 0, GRID - 1);
      set({ unit: clamp(place(event.clientY, box.top, box.height) * GRID + place(event.clientX, box.left, box.width), 0, units - 1) });
    });
    const ring = svg(drawing, "rect", { class: "sb-ring", width: 20, height: 20, rx: 3 });
    const bars = html(column, "div", { class: "sb-bars", "aria-hidden": "true" });
    const rows = Array.from({ length: 10 }, (_, digit) => {
      const name = html(bars, "span", {}, digit);
      const bar = html(html(bars, "span", { class: "sb-track" }), "i");
      return { name, bar, share: html(bars, "span") };
    });
    html(column, "p", { class: "sb-measured" }, `All test digits: ${(100 * model.get("accuracy")[k]).toFixed(2)} % right, ${model.get("active")[k].toFixed(1)} units fire.`);
    const field = html(column, "canvas", { class: "sb-field", width: SIDE, height: SIDE, role: "img" });
    return { title, circles, ring, rows, field, price };
  });
  const say = readout(root);
  const low = controls(root);
  const knob = slider(low, {
    label: "Weights of unit", min: 1, max: brains[0].circles.length, step: 1, value: 1, onInput: (unit) => set({ unit: unit - 1 }),
  });

  function drawUnit() {
    const unit = clamp(model.get("unit"), 0, brains[0].circles.length - 1);
    knob.set(unit + 1);
    brains.forEach(({ ring, field }, k) => {
      ring.setAttribute("x", (unit % GRID) * 20);
      ring.setAttribute("y", Math.floor(unit / GRID) * 20);
      const values = shelf(k)[0].values.subarray(unit * SIDE * SIDE, (unit + 1) * SIDE * SIDE);
      paintSheet(field, tileSheet(values, { count: 1, height: SIDE, width: SIDE, columns: 1, grey: greyAround(largest(values.map(Math.abs))) }));
      field.setAttribute("aria-label", `Weights into unit ${unit + 1} of the ${NAMES[k].toLowerCase()} network`);
    });
  }
  function draw() {
    const ink = model.get("ink");
    if (ink.length !== SIDE * SIDE) return;
    const pixels = seen(ink);
    const one = { count: 1, height: SIDE, width: SIDE, columns: 1, grey: greyUp(1) };
    paintSheet(canvas, tileSheet(ink, { ...one, grey: (level) => level }));
    paintSheet(view, tileSheet(pixels, one));
    picker.set(digits.findIndex((digit) => digit.every((level, k) => level === ink[k])));
    const said = brains.map((_, k) => run(shelf(k), pixels));
    brains.forEach(({ title, circles, rows, price }, k) => {
      const { units, probabilities } = said[k];
      const loudest = largest(units);
      title.textContent = `${NAMES[k]}, λ = ${priceText(price)}: ${activeCount(units)} of ${units.length} fire`;
      circles.forEach((dot, unit) => dot.setAttribute("r", units[unit] > 0 ? (1.5 + 7 * Math.sqrt(units[unit] / loudest)).toFixed(2) : 0));
      rows.forEach(({ name, bar, share }, digit) => {
        bar.style.width = `${100 * probabilities[digit]}%`;
        share.textContent = shortShare(probabilities[digit]);
        name.className = share.className = digit === argmax(probabilities) ? "sb-first" : "";
      });
    });
    say.textContent = sentence(prices, said, ink.some((level) => level > 0));
  }
  model.on("change:ink", draw);
  model.on("change:unit", drawUnit);
  showPen();
  draw();
  drawUnit();
  return () => {
    stop.abort();
    model.off("change:ink", draw);
    model.off("change:unit", drawUnit);
  };
}

export default { render };
