// A finished case: pictures, probabilities side by side, growth, flags, and what can be taken along; and two side by side.
import { numbers } from "./api.js";
import { course } from "./course.js";
import { make } from "./dom.js";
import { diverging, grey, magma, SYNTHETIC, tile } from "./draw.js";

const LEVEL = -300, WIDTH = 1400; // what the networks see
const FRAME_MS = 400;
const percent = value => `${Math.round(100 * value)} %`;

let playing = 0;

// The images of a case, by name, each rows first.
export async function imagesOf(shown) {
  const values = await numbers(`/api/cases/${shown.id}/images`);
  const size = shown.side ** 2;
  const plane = index => values.subarray(index * size, (index + 1) * size);
  return { baseline: plane(0), mean: plane(1), deviation: plane(2), samples: Array.from({ length: shown.num_runs }, (_, run) => plane(3 + run)) };
}

function figure(shown, values, title, colour, marks, ...more) {
  const canvas = make("canvas", { role: "img", "aria-label": `${title}${marks === SYNTHETIC ? ", synthetic, research use only" : ""}` });
  tile(canvas, values, shown.side, shown.pixel_mm, colour, marks);
  return make("figure", { class: marks === SYNTHETIC ? "synthetic" : "" }, canvas, make("figcaption", {}, title), ...more);
}

const real = shown => shown.simulated ? ["SIMULATED", "research use only"] : ["research use only"];

export function render(article, shown, images, askCourse) {
  clearInterval(playing);
  const deviation = Math.max(1, ...images.deviation);
  article.replaceChildren(
    make("h3", {}, `Case ${shown.number}: ${shown.num_runs} generated follow-ups after ${months(shown)} months`),
    make("p", { class: "lead" }, shown.headline),
    make("p", { class: "warn" }, shown.warning),
    make("div", { class: "tiles" },
      figure(shown, images.baseline, shown.simulated ? "baseline, simulated" : "baseline", grey(LEVEL, WIDTH), real(shown)),
      loop(shown, images),
      figure(shown, images.mean, `mean of ${shown.num_runs} samples, synthetic`, grey(LEVEL, WIDTH), SYNTHETIC),
      figure(shown, images.deviation, `standard deviation, synthetic; brightest ${deviation} HU`, magma(deviation), SYNTHETIC)),
    make("h3", {}, "Probability of malignancy"),
    methods(shown),
    make("p", { class: "soft" }, shown.held_out),
    make("h3", {}, "Growth in the generated images"),
    ...shown.growth.map(line => make("p", {}, line)),
    make("h3", {}, "Flags"),
    shown.flags.length ? make("ul", { class: "flags" }, ...shown.flags.map(flag => make("li", {}, flag))) : make("p", {}, "None."),
    ...(shown.lacking.length ? [make("p", { class: "soft" }, `Lacking: ${shown.lacking.join("; ")}.`)] : []),
    make("h3", {}, "What the language model read"),
    make("blockquote", {}, shown.report),
    make("h3", {}, "Size over time"),
    ...sizes(shown, askCourse),
    make("h3", {}, "Take along"),
    make("ul", { class: "links" }, ...downloads(shown).map(([kind, words]) =>
      make("li", {}, make("a", { href: `/api/cases/${shown.id}/download/${kind}`, download: "" }, words)))),
  );
}

export const months = shown => Math.round(shown.interval_days / 30.4375);

function downloads(shown) {
  const always = [["nifti", "NIfTI, panel and numbers (zip)"], ["pdf", "page to print (PDF)"]];
  return shown.dicom ? [["dicom", "DICOM objects (zip)"], ...always] : always;
}

// All samples one after the other; who asked for less motion starts it, if at all.
function loop(shown, images) {
  let run = 0;
  const canvas = make("canvas", { role: "img" });
  const caption = make("figcaption");
  const play = make("button", { type: "button" });
  const show = step => {
    run = (run + step + shown.num_runs) % shown.num_runs;
    tile(canvas, images.samples[run], shown.side, shown.pixel_mm, grey(LEVEL, WIDTH), SYNTHETIC);
    caption.textContent = `sample ${run + 1} of ${shown.num_runs}, synthetic`;
    canvas.setAttribute("aria-label", `sample ${run + 1} of ${shown.num_runs}, synthetic, research use only`);
  };
  const go = on => {
    clearInterval(playing);
    playing = on ? setInterval(() => show(1), FRAME_MS) : 0;
    play.textContent = on ? "❚❚" : "▶";
    play.setAttribute("aria-label", on ? "pause the samples" : "play the samples");
  };
  const step = by => { go(false); show(by); };
  play.addEventListener("click", () => go(!playing));
  show(0);
  go(shown.num_runs > 1 && !matchMedia("(prefers-reduced-motion: reduce)").matches);
  const buttons = make("div", { class: "steps" },
    make("button", { type: "button", "aria-label": "previous sample", onclick: () => step(-1) }, "←"), play,
    make("button", { type: "button", "aria-label": "next sample", onclick: () => step(1) }, "→"));
  return make("figure", { class: "synthetic", "aria-live": "off" }, canvas, caption, buttons);
}

function methods(shown) {
  const heads = ["calibrated", "as it came", "held-out AUROC"];
  const rows = shown.methods.map(each => make("tr", { class: each.best ? "best" : "" },
    make("th", { scope: "row" }, each.title + (each.best ? " (best on held-out cases)" : "")),
    ...(each.reason ? [make("td", { colspan: 3, class: "reason" }, each.reason)]
      : [each.calibrated, each.as_it_came, each.held_out].map((text, index) => make("td", { "data-label": heads[index] }, text)))));
  return make("table", { class: "stacked" },
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "by"), ...heads.map(text => make("th", { scope: "col" }, text)))),
    make("tbody", {}, ...rows));
}

function sizes(shown, askCourse) {
  if (shown.course) return course(shown.course);
  const button = make("button", { type: "button", id: "course" }, "Generate it after 6, 12 and 24 months too");
  button.addEventListener("click", () => { button.disabled = true; askCourse(shown, button); });
  return [make("p", { class: "choose" }, button)];
}

// Two cases of one point: means, their difference, probabilities and texts side by side.
export function compare(article, first, second, images, others) {
  const difference = Int16Array.from(images.mean, (value, index) => others.mean[index] - value);
  const limit = Math.max(10, ...difference.map(Math.abs));
  const name = shown => `case ${shown.number}, ${months(shown)} months`;
  const same = first.scan === second.scan && first.point.every((value, axis) => value === second.point[axis]);
  article.replaceChildren(
    make("h3", {}, `Case ${second.number} beside case ${first.number}`),
    make("div", { class: "tiles" },
      figure(first, images.mean, `mean of ${name(first)}, synthetic`, grey(LEVEL, WIDTH), SYNTHETIC),
      figure(second, others.mean, `mean of ${name(second)}, synthetic`, grey(LEVEL, WIDTH), SYNTHETIC),
      ...(same ? [figure(first, difference, `case ${second.number} less case ${first.number}, synthetic`, diverging(limit), SYNTHETIC)] : [])),
    same ? make("p", { class: "soft legend" }, `−${limit} HU `, make("i", { class: "difference-scale" }),
      ` +${limit} HU. Both were generated from the same noise, so that what differs is the record's and the interval's doing.`)
      : make("p", { class: "warn" }, "They are of two places, so that there is no map of their difference."),
    make("table", {}, make("caption", {}, "Probability of malignancy"),
      make("thead", {}, make("tr", {}, ...["by", name(first), name(second)].map(text => make("th", { scope: "col" }, text)))),
      make("tbody", {}, ...first.methods.map((each, index) => make("tr", {}, make("th", { scope: "row" }, each.title),
        ...[each, second.methods.find(other => other.title === each.title)].map(probability))))),
    make("h4", {}, "What the language model read"),
    ...[first, second].map((shown, index) => make("blockquote", {}, `Case ${shown.number}: `,
      ...sentences(shown.report, [second, first][index].report))),
  );
}

const probability = each => make("td", {}, each?.as_it_came
  ? make("span", {}, each.calibrated === "-" ? `${each.as_it_came} ` : `${each.calibrated} `, make("small", {}, each.calibrated === "-" ? "not calibrated" : "calibrated"))
  : make("small", {}, "not computable"));

// The sentences of a text; those that the other has not are marked.
function sentences(text, other) {
  const split = each => each.split(/(?<=\.) /);
  const known = new Set(split(other));
  return split(text).flatMap(each => [known.has(each) ? each : make("mark", {}, each), " "]);
}
