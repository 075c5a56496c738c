"use strict";
// The map's points. What is shown is in the page's fragment (#view=together&point=12), so that a view can be linked.
// A model's words are data: they reach the page through textContent and nothing else.
(() => {
  const FIELDS = ["view", "colour"];
  const REACH = 14; // pixels from a point within which the pointer is at it
  const { runs, questions, points: rows, texts, colours } = JSON.parse(document.getElementById("data").textContent);
  const points = rows.map(([question, id, reward, tokens, text, own, shared], number) => ({ number, question, id, reward, tokens, text, own, shared }));
  const at = (id) => document.getElementById(id);
  const form = at("choices");
  let view = {};
  let panels = [];
  let near = null;

  function make(tag, className, ...children) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    made.append(...children.filter((child) => child !== null));
    return made;
  }

  const runOf = (point) => questions[point.question].run;
  const scales = new Map(runs.map((run) => {
    const rewards = points.filter((point) => runOf(point) === run).map((point) => point.reward);
    return [run, [rewards.reduce((a, b) => Math.min(a, b)), rewards.reduce((a, b) => Math.max(a, b))]];
  }));
  const said = (value) => String(Number(value.toFixed(3))).replace("-", "−");
  // Further ones are far apart in hue from those just before them.
  const shade = (number) => colours.palette[number] ?? `hsl(${(number * 137.5) % 360} 60% 45%)`;
  const parts = (colour) => [1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16));

  function between(share) {
    const place = share * (colours.reward.length - 1);
    const from = Math.min(Math.floor(place), colours.reward.length - 2);
    const [first, second] = [parts(colours.reward[from]), parts(colours.reward[from + 1])];
    return `rgb(${first.map((value, index) => Math.round(value + (second[index] - value) * (place - from))).join(",")})`;
  }

  function colourOf(point) {
    if (view.colour === "question") return shade(point.question);
    if (view.colour === "run") return shade(runs.indexOf(runOf(point)));
    const [low, high] = scales.get(runOf(point));
    return between(high > low ? (point.reward - low) / (high - low) : 0.5);
  }

  function legend() {
    const entry = (background, className, ...words) => {
      const mark = make("i", className);
      mark.style.background = background;
      return make("span", "", words.length > 1 ? words[0] : null, mark, words[words.length - 1]);
    };
    if (view.colour === "run") return runs.map((run, number) => entry(shade(number), "", run));
    if (view.colour === "question") return questions.map(({ run, task }, number) => entry(shade(number), "", `${run} ${task}`));
    const scale = `linear-gradient(90deg, ${colours.reward.join(", ")})`;
    return runs.map((run) => {
      const [low, high] = scales.get(run);
      return entry(high > low ? scale : between(0.5), "scale", `${run}: reward ${said(low)}`, said(high));
    });
  }

  function panel(name, says, mine) {
    const canvas = make("canvas", "");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${mine.length} answers, ${name}`);
    const made = { canvas, mine };
    canvas.addEventListener("pointermove", (event) => hover(made, event));
    canvas.addEventListener("pointerleave", () => { near = null; draw(); show(); });
    canvas.addEventListener("click", (event) => {
      const found = nearest(made, event);
      go({ ...view, point: found ? String(found.number) : "" });
    });
    panels.push(made);
    return make("figure", "", make("figcaption", "", make("b", "", name), make("p", "", says)), canvas);
  }

  function build() {
    panels = [];
    const shown = view.view === "together"
      ? [make("div", "row one", panel("all questions", `${questions.length} questions in one map`, points.filter((point) => point.shared)))]
      : runs.flatMap((run) => [make("h3", "", run), make("div", "row", ...questions.flatMap((question, number) => question.run !== run ? []
        : [panel(question.task, question.says, points.filter((point) => point.question === number))]))]);
    at("panels").replaceChildren(...shown);
    at("legend").replaceChildren(...legend());
  }

  function placed({ canvas }, point) {
    const [x, y] = view.view === "together" ? point.shared : point.own;
    const half = canvas.clientWidth / 2;
    return [half + x * half * 0.93, half - y * half * 0.93];
  }

  function nearest(panel, event) {
    let best = null;
    let least = REACH * REACH;
    for (const point of panel.mine) {
      const [x, y] = placed(panel, point);
      const distance = (x - event.offsetX) ** 2 + (y - event.offsetY) ** 2;
      if (distance <= least) [best, least] = [point, distance];
    }
    return best;
  }

  function hover(panel, event) {
    const found = nearest(panel, event);
    if (found === near) return;
    near = found;
    draw();
    show();
  }

  const chosen = () => near ?? points[Number(view.point ?? NaN)] ?? null;

  function draw() {
    const marked = chosen();
    const ink = getComputedStyle(document.body).color;
    for (const panel of panels) {
      const { canvas, mine } = panel;
      const ratio = window.devicePixelRatio || 1;
      canvas.width = canvas.height = Math.round(canvas.clientWidth * ratio);
      const pen = canvas.getContext("2d");
      pen.scale(ratio, ratio);
      const radius = mine.length > 150 ? 2.6 : 4;
      pen.globalAlpha = 0.65;
      for (const point of mine) {
        pen.fillStyle = colourOf(point);
        pen.beginPath();
        pen.arc(...placed(panel, point), radius, 0, 2 * Math.PI);
        pen.fill();
      }
      if (marked && mine.includes(marked)) {
        pen.globalAlpha = 1;
        pen.strokeStyle = ink;
        pen.lineWidth = 2;
        pen.beginPath();
        pen.arc(...placed(panel, marked), radius + 3, 0, 2 * Math.PI);
        pen.stroke();
      }
    }
  }

  const chip = (name, value) => make("span", "chip", `${name} `, make("b", "", value));

  function detail(point) {
    const question = questions[point.question];
    const same = points.filter((other) => other.question === point.question && other.text === point.text).length;
    const shown = [make("h3", "", `${question.run}, ${question.task}`),
      make("div", "chips", chip("reward", said(point.reward)), chip("tokens", String(point.tokens)), chip("episode", point.id),
        same > 1 ? chip("same text", `${same} times`) : null)];
    shown.push(make("h4", "", "Answer"), make("pre", "answer", texts[point.text]));
    for (const [role, text] of question.messages) shown.push(make("h4", "", `Prompt (${role})`), make("pre", "", text));
    return shown;
  }

  function show() {
    const point = chosen();
    at("episode").replaceChildren(...(point ? detail(point) : [make("p", "fine", "Point at an answer to read it; a click keeps it here.")]));
    at("episode").scrollTop = 0;
  }

  function go(wanted) {
    const rebuilt = wanted.view !== view.view || wanted.colour !== view.colour || !panels.length;
    view = Object.fromEntries(Object.entries(wanted).filter(([, value]) => value));
    history.replaceState(null, "", `#${new URLSearchParams(view).toString() || "pictures"}`);
    if (rebuilt) build();
    draw();
    show();
  }

  function read() {
    // A fragment without "=" is a place on the page.
    const wanted = location.hash.includes("=") ? Object.fromEntries(new URLSearchParams(location.hash.slice(1))) : view;
    for (const name of FIELDS) form.elements[name].value = wanted[name] ?? "";
    panels = [];
    view = wanted;
    build();
    draw();
    show();
  }

  form.addEventListener("input", () => go({ ...view, ...Object.fromEntries(FIELDS.map((name) => [name, form.elements[name].value])) }));
  form.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("hashchange", read);
  window.addEventListener("resize", draw);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  form.hidden = false;
  at("map").hidden = false;
  read();
})();
