// Widget "Where the ball touches": the smallest ball of an ℓp norm that reaches the line of exact codes.
import { clamp, controls, fixed, html, legend, path, plot, readout, slider, svg, widgetRoot } from "./common.js";

const DISTANCE = 1.2; // of the line from the origin

/** The code on the line cos θ a₁ + sin θ a₂ = distance whose Σ|a|^p is least. Of two, the one on the first axis. */
export function touch(p, angle, distance = DISTANCE) {
  const w = [Math.cos(angle) / distance, Math.sin(angle) / distance];
  const size = w.map(Math.abs);
  const largest = Math.max(...size);
  if (p <= 1) {
    const winner = size[0] >= size[1] - 1e-12 ? 0 : 1;
    return w.map((value, k) => (k === winner ? 1 / value : 0));
  }
  // Hölder: |a| is proportional to |w|^(1/(p−1)).
  const shape = size.map((value) => (value / largest) ** (1 / (p - 1)));
  const total = size[0] * shape[0] + size[1] * shape[1];
  return shape.map((value, k) => (Math.sign(w[k]) * value) / total);
}

/** (Σ|a|^p)^(1/p). */
export const pNorm = (a, p) => (Math.abs(a[0]) ** p + Math.abs(a[1]) ** p) ** (1 / p);

/** Points around the ball of a radius; dense near the axes, where small p has its needles. */
export function ball(p, radius, count = 240) {
  return Array.from({ length: count + 1 }, (_, k) => {
    const turn = (2 * Math.PI * k) / count;
    const power = 2 / p;
    const [c, s] = [Math.cos(turn), Math.sin(turn)].map((v) => (Math.abs(v) < 1e-12 ? 0 : v));
    return [radius * Math.sign(c) * Math.abs(c) ** power, radius * Math.sign(s) * Math.abs(s) ** power];
  });
}

export function sentence(p, a) {
  const active = a.filter((value) => Math.abs(value) >= 0.005).length;
  const verdict = active === 1 ? "one coefficient is active" : "both are active";
  return `p = ${fixed(p)}: the ball touches the line at (${fixed(a[0])}, ${fixed(a[1])}); ${verdict}.`;
}

function render({ model, el }) {
  const listeners = new AbortController();
  const on = (node, type, act) => node.addEventListener(type, act, { signal: listeners.signal });
  const put = (name, value) => {
    model.set(name, value);
    model.save_changes();
  };
  const root = widgetRoot(el, "sb-balls", "Where the ball touches the line of exact codes");
  const row = controls(root);
  const power = slider(row, {
    label: "p", min: 0.3, max: 4, step: 0.05, value: model.get("p"), format: (v) => fixed(Number(v)), onInput: (v) => put("p", v),
  });
  power.input.setAttribute("aria-label", "Exponent p");
  const said = readout(root);
  const panels = html(root, "div", { class: "sb-panels" });
  const ticks = [-2, -1, 0, 1, 2];
  const area = plot(panels, {
    caption: "Drag the line",
    x: { low: -2.28, high: 2.28, ticks, label: "a₁" }, y: { low: -2.2, high: 2.2, ticks, label: "a₂" }, height: 345,
  });
  svg(area.curves, "path", { class: "sb-cross", d: path([[-3, 0], [3, 0]], area) + path([[0, -3], [0, 3]], area) });
  const rings = [1, 0.75, 0.5, 0.25].map((part) => [part, svg(area.curves, "path", { class: part === 1 ? "sb-ball" : "sb-ball sb-inner" })]);
  const line = svg(area.curves, "path", { class: "sb-curve sb-c2" });
  const dot = svg(area.over, "circle", { class: "sb-dot sb-touch", r: 7 });
  area.over.removeAttribute("aria-hidden");
  dot.setAttribute("aria-hidden", "true");
  const handle = svg(area.over, "g", {
    class: "sb-turn", role: "slider", tabindex: 0, "aria-label": "Direction of the line, in degrees", "aria-valuemin": -180, "aria-valuemax": 180,
  });
  svg(handle, "circle", { class: "sb-hit", r: 22 });
  svg(handle, "circle", { class: "sb-grip", r: 9 });
  legend(root, { "sb-c2": "codes that rebuild the signal exactly", "sb-c1": "the smallest ball that reaches them" });

  const turnTo = (degrees) => put("angle", ((((Math.round(degrees) + 180) % 360) + 360) % 360) - 180);
  on(handle, "keydown", (event) => {
    const step = event.shiftKey ? 10 : 1;
    const moves = { ArrowLeft: step, ArrowUp: step, ArrowRight: -step, ArrowDown: -step, PageUp: 15, PageDown: -15 };
    if (event.key in moves) turnTo(model.get("angle") + moves[event.key]);
    else if (event.key === "Home") turnTo(0);
    else return;
    event.preventDefault();
  });
  let held = false;
  const follow = (event) => {
    const box = area.svg.getBoundingClientRect();
    const scale = 360 / box.width;
    const x = area.unX((event.clientX - box.left) * scale);
    const y = area.unY((event.clientY - box.top) * scale);
    if (Math.hypot(x, y) > 0.05) turnTo((Math.atan2(y, x) * 180) / Math.PI);
  };
  on(handle, "pointerdown", (event) => {
    held = true;
    handle.setPointerCapture(event.pointerId);
    handle.focus({ preventScroll: true });
    event.preventDefault();
  });
  on(handle, "pointermove", (event) => held && follow(event));
  for (const type of ["pointerup", "pointercancel"]) on(handle, type, () => (held = false));

  function draw() {
    const p = clamp(model.get("p"), 0.3, 4);
    const angle = (model.get("angle") * Math.PI) / 180;
    const a = touch(p, angle);
    const radius = pNorm(a, p);
    for (const [part, node] of rings) node.setAttribute("d", `${path(ball(p, part * radius), area)}Z`);
    const [c, s] = [Math.cos(angle), Math.sin(angle)];
    const foot = [DISTANCE * c, DISTANCE * s];
    line.setAttribute("d", path([[foot[0] - 5 * s, foot[1] + 5 * c], [foot[0] + 5 * s, foot[1] - 5 * c]], area));
    dot.setAttribute("cx", area.X(a[0]));
    dot.setAttribute("cy", area.Y(a[1]));
    handle.setAttribute("transform", `translate(${area.X(foot[0])} ${area.Y(foot[1])})`);
    handle.setAttribute("aria-valuenow", model.get("angle"));
    handle.setAttribute("aria-valuetext", `${fixed(model.get("angle"), 0)} degrees`);
    power.set(p);
    said.textContent = sentence(p, a);
  }
  model.on("change", draw);
  draw();
  return () => {
    listeners.abort();
    model.off("change", draw);
  };
}

export default { render };
