// Widget of "Description length": keep more or fewer spikes, lengthen or shorten the kernel,
// and watch the description move in the plane of cost and error.
import { choice, clamp, controls, fixed, floats, html, legend, path, plot, readout, slider, svg, widgetRoot } from "./common.js";

export const MOST_SPIKES = 80;

/** The middle `size` samples of a pattern of odd length; zeros beyond its ends. */
export const middle = (pattern, size) =>
  Array.from({ length: size }, (_, k) => pattern[k + (pattern.length - size) / 2] ?? 0);

/** Spikes found greedily, each position once: {places, heights, losses}, the losses after 0, 1, … spikes. */
export function greedySpikes(signal, kernel, count) {
  const rest = Float64Array.from(signal);
  const energy = kernel.reduce((sum, w) => sum + w * w, 0);
  const silence = rest.reduce((sum, v) => sum + Math.abs(v), 0);
  const used = new Set();
  const found = { places: [], heights: [], losses: [1] };
  for (let spike = 0; spike < count; spike++) {
    let [best, height] = [-1, 0];
    for (let place = 0; place + kernel.length <= rest.length; place++) {
      if (used.has(place)) continue;
      let product = 0;
      for (let k = 0; k < kernel.length; k++) product += rest[place + k] * kernel[k];
      if (Math.abs(product) > Math.abs(height)) [best, height] = [place, product];
    }
    if (best < 0) break;
    height /= energy;
    used.add(best);
    kernel.forEach((w, k) => (rest[best + k] -= height * w));
    found.places.push(best);
    found.heights.push(height);
    found.losses.push(rest.reduce((sum, v) => sum + Math.abs(v), 0) / silence);
  }
  return found;
}

/** What the first `count` spikes build. */
export function rebuild(length, kernel, found, count) {
  const sum = new Float64Array(length);
  for (let spike = 0; spike < count; spike++) kernel.forEach((w, k) => (sum[found.places[spike] + k] += found.heights[spike] * w));
  return sum;
}

/** Numbers of a description in one dimension, per sample. */
export const inverseRatio = (weights, active, size) => (weights + 2 * active) / size;

export const phi = (cost, loss, version) => (version === 1 ? (cost + loss) / 2 : Math.hypot(cost, loss));

/** The number of spikes with the least φ; of equals, the smallest. */
export function bestCount(found, weights, size, version) {
  const values = found.losses.map((loss, k) => phi(inverseRatio(weights, k, size), loss, version));
  return values.indexOf(Math.min(...values));
}

export function sentence({ count, size, length, loss, best, version }) {
  const cost = inverseRatio(size, count, length);
  const spikes = count === 1 ? "1 spike" : `${count} spikes`;
  const verdict = best === count ? "the best for this kernel" : `best for this kernel: ${best}`;
  return (
    `${spikes}, kernel of ${size}: ${size + 2 * count} numbers for ${length} samples. ` +
    `CR⁻¹ = ${fixed(cost, 3)}, error = ${fixed(loss, 3)}, φ = ${fixed(phi(cost, loss, version), 3)} (${verdict})`
  );
}

function render({ model, el }) {
  const signal = floats(model.get("signal"));
  const pattern = floats(model.get("pattern"));
  const length = signal.length;
  const most = Math.min(MOST_SPIKES, Math.floor(length / 4));
  const longest = pattern.length + 10;
  const paths = new Map(); // what was found, by size of the kernel
  const listeners = new AbortController();
  const on = (node, type, act) => node.addEventListener(type, act, { signal: listeners.signal });
  const set = (name, value) => {
    model.set(name, value);
    model.save_changes();
  };
  const keep = (count) => set("spikes", clamp(Math.round(count), 0, most));

  const root = widgetRoot(el, "sb-rate-distortion", "Cost and error of a description");
  const row = controls(root);
  const spikes = slider(row, { label: "Spikes kept", min: 0, max: most, step: 1, value: 0, onInput: keep });
  const size = slider(row, { label: "Kernel size", min: 1, max: longest, step: 2, value: 1, onInput: (v) => set("size", v) });
  const versions = choice(row, {
    legend: "φ is the",
    options: { 2: "length", 1: "mean" },
    value: String(model.get("version")),
    onChange: (key) => set("version", Number(key)),
  });
  const says = readout(root);
  const panels = html(root, "div", { class: "sb-panels" });

  const [low, high] = [Math.min(...signal), Math.max(...signal)].map((v, k) => (k ? Math.ceil(2 * v) : Math.floor(2 * v)) / 2);
  const halves = Array.from({ length: Math.round(2 * (high - low)) + 1 }, (_, k) => low + k / 2);
  const trace = plot(panels, {
    caption: "Signal and reconstruction",
    x: { low: 0, high: length, ticks: [0, 1, 2, 3, 4].map((k) => (k * length) / 4), label: "sample" },
    y: { low, high, ticks: halves, label: "" },
  });
  const along = (values) => path(Array.from(values, (v, t) => [t, v]), trace);
  svg(trace.curves, "path", { class: "sb-curve sb-c5 sb-signal", d: along(signal) });
  const built = svg(trace.curves, "path", { class: "sb-curve sb-c2 sb-built" });
  const stems = svg(trace.curves, "path", { class: "sb-curve sb-c1 sb-stems" });

  const [right, top] = [0.6, 1.05];
  const plane = plot(panels, {
    caption: "Cost and error",
    x: { low: 0, high: right, ticks: [0, 0.2, 0.4, 0.6], label: "cost: numbers per sample, CR⁻¹" },
    y: { low: 0, high: top, ticks: [0, 0.25, 0.5, 0.75, 1], label: "error" },
  });
  const levels = svg(plane.curves, "path", { class: "sb-curve sb-level" });
  const trivial = svg(plane.curves, "path", { class: "sb-curve sb-trivial" });
  const track = svg(plane.curves, "path", { class: "sb-curve sb-c1" });
  const turn = svg(plane.over, "circle", { class: "sb-turn", r: 6 });
  const handle = svg(plane.svg, "g", {
    class: "sb-grip", role: "slider", tabindex: 0, "aria-label": "Spikes kept: drag along the path",
    "aria-valuemin": 0, "aria-valuemax": most,
  });
  svg(handle, "circle", { class: "sb-hit", r: 22 });
  svg(handle, "circle", { class: "sb-dot", r: 7 });
  legend(root, { "sb-c5 sb-signal": "signal", "sb-c2 sb-built": "reconstruction", "sb-c1": "spikes; path of this kernel", "sb-level": "level lines of φ", "sb-trivial": "φ of silence" });

  const level = (value, version) => {
    const points = Array.from({ length: 61 }, (_, k) => {
      const turn = (k * Math.PI) / 120;
      return version === 1 ? [(2 * value * k) / 60, 2 * value * (1 - k / 60)] : [value * Math.sin(turn), value * Math.cos(turn)];
    });
    return path(points, plane);
  };

  on(handle, "keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 };
    if (event.key in steps) keep(model.get("spikes") + steps[event.key]);
    else if (event.key === "Home") keep(0);
    else if (event.key === "End") keep(most);
    else return;
    event.preventDefault();
  });
  let grip = null; // distance between pointer and point when the drag began, so that nothing leaps
  const where = (event) => {
    const box = plane.svg.getBoundingClientRect();
    return plane.unX(((event.clientX - box.left) * 360) / box.width);
  };
  on(handle, "pointerdown", (event) => {
    grip = where(event) - inverseRatio(model.get("size"), model.get("spikes"), length);
    handle.setPointerCapture(event.pointerId);
    handle.focus({ preventScroll: true });
    event.preventDefault();
  });
  on(handle, "pointermove", (event) => {
    if (grip !== null) keep(((where(event) - grip) * length - model.get("size")) / 2);
  });
  for (const type of ["pointerup", "pointercancel"]) on(handle, type, () => (grip = null));

  function draw() {
    const [wanted, m, version] = ["spikes", "size", "version"].map((name) => model.get(name));
    const kernel = middle(pattern, m);
    if (!paths.has(m)) paths.set(m, greedySpikes(signal, kernel, most));
    const found = paths.get(m);
    const count = Math.min(wanted, found.places.length);
    const best = bestCount(found, m, length, version);
    const at = (k) => [inverseRatio(m, k, length), found.losses[k]];
    const [cost, loss] = at(count);

    built.setAttribute("d", along(rebuild(length, kernel, found, count)));
    const middles = found.places.slice(0, count).map((place, k) => [place + (m - 1) / 2, found.heights[k]]);
    stems.setAttribute("d", middles.map(([t, v]) => path([[t, 0], [t, v]], trace)).join(""));
    track.setAttribute("d", path(found.losses.map((_, k) => at(k)), plane));
    const values = Array.from({ length: 12 }, (_, k) => (k + 1) / 10);
    levels.setAttribute("d", values.map((value) => level(value, version)).join(""));
    trivial.setAttribute("d", level(version / 2, version));
    turn.setAttribute("cx", plane.X(at(best)[0]));
    turn.setAttribute("cy", plane.Y(at(best)[1]));
    handle.setAttribute("transform", `translate(${plane.X(cost)} ${plane.Y(loss)})`);

    const text = sentence({ count, size: m, length, loss, best, version });
    handle.setAttribute("aria-valuenow", count);
    handle.setAttribute("aria-valuetext", text);
    says.textContent = text;
    spikes.set(count);
    size.set(m);
    versions.set(String(version));
  }
  for (const name of ["spikes", "size", "version"]) model.on(`change:${name}`, draw);
  draw();
  return () => {
    listeners.abort();
    model.off(null, draw);
  };
}

export default { render };
