"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = id => document.getElementById(id);
  const SCALE = 4; // canvas pixels a pixel, so that the mark is legible and goes along when a picture is copied
  const [width, height] = data.side;
  let shown = [];

  const canvases = data.tiles.map(([title, synthetic]) => {
    const figure = document.createElement("figure");
    const canvas = figure.appendChild(document.createElement("canvas"));
    Object.assign(canvas, { width: width * SCALE, height: height * SCALE });
    canvas.setAttribute("role", "img");
    const caption = figure.appendChild(document.createElement("figcaption"));
    caption.textContent = synthetic ? `${title}, synthetic` : title;
    if (synthetic) figure.className = "synthetic";
    at("tiles").append(figure);
    return canvas;
  });

  function write(context, text, x, y) {
    for (const method of ["strokeText", "fillText"]) context[method](text, x, y);
  }

  function draw(sprite, item) {
    canvases.forEach((canvas, index) => {
      const [title, synthetic] = data.tiles[index];
      const context = canvas.getContext("2d");
      context.imageSmoothingEnabled = false;
      context.drawImage(sprite, index * width, 0, width, height, 0, 0, canvas.width, canvas.height);
      canvas.setAttribute("aria-label", `${item.id}: ${title}${synthetic ? ", synthetic" : ""}`);
      Object.assign(context, { font: `bold ${canvas.width / 14}px sans-serif`, textAlign: "center" });
      Object.assign(context, { lineWidth: 4, strokeStyle: "black", fillStyle: "white", lineJoin: "round" });
      if (synthetic) write(context, "SYNTHETIC", canvas.width / 2, canvas.height - 8);
      if (!item.pixel_mm) return;
      const bar = 10 * SCALE / item.pixel_mm[title.startsWith("follow-up") ? 1 : 0];
      context.strokeRect(8, 8, bar, 3);
      context.fillRect(8, 8, bar, 3);
      write(context, "10 mm", 8 + bar / 2, 30);
    });
  }

  function element(name, attributes, text) {
    const made = document.createElementNS(at("scores").namespaceURI, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function drawCourse(course) {
    at("over-time").hidden = !course;
    if (!course) return;
    const { days, baseline, runs, follow_up } = course;
    const sorted = [...runs].sort((a, b) => a - b);
    const half = Math.floor(sorted.length / 2);
    const median = sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
    const top = 5 * Math.ceil(1.05 * Math.max(baseline, follow_up || 0, ...runs) / 5);
    const [start, end] = [44, 600];
    const y = mm => 128 - 120 * mm / top;
    const line = (mm, kind) => element("line", { x1: start, x2: end, y1: y(baseline), y2: y(mm), class: kind });
    const parts = [0, top / 2, top].flatMap(mm => [
      element("line", { x1: start, x2: end, y1: y(mm), y2: y(mm), class: "grid" }),
      element("text", { x: start - 6, y: y(mm) + 4, "text-anchor": "end" }, mm)]);
    parts.push(element("text", { x: start, y: 146 }, "today"));
    parts.push(element("text", { x: end, y: 146, "text-anchor": "end" }, `after ${days} days`));
    for (const mm of runs) parts.push(line(mm, "run"), element("circle", { cx: end, cy: y(mm), r: 4, class: "dot" }));
    if (runs.length) parts.push(line(median, "median"));
    if (follow_up !== null) parts.push(line(follow_up, "later"));
    parts.push(element("circle", { cx: start, cy: y(baseline), r: 5, class: "start" }));
    at("course").replaceChildren(...parts);
    at("course").setAttribute("aria-label", `Long diameter over ${days} days: ${at("diameters").textContent}`);
  }

  function drawScores(item, mean) {
    const x = probability => 20 + 600 * probability;
    const parts = [element("line", { x1: x(0), x2: x(1), y1: 50, y2: 50, class: "axis" })];
    for (const tick of [0, 0.25, 0.5, 0.75, 1]) {
      parts.push(element("line", { x1: x(tick), x2: x(tick), y1: 50, y2: 54, class: "axis" }));
      parts.push(element("text", { x: x(tick), y: 69, "text-anchor": "middle" }, tick));
    }
    item.real.forEach((value, index) => parts.push(
      element("line", { x1: x(value), x2: x(value), y1: 4, y2: 50, class: index ? "later" : "real" })));
    // runs lie at three heights, so that equal ones can be told apart
    item.scores.forEach((value, run) => parts.push(
      element("circle", { cx: x(value), cy: 38 - 9 * (run % 3), r: 4.5, class: "dot" })));
    parts.push(element("path", { d: `M${x(mean)} 39l-7 11h14z`, class: "peak" }));
    at("scores").replaceChildren(...parts);
    at("scores").setAttribute("aria-label", `Probabilities of ${item.scores.length} runs, mean ${mean.toFixed(3)}`);
  }

  function show(item) {
    at("case").value = item.id;
    at("name").textContent = item.id;
    at("outcome").textContent = item.outcome === "unknown" ? "outcome unknown" : item.outcome;
    at("outcome").className = `badge ${item.outcome}`;
    at("place").textContent = `${shown.indexOf(item) + 1} of ${shown.length}`;
    const mean = item.scores.reduce((sum, value) => sum + value, 0) / item.scores.length;
    drawScores(item, mean);
    at("runs").textContent = item.scores.length === 1 ? "the one run" : `each of ${item.scores.length} runs`;
    at("mean").textContent = mean.toFixed(3);
    at("real-baseline").textContent = item.real[0].toFixed(3);
    at("real-follow-up").textContent = item.real[1].toFixed(3);
    at("record").textContent = item.record || "nothing is known";
    at("measured").hidden = !item.long_mm;
    at("diameters").textContent = item.long_mm || "";
    drawCourse(item.course);
    const sprite = new Image();
    sprite.onload = () => { if (at("case").value === item.id) draw(sprite, item); };
    sprite.src = `data:image/webp;base64,${item.sprite}`;
    history.replaceState(null, "", `#case=${encodeURIComponent(item.id)}`);
  }

  function list(id) {
    const outcome = at("filter").value;
    shown = data.cases.filter(item => !outcome || item.outcome === outcome);
    at("case").replaceChildren(...shown.map(item => new Option(item.id)));
    show(shown.find(item => item.id === id) || shown[0]);
  }

  function step(by) {
    const index = shown.findIndex(item => item.id === at("case").value);
    show(shown[(index + by + shown.length) % shown.length]);
  }

  const asked = () => decodeURIComponent((location.hash.match(/^#case=(.*)/) || [])[1] || "");
  at("choose").addEventListener("submit", event => event.preventDefault());
  at("filter").addEventListener("change", () => list(at("case").value));
  at("case").addEventListener("change", () => show(shown.find(item => item.id === at("case").value)));
  at("previous").addEventListener("click", () => step(-1));
  at("next").addEventListener("click", () => step(1));
  addEventListener("hashchange", () => { if (asked()) { at("filter").value = ""; list(asked()); } });
  addEventListener("keydown", event => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const modified = event.altKey || event.ctrlKey || event.metaKey || event.shiftKey;
    if (by && !modified && !event.target.closest("select, pre")) { step(by); event.preventDefault(); }
  });
  list(asked());
})();
