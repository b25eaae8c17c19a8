// Widget of "Linear codes": three atoms in the plane, the codes that build one signal, and what each costs.

import { button, choice, clamp, controls, fixed, html, legend, path, plot, readout, svg, widgetRoot } from "./common.js";

/** Unit atoms from their angles in degrees. */
export const atomsAt = (angles) => angles.map((angle) => [Math.cos((angle * Math.PI) / 180), Math.sin((angle * Math.PI) / 180)]);

/** The signal that a code builds. */
export const mix = (atoms, code) => atoms.reduce(([x, y], [u, v], k) => [x + code[k] * u, y + code[k] * v], [0, 0]);

const det = ([a, b], [c, d]) => a * d - b * c;

/** The unit code that builds nothing, its last entry positive: the direction of the family. */
export function nullCode(atoms) {
  const [p, q, r] = atoms;
  const raw = [det(q, r), det(r, p), det(p, q)];
  const length = Math.hypot(...raw) * (raw[2] < 0 ? -1 : 1);
  return raw.map((value) => value / length);
}

/** The exact code of least length: responses of the atoms to (Phi Phi^T)^-1 s. */
export function leastNormCode(atoms, [sx, sy]) {
  let [xx, xy, yy] = [0, 0, 0];
  for (const [u, v] of atoms) [xx, xy, yy] = [xx + u * u, xy + u * v, yy + v * v];
  const area = xx * yy - xy * xy;
  const [px, py] = [(yy * sx - xy * sy) / area, (xx * sy - xy * sx) / area];
  return atoms.map(([u, v]) => u * px + v * py);
}

/** Where a code stands along the family. */
export const position = (atoms, code) => nullCode(atoms).reduce((sum, v, k) => sum + v * code[k], 0);

/** The exact code of the signal at a position; a coefficient below rounding error is zero. */
export function exactCode(atoms, signal, z) {
  const v = nullCode(atoms);
  return leastNormCode(atoms, signal).map((a, k) => (Math.abs(a + z * v[k]) < 1e-9 ? 0 : a + z * v[k]));
}

/** The positions at which a coefficient passes through zero, in order. */
export function crossings(atoms, signal) {
  const v = nullCode(atoms);
  return leastNormCode(atoms, signal).map((a, k) => -a / v[k]).sort((a, b) => a - b);
}

export const PRICES = {
  l1: { name: "sum ‖a‖₁", value: (code) => code.reduce((sum, a) => sum + Math.abs(a), 0) },
  l2: { name: "length ‖a‖₂", value: (code) => Math.hypot(...code) },
  count: { name: "count ‖a‖₀", value: (code) => code.filter((a) => a !== 0).length },
};

/** The positions of the cheapest exact codes: one for the sum and the length, all crossings for the count. */
export function cheapest(price, atoms, signal) {
  if (price === "l2") return [0];
  const corners = crossings(atoms, signal);
  const costs = corners.map((z) => PRICES[price].value(exactCode(atoms, signal, z)));
  return corners.filter((_, k) => costs[k] <= Math.min(...costs) + 1e-9);
}

/** Move along the family, but halt at a crossing on the way, so that every one can be reached. */
export function step(z, change, stops) {
  const ahead = stops.filter((stop) => (stop - z) * change > 1e-9 && Math.abs(stop - z) <= Math.abs(change) + 1e-9);
  return ahead.length ? ahead.reduce((a, b) => (Math.abs(a - z) < Math.abs(b - z) ? a : b)) : z + change;
}

/** How far to show the family on either side of the shortest code: a little beyond the last crossing. */
export const reachOf = (atoms, signal) => Math.ceil(10 * Math.max(0.7, ...crossings(atoms, signal).map(Math.abs)) + 3) / 10;

export const miss = (atoms, code, signal) => {
  const [x, y] = mix(atoms, code);
  return Math.hypot(x - signal[0], y - signal[1]);
};

export function sentence(atoms, code, signal) {
  const far = miss(atoms, code, signal);
  const where = far < 1e-6 ? "Exact" : `Misses the signal by ${fixed(far)}`;
  const count = PRICES.count.value(code);
  const { l1, l2 } = PRICES;
  return `${where}: ${count} active ${count === 1 ? "atom" : "atoms"}, sum ${fixed(l1.value(code))}, length ${fixed(l2.value(code))}.`;
}

const LIMIT = 3; // largest magnitude of a coefficient
const MAGNET = 0.06; // a chain that ends this near to the signal is meant to end in it

function render({ model, el }) {
  const atoms = atomsAt(model.get("angles"));
  const signal = model.get("signal");
  const stops = crossings(atoms, signal);
  const reach = reachOf(atoms, signal);
  const ends = [-reach, reach].map((z) => [z, exactCode(atoms, signal, z)]);
  const listeners = new AbortController();
  const on = (node, type, act) => node.addEventListener(type, act, { signal: listeners.signal });
  const set = (name, value) => {
    model.set(name, value);
    model.save_changes();
  };
  const slideTo = (z) => set("codes", exactCode(atoms, signal, clamp(z, -reach, reach)));

  const root = widgetRoot(el, "sb-atom-mixer", "Three atoms, one signal");
  const options = Object.fromEntries(Object.entries(PRICES).map(([key, { name }]) => [key, name]));
  const bar = controls(root);
  const prices = choice(bar, { legend: "Price", options, value: model.get("price"), onChange: (key) => set("price", key) });
  button(bar, "Go to the cheapest", () => {
    const places = cheapest(model.get("price"), atoms, signal);
    const now = position(atoms, model.get("codes"));
    slideTo(places.reduce((a, b) => (Math.abs(a - now) <= Math.abs(b - now) ? a : b)));
  });
  const said = readout(root);
  const panels = html(root, "div", { class: "sb-panels" });

  const bottom = Math.floor(Math.min(...ends.flatMap(([, code]) => code)));
  const top = Math.max(3, Math.ceil(Math.max(...ends.map(([, code]) => PRICES.l1.value(code)))));
  const plane = plot(panels, {
    caption: "The chain of atoms", height: 293,
    x: { low: -1, high: 2.25, ticks: [-1, 0, 1, 2], label: "" }, y: { low: -0.5, high: 2.0763, ticks: [0, 1, 2], label: "" },
  });
  const family = plot(panels, {
    caption: "All exact codes", height: 293,
    x: { low: -reach, high: reach, ticks: [-2, -1, 0, 1, 2].filter((z) => Math.abs(z) <= reach), label: "position along the family" },
    y: { low: bottom, high: top, ticks: Array.from({ length: top - bottom + 1 }, (_, k) => bottom + k), label: "" },
  });
  legend(root, { "sb-c1": "atom 1", "sb-c2": "atom 2", "sb-c3": "atom 3", "sb-price": "price" });

  // Left: directions of the atoms, the ring of the signal, three arrows with handles at their tips.
  for (const [k, [u, w]] of atoms.entries()) {
    svg(plane.curves, "path", { class: "sb-faint", d: path([[-4 * u, -4 * w], [4 * u, 4 * w]], plane) });
    svg(plane.curves, "path", { class: `sb-unit sb-c${k + 1}`, d: path([[0, 0], [u, w]], plane) });
  }
  svg(plane.over, "circle", { class: "sb-ring", r: 13, cx: plane.X(signal[0]), cy: plane.Y(signal[1]) });
  svg(plane.over, "text", { class: "sb-name", x: plane.X(signal[0]) + 19, y: plane.Y(signal[1]) - 9 }, "signal");
  const gap = svg(plane.over, "path", { class: "sb-guide" });
  const links = atoms.map((_, k) => svg(plane.curves, "path", { class: `sb-curve sb-link sb-c${k + 1}` }));
  const tips = atoms.map((_, k) => {
    const tip = svg(plane.svg, "g", { class: `sb-handle sb-tip-${k + 1}`, role: "slider", tabindex: 0, "aria-label": `Coefficient of atom ${k + 1}`, "aria-valuemin": -LIMIT, "aria-valuemax": LIMIT });
    svg(tip, "circle", { class: "sb-hit", r: 20 });
    svg(tip, "circle", { class: "sb-knob", r: 9 });
    svg(tip, "text", { class: "sb-knob-name", y: 4.5, "text-anchor": "middle" }, String(k + 1));
    return tip;
  });

  // Right: three straight lines, the price, the rings of the cheapest codes, the upright line.
  svg(family.curves, "path", { class: "sb-zero", d: path([[-reach, 0], [reach, 0]], family) });
  atoms.forEach((_, k) => svg(family.curves, "path", { class: `sb-curve sb-thin sb-c${k + 1}`, d: path(ends.map(([z, code]) => [z, code[k]]), family) }));
  const curve = svg(family.curves, "path", { class: "sb-curve sb-price" });
  const marks = svg(family.over, "g");
  const dots = atoms.map((_, k) => svg(family.over, "circle", { class: `sb-coefficient sb-k${k + 1}`, r: 5 }));
  const paid = svg(family.over, "circle", { class: "sb-dot", r: 6.5 });
  const cursor = svg(family.svg, "g", { class: "sb-handle sb-cursor", role: "slider", tabindex: 0, "aria-label": "Position along the exact codes", "aria-valuemin": -reach, "aria-valuemax": reach });
  svg(cursor, "rect", { class: "sb-hit", x: -20, width: 40, y: family.inner.top, height: family.inner.bottom - family.inner.top + 30 });
  svg(cursor, "path", { class: "sb-upright", d: `M0 ${family.inner.top}V${family.inner.bottom}` });
  svg(cursor, "path", { class: "sb-knob", d: `M0 ${family.inner.bottom - 8}l9 12v16h-18v-16Z` });

  const pointer = (side, event) => {
    const box = side.svg.getBoundingClientRect();
    const scale = 360 / box.width;
    return [side.unX((event.clientX - box.left) * scale), side.unY((event.clientY - box.top) * scale)];
  };

  /** Call `move` with the pointer's place while a handle is held; `grip` keeps it from leaping. */
  function draggable(handle, side, anchor, move) {
    let grip = null;
    on(handle, "pointerdown", (event) => {
      const [x, y] = pointer(side, event);
      const [ax, ay] = anchor();
      grip = [ax - x, ay - y];
      handle.setPointerCapture(event.pointerId);
      handle.focus({ preventScroll: true });
      event.preventDefault();
    });
    on(handle, "pointermove", (event) => {
      if (grip === null) return;
      const [x, y] = pointer(side, event);
      move([x + grip[0], y + grip[1]]);
    });
    for (const type of ["pointerup", "pointercancel"]) on(handle, type, () => (grip = null));
  }

  const tipOf = (code, k) => mix(atoms, code.map((a, j) => (j <= k ? a : 0)));
  function setCoefficient(k, value, magnet) {
    const code = [...model.get("codes")];
    code[k] = Math.abs(value) < (magnet ? 0.03 : 1e-9) ? 0 : clamp(value, -LIMIT, LIMIT);
    if (magnet && miss(atoms, code, signal) < MAGNET) slideTo(position(atoms, code));
    else set("codes", code);
  }
  tips.forEach((tip, k) => {
    draggable(tip, plane, () => tipOf(model.get("codes"), k), ([x, y]) => {
      const code = model.get("codes");
      const [tx, ty] = k ? tipOf(code, k - 1) : [0, 0];
      setCoefficient(k, (x - tx) * atoms[k][0] + (y - ty) * atoms[k][1], true);
    });
    on(tip, "keydown", (event) => {
      const small = event.shiftKey ? 0.01 : 0.1;
      const moves = { ArrowRight: small, ArrowUp: small, ArrowLeft: -small, ArrowDown: -small, PageUp: 0.5, PageDown: -0.5 };
      const now = model.get("codes")[k];
      if (event.key in moves) setCoefficient(k, step(now, moves[event.key], [0]), false);
      else if (event.key === "Home") setCoefficient(k, 0, false);
      else return;
      event.preventDefault();
    });
  });
  draggable(cursor, family, () => [position(atoms, model.get("codes")), 0], ([z]) => {
    const near = stops.find((stop) => Math.abs(stop - z) < 0.035);
    slideTo(near === undefined ? z : near);
  });
  on(cursor, "keydown", (event) => {
    const small = event.shiftKey ? 0.01 : 0.1;
    const moves = { ArrowRight: small, ArrowUp: small, ArrowLeft: -small, ArrowDown: -small, PageUp: 0.5, PageDown: -0.5 };
    if (event.key in moves) slideTo(step(position(atoms, model.get("codes")), moves[event.key], stops));
    else if (event.key === "Home") slideTo(-reach);
    else if (event.key === "End") slideTo(reach);
    else return;
    event.preventDefault();
  });

  function drawPrice() {
    const price = model.get("price");
    const cost = (z) => PRICES[price].value(exactCode(atoms, signal, z));
    const grid = Array.from({ length: 161 }, (_, k) => -reach + (k * reach) / 80).concat(price === "l1" ? stops : []).sort((a, b) => a - b);
    curve.setAttribute("d", path(price === "count" ? [[-reach, 3], [reach, 3]] : grid.map((z) => [z, cost(z)]), family));
    marks.replaceChildren();
    if (price === "count") for (const z of stops) svg(marks, "circle", { class: "sb-hole", r: 4, cx: family.X(z), cy: family.Y(3) });
    for (const z of cheapest(price, atoms, signal)) svg(marks, "circle", { class: "sb-least", r: 10, cx: family.X(z), cy: family.Y(cost(z)) });
    prices.set(price);
  }

  function draw() {
    const code = model.get("codes");
    const z = position(atoms, code);
    let from = [0, 0];
    for (const [k, link] of links.entries()) {
      const to = tipOf(code, k);
      const [x, y] = [plane.X(to[0]), plane.Y(to[1])];
      link.setAttribute("d", path([from, to], plane));
      tips[k].setAttribute("transform", `translate(${x} ${y})`);
      tips[k].setAttribute("aria-valuenow", code[k].toFixed(3));
      tips[k].setAttribute("aria-valuetext", fixed(code[k]));
      dots[k].setAttribute("cx", family.X(clamp(z, -reach, reach)));
      dots[k].setAttribute("cy", family.Y(code[k]));
      from = to;
    }
    gap.setAttribute("d", path([from, signal], plane));
    const exact = miss(atoms, code, signal) < 1e-6;
    root.classList.toggle("sb-exact", exact);
    paid.style.display = exact ? "" : "none";
    paid.setAttribute("cx", family.X(z));
    paid.setAttribute("cy", family.Y(PRICES[model.get("price")].value(code)));
    cursor.setAttribute("transform", `translate(${family.X(clamp(z, -reach, reach))} 0)`);
    cursor.setAttribute("aria-valuenow", z.toFixed(3));
    const text = sentence(atoms, code, signal);
    cursor.setAttribute("aria-valuetext", `${fixed(z)}. ${text}`);
    said.textContent = `${code.map((a, k) => `${k ? (a < 0 ? " − " : " + ") : a < 0 ? "−" : ""}${fixed(Math.abs(a))} φ${"₁₂₃"[k]}`).join("")}. ${text}`;
  }

  const redraw = () => {
    drawPrice();
    draw();
  };
  model.on("change:codes", draw);
  model.on("change:price", redraw);
  redraw();
  return () => {
    listeners.abort();
    model.off("change:codes", draw);
    model.off("change:price", redraw);
  };
}

export default { render };
