// The page: a scan, a point and a record become cases; what the server has of this session is shown again after a reload.
import { Fault, json, post, remove, upload, watch } from "./api.js";
import { at, make } from "./dom.js";
import * as record from "./record.js";
import { compare, imagesOf, months, render } from "./result.js";
import { Viewer } from "./viewer.js";

const cases = new Map(); // finished ones by identifier: content and images
const scans = new Map();
let waiting = null; // the case that is generated

function fault(words) {
  at("fault").hidden = !words;
  at("fault").textContent = words || "";
  if (words) at("fault").scrollIntoView({ block: "nearest" });
}

// Does something; what is wrong is told.
async function attempt(action) {
  fault("");
  try {
    return await action();
  } catch (error) {
    if (!(error instanceof Fault)) { fault("Something on this page failed."); throw error; }
    fault(error.message);
  }
}

const viewer = new Viewer(ready);

function ready() {
  at("generate").disabled = Boolean(waiting) || !viewer.point;
  at("generate").title = viewer.point ? "" : "Choose the nodule's centre first.";
}

// --- the scan

function showScan(scan) {
  scans.set(scan.id, scan);
  at("work").hidden = false;
  viewer.load(scan);
  const [columns, rows, slices] = scan.shape;
  const kind = scan.simulated ? "Simulated example, no patient" : scan.dicom ? "DICOM series" : "NIfTI";
  at("loaded").textContent = `${kind}: ${slices} slice${slices === 1 ? "" : "s"} of ${columns} × ${rows}, ` +
    `${scan.spacing.map(side => side.toFixed(2)).join(" × ")} mm.`;
  at("suggested").hidden = !scan.suggested.record;
  if (scan.suggested.point) viewer.choose(scan.suggested.point, true);
  ready();
}

async function load(action, words) {
  at("loaded").textContent = words;
  const buttons = [...at("load").querySelectorAll("button, input")];
  buttons.forEach(each => { each.disabled = true; });
  const scan = await attempt(action);
  buttons.forEach(each => { each.disabled = false; });
  if (scan) { enter({}); showScan(scan); } else at("loaded").textContent = "No scan was loaded.";
}

at("example").addEventListener("click", () => load(() => post("/api/scans/example"), "Drawing the example …"));
for (const id of ["folder", "file"]) {
  at(id).addEventListener("change", async () => {
    const files = [...at(id).files];
    if (files.length) await load(() => upload(files), `Loading ${files.length} file${files.length === 1 ? "" : "s"} …`);
    at(id).value = "";
  });
}

// --- the record, and generating

// A new scan may be another patient's, so that the record of the one before goes.
function enter(values) {
  record.fill(values);
  record.preview();
}

at("suggested").addEventListener("click", () => enter(viewer.scan.suggested.record));

at("record").addEventListener("submit", event => {
  event.preventDefault();
  if (!viewer.point) { fault("Choose the nodule's centre first."); return; }
  attempt(async () => {
    const asked = { scan: viewer.scan.id, point: viewer.point, record: record.values(), interval_days: record.days() };
    await follow(await post("/api/cases", asked));
  });
});

function say(told) {
  const before = told.place - 1;
  at("bar").value = told.fraction;
  at("state").textContent = told.state === "waiting"
    ? `Waiting: ${before ? `${before} before yours in the queue, and the one that is generated` : "yours is next"}.`
    : `Generating, ${Math.round(100 * told.fraction)} %.`;
}

async function follow(asked) {
  waiting = asked;
  at("progress").hidden = false;
  ready();
  say(asked);
  try {
    await watch(`/api/cases/${asked.id}/events`, say);
    await show(asked.id, true);
    at("state").textContent = `Case ${asked.number} is done.`;
    at("result-title").focus();
  } catch (error) {
    at("state").textContent = "";
    throw error;
  } finally {
    waiting = null;
    at("progress").hidden = true;
    ready();
  }
}

at("cancel").addEventListener("click", () => attempt(() => remove(`/api/cases/${waiting.id}`)));

// --- results

async function show(id, chosen) {
  const shown = await json(`/api/cases/${id}`);
  cases.set(id, { shown, images: await imagesOf(shown) });
  list(chosen ? id : at("case").value);
}

const title = ({ shown }) => `${shown.number}, after ${months(shown)} months`;

function list(chosen) {
  const known = [...cases.entries()].sort(([, a], [, b]) => a.shown.number - b.shown.number);
  at("results").hidden = !known.length;
  at("case").replaceChildren(...known.map(([id, each]) => make("option", { value: id }, title(each))));
  if (known.length) at("case").value = cases.has(chosen) ? chosen : known.at(-1)[0];
  draw();
}

function draw() {
  const id = at("case").value;
  if (!cases.has(id)) return;
  const beside = at("beside").value;
  const others = [...cases.entries()].filter(([other]) => other !== id);
  at("beside").replaceChildren(make("option", { value: "" }, "no other"),
    ...others.map(([other, each]) => make("option", { value: other }, title(each))));
  at("beside").value = others.some(([other]) => other === beside) ? beside : "";
  const { shown, images } = cases.get(id);
  render(at("shown"), shown, images, askCourse);
  const other = cases.get(at("beside").value);
  at("compared").hidden = !other;
  if (other) compare(at("compared"), shown, other.shown, images, other.images);
}

function askCourse(shown, button) {
  attempt(async () => {
    try {
      await post(`/api/cases/${shown.id}/course`);
      await watch(`/api/cases/${shown.id}/events?what=course`, told => {
        button.textContent = told.state === "waiting" ? `Waiting, place ${told.place} …` : `Generating, ${Math.round(100 * told.fraction)} % …`;
      });
      await show(shown.id);
    } catch (error) {
      draw();
      throw error;
    }
  });
}

at("case").addEventListener("change", draw);
at("beside").addEventListener("change", draw);
at("remove").addEventListener("click", () => attempt(async () => {
  const id = at("case").value;
  await remove(`/api/cases/${id}`);
  cases.delete(id);
  list();
}));
at("forget").addEventListener("click", () => attempt(async () => {
  await remove("/api/session");
  location.reload();
}));

// --- the beginning

attempt(async () => {
  const { groups, keep_minutes: keep } = await json("/api/form");
  at("keep").textContent = `${keep} minutes after your last request`;
  record.build(groups, record.preview);
  record.preview();
  ready();
  const { scans: known, cases: made } = await json("/api/session");
  if (known.length) showScan(known.at(-1));
  const last = made.filter(one => one.scan === known.at(-1)?.id).at(-1);
  if (last) enter(last.record);
  for (const each of made.filter(one => one.state === "done")) await show(each.id, true);
  const open = made.find(one => one.state === "waiting" || one.state === "running");
  document.documentElement.dataset.ready = "yes";
  if (open) await follow(open);
});
