// A scan, slice by slice, in a window, and the point that is chosen on it.
import { numbers } from "./api.js";
import { at } from "./dom.js";
import { bar, grey, pixels, write } from "./draw.js";

const WIDTH = 900; // canvas pixels
const KEPT = 64; // slices

export class Viewer {
  constructor(changed) {
    this.canvas = at("slices");
    this.changed = changed;
    this.scan = null;
    this.point = null;
    this.index = 0;
    this.kept = new Map();
    this.wheel = 0;
    at("slice").addEventListener("input", () => this.show(Number(at("slice").value)));
    at("window").addEventListener("change", () => {
      [at("level").value, at("width").value] = at("window").value.split(",");
      this.draw();
    });
    for (const id of ["level", "width", "zoom"]) at(id).addEventListener("input", () => this.draw());
    for (const id of ["x", "y", "z"]) at(id).addEventListener("change", () => this.typed());
    this.canvas.addEventListener("click", event => this.click(event));
    this.canvas.addEventListener("keydown", event => this.key(event));
    this.canvas.addEventListener("wheel", event => this.roll(event), { passive: false });
  }

  load(scan) {
    this.kept.clear();
    this.scan = scan;
    this.point = null;
    at("zoom").value = "1";
    at("slice").max = scan.shape[2] - 1;
    const [columns, rows] = scan.shape;
    const [dx, dy] = scan.spacing;
    Object.assign(this.canvas, { width: WIDTH, height: Math.round(WIDTH * rows * dy / (columns * dx)) });
    for (const id of ["x", "y", "z"]) at(id).value = "";
    this.show(Math.floor(scan.shape[2] / 2));
  }

  get side() { return this.scan.shape[0] * this.scan.spacing[0]; } // mm

  async show(index) {
    this.index = Math.min(this.scan.shape[2] - 1, Math.max(0, index));
    at("slice").value = this.index;
    const text = `slice ${this.index + 1} of ${this.scan.shape[2]}, z ${this.scan.heights[this.index].toFixed(1)} mm`;
    at("where").textContent = text;
    at("slice").setAttribute("aria-valuetext", text);
    await this.fetch(this.index);
    this.draw();
    for (const near of [this.index + 1, this.index - 1]) this.fetch(near);
  }

  async fetch(index) {
    const { scan } = this;
    if (index < 0 || index >= scan.shape[2] || this.kept.has(index)) return this.kept.get(index);
    const values = numbers(`/api/scans/${scan.id}/slices/${index}`).catch(() => { this.kept.delete(index); });
    this.kept.set(index, values);
    if (this.kept.size > KEPT) this.kept.delete(this.kept.keys().next().value);
    return values;
  }

  // What part of the slice is seen: its first column and row, and canvas pixels a column and a row.
  view() {
    const zoom = Number(at("zoom").value);
    const [columns, rows] = this.scan.shape;
    const middle = this.point ? this.pixel(this.point) : [columns / 2, rows / 2];
    const first = [columns, rows].map((count, axis) =>
      Math.min(count - count / zoom, Math.max(0, middle[axis] - count / zoom / 2)));
    return { first, scale: [this.canvas.width * zoom / columns, this.canvas.height * zoom / rows] };
  }

  pixel(point) {
    const { origin, spacing } = this.scan;
    return [0, 1].map(axis => (point[axis] - origin[axis]) / spacing[axis] + 0.5);
  }

  // The slice that a height is in.
  slice(z) {
    const far = this.scan.heights.map(height => Math.abs(height - z));
    return far.indexOf(Math.min(...far));
  }

  async draw() {
    if (!this.scan) return;
    const index = this.index;
    const values = await this.fetch(index);
    if (!values || index !== this.index) return;
    const [columns, rows] = this.scan.shape;
    const context = this.canvas.getContext("2d");
    const image = pixels(values, columns, rows, grey(Number(at("level").value), Math.max(1, Number(at("width").value))));
    const { first, scale } = this.view();
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    context.drawImage(image, first[0], first[1], this.canvas.width / scale[0], this.canvas.height / scale[1],
      0, 0, this.canvas.width, this.canvas.height);
    const { width, height } = this.canvas;
    bar(context, scale[0] / this.scan.spacing[0], 20);
    write(context, "R", 20, height / 2, 24);
    write(context, "L", width - 20, height / 2, 24);
    write(context, "A", width / 2, 30, 24);
    write(context, "P", width / 2, height - 62, 24);
    write(context, this.scan.simulated ? "SIMULATED, no patient; research use only" : "research use only", width / 2, height - 16, 24);
    if (this.point && this.slice(this.point[2]) === index) this.ring(context, first, scale);
  }

  ring(context, first, scale) {
    const [x, y] = this.pixel(this.point).map((place, axis) => (place - first[axis]) * scale[axis]);
    const radius = 9 * scale[0] / this.scan.spacing[0];
    for (const [style, line] of [["black", 6], ["#ff9a5c", 3]]) {
      Object.assign(context, { strokeStyle: style, lineWidth: line });
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(x + dx * radius, y + dy * radius);
        context.lineTo(x + 1.7 * dx * radius, y + 1.7 * dy * radius);
      }
      context.stroke();
    }
  }

  // The point, mm, LPS; the slice that it is in is shown.
  choose(point, quietly = false) {
    this.point = point.map(value => Math.round(100 * value) / 100);
    ["x", "y", "z"].forEach((id, axis) => { at(id).value = this.point[axis]; });
    this.show(this.slice(this.point[2]));
    if (!quietly) this.changed();
  }

  typed() {
    const values = ["x", "y", "z"].map(id => at(id).valueAsNumber);
    if (values.every(Number.isFinite)) this.choose(values);
  }

  click(event) {
    const box = this.canvas.getBoundingClientRect();
    const { first, scale } = this.view();
    const place = [(event.clientX - box.left) / box.width * this.canvas.width / scale[0] + first[0],
      (event.clientY - box.top) / box.height * this.canvas.height / scale[1] + first[1]];
    this.choose([...this.mm(place), this.scan.heights[this.index]]);
  }

  mm(place) {
    return place.map((value, axis) => this.scan.origin[axis] + (value - 0.5) * this.scan.spacing[axis]);
  }

  key(event) {
    const step = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }[event.key];
    const slices = { ArrowUp: 1, ArrowDown: -1, PageUp: 5, PageDown: -5, Home: -1e6, End: 1e6 }[event.key];
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.shiftKey && step) {
      const z = this.scan.heights[this.index];
      const [columns, rows] = this.scan.shape;
      const [x, y] = this.point || this.mm([columns / 2, rows / 2]);
      this.choose([x + step[0] * this.scan.spacing[0], y + step[1] * this.scan.spacing[1], z]);
    } else if (slices) this.show(this.index + slices);
    else if ("+-".includes(event.key)) this.zoom(event.key === "+" ? 1 : -1);
    else return;
    event.preventDefault();
  }

  zoom(by) {
    const list = at("zoom");
    list.selectedIndex = Math.min(list.length - 1, Math.max(0, list.selectedIndex + by));
    this.draw();
  }

  roll(event) {
    event.preventDefault();
    this.wheel += event.deltaY;
    if (Math.abs(this.wheel) < 30) return;
    this.show(this.index - Math.sign(this.wheel));
    this.wheel = 0;
  }
}
