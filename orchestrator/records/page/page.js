"use strict";
// The browser of episodes. What is shown is in the page's fragment (#split=eval&text=…), so that a view can be linked.
// A model's words are data: they reach the page through textContent and nothing else.
(() => {
  const PAGE = 20;
  const FIELDS = ["split", "from", "to", "low", "high", "text", "order"];
  const { tasks, episodes } = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const form = at("filters");
  let view = {};

  function make(tag, className, ...children) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    made.append(...children.filter((child) => child !== null));
    return made;
  }

  const taskOf = (episode) => tasks[`${episode.split}/${episode.task}`];
  const known = (value) => value !== null && value !== undefined;
  const fixed = (value) => (known(value) ? value.toFixed(3).replace("-", "−") : "none");
  const says = (value) => (value > 0.5 ? "yes" : "no");
  const disagrees = (episode, name) =>
    known(episode.truths[name]) && known(episode.verdicts[name]) && says(episode.truths[name]) !== says(episode.verdicts[name]);
  for (const episode of episodes) {
    const task = taskOf(episode);
    const words = [episode.id, episode.text, episode.unscored, ...episode.turns.map((turn) => turn[1])];
    words.push(...task.messages.map((message) => message[1]), ...task.criteria.map((criterion) => criterion.text));
    episode.words = words.filter(known).join("\n").toLowerCase();
    episode.wrong = Object.keys(episode.verdicts).filter((name) => disagrees(episode, name)).length;
  }

  const ORDERS = {
    best: (a, b) => (b.reward ?? -Infinity) - (a.reward ?? -Infinity) || 0,
    worst: (a, b) => (a.reward ?? Infinity) - (b.reward ?? Infinity) || 0,
    wrong: (a, b) => b.wrong - a.wrong,
    long: (a, b) => b.tokens - a.tokens,
  };

  function found() {
    const number = (name) => (view[name] ? Number(view[name]) : null);
    const [from, to, low, high] = ["from", "to", "low", "high"].map(number);
    const text = (view.text ?? "").toLowerCase();
    const kept = episodes.filter((episode) =>
      (!view.split || episode.split === view.split)
      && (from === null || episode.step >= from) && (to === null || episode.step <= to)
      && (low === null || (known(episode.reward) && episode.reward >= low))
      && (high === null || (known(episode.reward) && episode.reward <= high))
      && episode.words.includes(text));
    return ORDERS[view.order] ? kept.sort(ORDERS[view.order]) : kept;
  }

  function item(episode, chosen) {
    const button = make("button", "",
      make("span", "where", `step ${episode.step} · ${episode.split} · ${episode.task} · ${episode.sample}`),
      make("span", "reward", fixed(episode.reward)),
      make("span", "words", episode.text.slice(0, 160) || "(empty)"));
    button.type = "button";
    button.setAttribute("aria-current", String(episode === chosen));
    button.addEventListener("click", () => go({ ...view, episode: key(episode) }));
    return make("li", "", button);
  }

  const key = (episode) => `${episode.split}/${episode.id}`;
  const chip = (name, value) => make("span", "chip", `${name} `, make("b", "", value));

  function verdictRow(name, episode, criterion) {
    const value = episode.verdicts[name];
    const truth = episode.truths[name];
    const fill = make("span", "");
    fill.style.width = `${Math.min(1, Math.max(0, value ?? 0)) * 100}%`;
    const weight = criterion?.weight;
    return make("tr", disagrees(episode, name) ? "wrong" : "",
      make("td", `weight ${weight < 0 ? "bad" : "good"}`, known(weight) ? `${weight < 0 ? "−" : "+"}${Math.abs(weight)}` : ""),
      make("td", "criterion", criterion?.text || name),
      make("td", "", make("span", "bar", fill), known(value) ? value.toFixed(2) : "none"),
      make("td", "", known(truth) ? says(truth) : ""));
  }

  function verdicts(episode) {
    const criteria = new Map(taskOf(episode).criteria.map((criterion) => [criterion.id, criterion]));
    const names = [...new Set([...criteria.keys(), ...Object.keys(episode.verdicts)])];
    if (!names.length) return null;
    const heads = ["weight", "criterion", "P(yes)", Object.keys(episode.truths).length ? "oracle" : ""];
    const head = make("tr", "", ...heads.map((text) => Object.assign(make("th", text === "criterion" ? text : "", text), { scope: "col" })));
    const rows = names.map((name) => verdictRow(name, episode, criteria.get(name)));
    return make("table", "verdicts", make("thead", "", head), make("tbody", "", ...rows));
  }

  function detail(episode) {
    const parts = [make("h3", "", `Step ${episode.step}, ${episode.split}, ${episode.task}, answer ${episode.sample}`)];
    const chips = [chip("reward", fixed(episode.reward)), ...Object.entries(episode.components).map(([name, value]) => chip(name, fixed(value)))];
    if (known(episode.gold)) chips.push(chip("oracle", fixed(episode.gold)));
    if (known(episode.advantage)) chips.push(chip("advantage", fixed(episode.advantage)));
    chips.push(chip("tokens", String(episode.tokens)), chip("ended by", episode.finish ?? "none"), chip("weights", String(episode.version)));
    parts.push(make("div", "chips", ...chips));
    if (known(episode.unscored)) parts.push(make("p", "bad", `No verdict: ${episode.unscored}`));
    for (const [role, text] of taskOf(episode).messages) parts.push(make("h4", "", `Prompt (${role})`), make("pre", "", text));
    const turns = episode.turns.length ? episode.turns : [["Answer", episode.text]];
    for (const [role, text] of turns) parts.push(make("h4", "", role), make("pre", "answer", text || "(empty)"));
    const table = verdicts(episode);
    if (table) parts.push(make("h4", "", "Verdicts"), table);
    return parts;
  }

  function show() {
    const kept = found();
    const pages = Math.max(1, Math.ceil(kept.length / PAGE));
    const page = Math.min(Math.max(1, Math.trunc(Number(view.page)) || 1), pages);
    const here = kept.slice((page - 1) * PAGE, page * PAGE);
    const chosen = kept.find((episode) => key(episode) === view.episode) ?? here[0];
    at("found").textContent = `${kept.length} of ${episodes.length} episodes`;
    at("list").replaceChildren(...here.map((episode) => item(episode, chosen)));
    at("page").textContent = `page ${page} of ${pages}`;
    at("previous").disabled = page <= 1;
    at("next").disabled = page >= pages;
    at("previous").onclick = () => go({ ...view, page: String(page - 1), episode: "" });
    at("next").onclick = () => go({ ...view, page: String(page + 1), episode: "" });
    at("episode").replaceChildren(...(chosen ? detail(chosen) : [make("p", "fine", "No episode matches.")]));
    at("episode").scrollTop = 0;
  }

  function go(wanted) {
    view = Object.fromEntries(Object.entries(wanted).filter(([, value]) => value));
    history.replaceState(null, "", `#${new URLSearchParams(view).toString() || "episodes"}`);
    show();
  }

  function read() {
    // A fragment without "=" is a place on the page.
    if (location.hash.includes("=")) view = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
    for (const name of FIELDS) form.elements[name].value = view[name] ?? "";
    show();
  }

  form.addEventListener("input", () => go(Object.fromEntries(FIELDS.map((name) => [name, form.elements[name].value]))));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => go({}), 0));
  window.addEventListener("hashchange", read);
  form.hidden = false;
  at("browser").hidden = episodes.length === 0;
  read();
})();
