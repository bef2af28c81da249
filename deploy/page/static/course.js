// Size against time with its bands, and the same as a table.
import { make, svg } from "./dom.js";

const BOX = { left: 52, right: 620, top: 12, bottom: 200 };
const months = days => Math.round(days / 30.4375);
const one = value => value.toFixed(1);

export function course(content) {
  const { baseline_mm: baseline, times } = content;
  const known = times.filter(time => time.diameter_mm);
  if (!baseline || !known.length) {
    return [make("p", {}, `The size is not measured: ${times[0]?.not_measurable || "no nodule is found"}.`)];
  }
  const start = baseline.mean;
  const spreads = known.map(time => ({ day: time.interval_days, odd: time.outside_training, ...time.diameter_mm.mean }));
  const parts = [make("figure", {}, chart(start, spreads),
    make("figcaption", {}, "Mean diameter: measured at baseline (black), then the median of the generated follow-ups with " +
      "bands of 90 % and 50 % of them. Synthetic, research use only."))];
  if (spreads.some(each => each.odd)) {
    parts.push(make("p", { class: "warn" }, "Crossed: outside the intervals of the weights' training, so that these sizes say nothing."));
  }
  return [...parts, table(start, spreads)];
}

function chart(start, spreads) {
  const points = [{ day: 0, median: start, interval50: [start, start], interval90: [start, start] }, ...spreads];
  const ends = points.flatMap(each => [each.median, ...(each.interval90 || [])]);
  const low = Math.max(0, Math.floor(Math.min(...ends)) - 1), high = Math.ceil(Math.max(...ends)) + 1;
  const lastDay = points.at(-1).day;
  const x = day => BOX.left + (BOX.right - BOX.left) * day / lastDay;
  const y = mm => BOX.bottom - (BOX.bottom - BOX.top) * (mm - low) / (high - low);
  const path = values => values.map(([day, mm], index) => `${index ? "L" : "M"}${x(day).toFixed(1)} ${y(mm).toFixed(1)}`).join("");
  const band = name => {
    const known = points.filter(each => each[name]);
    return svg("path", { class: "band", d: path([...known.map(each => [each.day, each[name][1]]),
      ...known.reverse().map(each => [each.day, each[name][0]])]) + "Z" });
  };
  const parts = [];
  const step = Math.max(1, Math.round((high - low) / 5));
  for (let mm = low; mm <= high; mm += step) {
    parts.push(svg("line", { class: "grid", x1: BOX.left, x2: BOX.right, y1: y(mm), y2: y(mm) }),
      svg("text", { x: BOX.left - 12, y: y(mm) + 4, "text-anchor": "end" }, mm));
  }
  for (const { day } of points) parts.push(svg("text", { x: x(day), y: BOX.bottom + 18, "text-anchor": "middle" }, months(day)));
  parts.push(svg("text", { x: (BOX.left + BOX.right) / 2, y: BOX.bottom + 36, "text-anchor": "middle" }, "months from the baseline; mm"),
    svg("text", { class: "mark", x: BOX.right, y: BOX.top + 10, "text-anchor": "end" }, "SYNTHETIC, research use only"),
    band("interval90"), band("interval50"),
    svg("path", { class: "line", d: path(points.map(each => [each.day, each.median])) }),
    ...points.map((each, index) => svg("circle", { class: index ? "dot" : "start", cx: x(each.day), cy: y(each.median), r: 4.5 })),
    ...points.filter(each => each.odd).map(each => svg("path", { class: "odd",
      d: `M${x(each.day) - 8} ${y(each.median) - 8}l16 16m0 -16l-16 16` })));
  const said = spreads.map(each => `${one(each.median)} mm after ${months(each.day)} months`).join(", ");
  return svg("svg", { class: "course", viewBox: "0 0 640 240", role: "img", "aria-label": `Mean diameter ${one(start)} mm, then ${said}` }, ...parts);
}

function table(start, spreads) {
  const rows = spreads.map(each => make("tr", {}, make("th", { scope: "row" }, `${months(each.day)} months`),
    make("td", {}, one(each.median)), make("td", {}, range(each.interval50)), make("td", {}, range(each.interval90))));
  return make("details", {}, make("summary", {}, "These numbers"), make("table", {},
    make("caption", {}, `Mean diameter in mm; ${one(start)} at baseline`),
    make("thead", {}, make("tr", {}, ...["after", "median", "50 % of the runs", "90 %"].map(text => make("th", { scope: "col" }, text)))),
    make("tbody", {}, ...rows)));
}

const range = ends => ends ? `${one(ends[0])} to ${one(ends[1])}` : "too few runs";
