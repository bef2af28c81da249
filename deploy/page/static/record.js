// The record: 13 controls, as the server names them, and the text that follows from them.
import { post } from "./api.js";
import { at, make } from "./dom.js";

const DAYS_PER_MONTH = 30.4375;

export const days = () => Math.floor(Number(at("months").value) * DAYS_PER_MONTH);

export function build(groups, changed) {
  for (const { title, features } of groups) {
    const controls = features.map(feature => make("label", {}, feature.label + (feature.unit ? `, ${feature.unit}` : ""), control(feature)));
    at("groups").append(make("fieldset", {}, make("legend", {}, title), make("div", { class: "features" }, ...controls)));
  }
  at("record").addEventListener("input", changed);
}

function control({ name, choices, minimum, maximum }) {
  if (!choices) return make("input", { type: "number", name, min: minimum, max: maximum, step: "any", placeholder: "not known" });
  return make("select", { name }, make("option", { value: "" }, "not known"),
    ...choices.map(([code, words]) => make("option", { value: code }, words)));
}

const controls = () => [...at("groups").querySelectorAll("[name]")];

export function values() {
  return Object.fromEntries(controls().filter(each => each.value !== "").map(each => [each.name, Number(each.value)]));
}

export function fill(record) {
  for (const each of controls()) each.value = record[each.name] ?? "";
}

let last = 0;
export async function preview() {
  const turn = ++last;
  try {
    const { report } = await post("/api/report", { record: values(), interval_days: days() });
    if (turn === last) at("report").textContent = report;
  } catch (fault) {
    if (turn === last) at("report").textContent = fault.message;
  }
}
