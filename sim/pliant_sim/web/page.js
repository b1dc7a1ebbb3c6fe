"use strict";

const PAPER = 255, BRUSH = 0.08;       // the brush's width is a part of the canvas's
const LANE = 26, LABEL = 64, FOOT = 20; // of the timeline, in CSS pixels
const SVG = "http://www.w3.org/2000/svg";

const element = (id) => document.getElementById(id);
const drawing = element("drawing");
const pen = drawing.getContext("2d", { willReadFrequently: true });
let about, last = null, request = 0;

function clear() {
  request++;
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, drawing.width, drawing.height);
  element("digit").textContent = "?";
  show("Draw with mouse, pen or finger; the answer comes when you lift it.");
  for (const id of ["figures", "logits", "timeline", "legend"]) element(id).replaceChildren();
  element("instruction").textContent = "\u00a0";
  element("seen").getContext("2d").clearRect(0, 0, 160, 160);
}

function show(text, error = false) {
  element("status").textContent = text;
  element("status").classList.toggle("error", error);
}

function position(event) {
  const box = drawing.getBoundingClientRect();
  return [(event.clientX - box.left) * drawing.width / box.width,
          (event.clientY - box.top) * drawing.height / box.height];
}

function stroke(from, to) {
  pen.lineWidth = BRUSH * drawing.width;
  pen.lineCap = pen.lineJoin = "round";
  pen.strokeStyle = "#000";
  pen.beginPath();
  pen.moveTo(...from);
  pen.lineTo(to[0] + 0.01, to[1]); // a line without length would leave no dot
  pen.stroke();
}

// The drawing as canvas x canvas grey values, 255 for ink.
function pixels() {
  const small = new OffscreenCanvas(about.canvas, about.canvas).getContext("2d");
  small.drawImage(drawing, 0, 0, about.canvas, about.canvas);
  const { data } = small.getImageData(0, 0, about.canvas, about.canvas);
  return Uint8Array.from({ length: data.length / 4 }, (_, index) => PAPER - data[4 * index]);
}

async function classify() {
  const mine = ++request;
  show("The core is running\u2026");
  try {
    const response = await fetch("classify", { method: "POST", body: pixels() });
    const result = await response.json();
    if (mine !== request) return; // the drawing has changed since
    if (!response.ok) throw new Error(result.error);
    present(result);
  } catch (error) {
    if (mine !== request) return;
    element("digit").textContent = "?"; // not the answer to an earlier drawing
    show(error.message, true);
  }
}

function present(result) {
  element("digit").textContent = result.digit;
  show(result.equal ? "The instruction simulator computed the same integers."
                    : "The instruction simulator computed other integers!", !result.equal);
  const figures = {
    "cycles": result.cycles.toLocaleString("en"),
    [`at ${about.clock_mhz} MHz (estimate)`]: `${result.microseconds.toFixed(1)} \u00b5s`,
    "use of the array": `${(100 * result.array_use).toFixed(1)} %`,
    "instructions": result.timeline.length,
  };
  element("figures").replaceChildren(...Object.entries(figures).flatMap(([name, value]) => {
    const term = document.createElement("dt"), text = document.createElement("dd");
    term.textContent = name;
    text.textContent = value;
    return [term, text];
  }));
  const low = Math.min(...result.logits), high = Math.max(...result.logits);
  element("logits").replaceChildren(...result.logits.map((value) => {
    const item = document.createElement("li"), meter = document.createElement("meter");
    Object.assign(meter, { min: low, max: Math.max(high, low + 1e-9), value });
    meter.title = value.toFixed(3);
    item.append(meter);
    return item;
  }));
  const seen = element("seen").getContext("2d"), side = 160 / result.image.length;
  result.image.forEach((row, y) => row.forEach((value, x) => {
    seen.fillStyle = `rgb(${Array(3).fill(255 - 255 * value / 16).join()})`;
    seen.fillRect(x * side, y * side, side, side);
  }));
  last = result;
  timeline(result);
}

const colour = (layers, layer) =>
  layer ? `hsl(${Math.round(360 * layers.indexOf(layer) / layers.length)} 65% 50%)` : "#888";

function node(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function timeline(result) {
  const view = element("timeline");
  const width = view.clientWidth, height = LANE * about.units.length + FOOT;
  const scale = (width - LABEL - 8) / result.cycles;
  view.setAttribute("viewBox", `0 0 ${width} ${height}`);
  view.style.height = `${height}px`;
  const parts = about.units.map((unit, lane) =>
    node("text", { x: 6, y: LANE * lane + 18 }, unit));
  for (const { unit, layer, text, start, end } of result.timeline) {
    const box = node("rect", {
      x: LABEL + start * scale, y: LANE * about.units.indexOf(unit) + 4,
      width: Math.max(0.5, (end - start) * scale), height: LANE - 8,
      fill: colour(result.layers, layer),
    });
    const words = `${layer || "no layer"}, cycles ${start} to ${end}: ${text}`;
    box.append(node("title", {}, words));
    box.addEventListener("pointerenter", () => { element("instruction").textContent = words; });
    parts.push(box);
  }
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    const cycle = Math.round(share * result.cycles);
    const anchor = share === 0 ? "start" : share === 1 ? "end" : "middle";
    parts.push(node("text", {
      x: LABEL + cycle * scale, y: height - 5, "text-anchor": anchor }, cycle));
  }
  view.replaceChildren(...parts);
  element("legend").replaceChildren(...result.layers.map((layer) => {
    const entry = document.createElement("span"), patch = node("svg", { viewBox: "0 0 1 1" });
    patch.append(node("rect", { width: 1, height: 1, fill: colour(result.layers, layer) }));
    entry.append(patch, layer);
    return entry;
  }));
}

let from = null;
drawing.addEventListener("pointerdown", (event) => {
  if (!event.isPrimary) return; // a second finger
  drawing.setPointerCapture(event.pointerId);
  from = position(event);
  stroke(from, from);
});
drawing.addEventListener("pointermove", (event) => {
  if (from === null || !event.isPrimary) return;
  const to = position(event);
  stroke(from, to);
  from = to;
});
for (const name of ["pointerup", "pointercancel"]) {
  drawing.addEventListener(name, (event) => {
    if (!event.isPrimary) return;
    if (from !== null) classify();
    from = null;
  });
}
element("clear").addEventListener("click", clear);
addEventListener("resize", () => { if (last && element("figures").children.length) timeline(last); });

fetch("about").then((response) => response.json()).then((values) => {
  about = values;
  element("about").textContent = `${about.rows}x${about.cols} array, configuration ` +
    `${about.config}: simulated RTL, no board involved`;
  clear();
  document.body.dataset.ready = "yes";
}).catch((error) => show(`The server does not answer: ${error.message}`, true));
