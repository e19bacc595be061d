"use strict";
const at = (id) => document.getElementById(id);
const state = { about: null, token: "", history: [], exclude: [], user: {}, titles: new Map() };
const SHOWN = 12; // prefixes of a level in the picture, besides those of the answer

/* Every text goes into the page as text: what an item is called is never read as HTML. */
function make(tag, about = {}, ...parts) {
  const one = document.createElement(tag);
  for (const [name, value] of Object.entries(about)) {
    if (name.startsWith("on")) one.addEventListener(name.slice(2), value);
    else if (value === true) one.setAttribute(name, "");
    else if (value !== false && value !== null) one.setAttribute(name, value);
  }
  one.append(...parts);
  return one;
}

function draw(tag, about, ...parts) {
  const one = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(about)) one.setAttribute(name, value);
  one.append(...parts);
  return one;
}

const number = (value, digits = 3) => (value === null ? "none" : value.toFixed(digits).replace("-", "−"));
const named = (item) => state.titles.get(item) || item;

/* ---- the server ---- */

class Problem extends Error {
  constructor(text, status = 0) {
    super(text);
    this.status = status;
  }
}

async function ask(path, body) {
  const headers = {};
  if (state.token) headers.Authorization = `Bearer ${state.token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const how = { headers, method: body === undefined ? "GET" : "POST", cache: "no-store", credentials: "omit" };
  if (body !== undefined) how.body = JSON.stringify(body);
  let answer;
  try {
    answer = await fetch(path, how);
  } catch {
    throw new Problem("The server cannot be reached.");
  }
  const found = await answer.json().catch(() => null);
  if (answer.ok) return found;
  if (answer.status === 401) {
    askForToken();
    throw new Problem(state.token ? "The server does not know this token." : "The server asks for a token.");
  }
  throw new Problem(inWords(found, answer.headers.get("Retry-After")), answer.status);
}

function inWords(found, retryAfter) {
  const said = found?.error?.message ?? "The server gave no reason.";
  return retryAfter ? `Busy: ${said}. Try again in ${retryAfter} s.` : said;
}

function complain(error) {
  if (!(error instanceof Problem)) throw error;
  at("problem").textContent = error.message;
}

/* ---- the token, which is kept in memory alone ---- */

function askForToken() {
  if (!at("token-dialog").open) at("token-dialog").showModal();
}

at("open-token").addEventListener("click", askForToken);
at("token-dialog").addEventListener("close", () => {
  if (at("token-dialog").returnValue !== "use") return;
  state.token = at("token").value.trim();
  at("token").value = "";
  begin();
});

/* ---- what the server serves ---- */

async function begin() {
  at("problem").textContent = "";
  try {
    state.about = await ask("/v1/about");
  } catch (error) {
    if (error.status === 503) {
      at("about").textContent = error.message;
      setTimeout(begin, 1000);
      return;
    }
    at("about").textContent = "";
    complain(error);
    return;
  }
  const about = state.about;
  const both = about.compared === null ? about.model : `${about.model} beside ${about.compared}`;
  at("about").textContent = `${both} · catalog ${about.catalog} · ${about.items.toLocaleString("en")} items`;
  at("open-token").hidden = !state.token;
  const widths = about.beam_widths.map((width) => [JSON.stringify(width), [width].flat().join("-")]);
  const usual = `the server's own (${[about.default_beam_width].flat().join("-")})`;
  const auto = about.auto ? [[JSON.stringify("auto"), "auto: until it is exact"]] : [];
  choices(at("beams"), [["", usual], ...widths, ...auto]);
  choices(at("people"), [["", "nobody"], ...about.examples.map((one, place) => [String(place), one.name])]);
  at("people-row").hidden = about.examples.length === 0;
  choices(at("domain"), [["", "the server's own"], ...about.domains.map((one) => [one, one])]);
  at("domain-row").hidden = about.domains.length === 0;
  at("sets-row").hidden = about.sets.length === 0;
  at("sets").replaceChildren(...about.sets.map((one) =>
    make("label", {}, make("input", { type: "checkbox", value: one, onchange: countSets }), ` ${one}`)));
  at("find-label").textContent = about.titles ? "Add an item by its title" : "Add an item by its id (this catalog has no titles)";
  showExperiment(about.experiment);
}

function choices(select, pairs) {
  select.replaceChildren(...pairs.map(([value, text]) => make("option", { value }, text)));
}

const chosenSets = () => [...at("sets").querySelectorAll("input:checked")].map((one) => one.value);

function countSets() {
  const count = chosenSets().length;
  at("sets-count").textContent = count ? `(${count} chosen)` : "";
}

/* ---- items by title ---- */

let options = [], chosen = -1, searches = 0, waiting;

at("find").addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(find, 150);
});

async function find() {
  const text = at("find").value.trim(), mine = ++searches;
  if (!text) return showFound([]);
  if (!state.about?.titles) return showFound([{ item: text, title: "" }]);
  try {
    const found = await ask(`/v1/items?limit=12&title=${encodeURIComponent(text)}`);
    if (mine === searches) showFound(found.items, text);
  } catch (error) {
    complain(error);
  }
}

function showFound(items, text) {
  options = items;
  chosen = items.length ? 0 : -1;
  const rows = items.map((one, place) => {
    const row = make("li", { role: "option", id: `found-${place}`, "aria-selected": place === chosen }, one.title || one.item);
    row.addEventListener("mousedown", (event) => { event.preventDefault(); take(place); });
    return row;
  });
  if (!rows.length && text) rows.push(make("li", { role: "option", "aria-disabled": true }, "No title has these words."));
  at("found").replaceChildren(...rows);
  at("found").hidden = rows.length === 0;
  point();
}

function point() {
  const open = !at("found").hidden;
  at("find").setAttribute("aria-expanded", String(open));
  [...at("found").children].forEach((row, place) => row.setAttribute("aria-selected", String(place === chosen)));
  if (open && chosen >= 0) {
    at("find").setAttribute("aria-activedescendant", `found-${chosen}`);
    at("found").children[chosen].scrollIntoView({ block: "nearest" });
  } else at("find").removeAttribute("aria-activedescendant");
}

function take(place) {
  const one = options[place];
  if (!one) return;
  state.titles.set(one.item, one.title);
  const becomes = document.querySelector("input[name=becomes]:checked").value;
  if (becomes === "history" || !state.exclude.includes(one.item)) state[becomes].push(one.item);
  at("find").value = "";
  showFound([]);
  showHistory();
}

at("find").addEventListener("keydown", (event) => {
  const moves = { ArrowDown: 1, ArrowUp: -1 };
  if (event.key in moves && options.length) {
    chosen = (chosen + moves[event.key] + options.length) % options.length;
    point();
  } else if (event.key === "Enter" && chosen >= 0 && !at("found").hidden) take(chosen);
  else if (event.key === "Escape") showFound([]);
  else return;
  event.preventDefault();
});
at("find").addEventListener("blur", () => showFound([]));

/* ---- the history ---- */

function showHistory() {
  at("history").replaceChildren(...state.history.map((item, place) => make("li", {},
    make("span", {}, named(item)),
    press("↑", `Move ${named(item)} earlier`, () => swap(place, place - 1), place === 0),
    press("↓", `Move ${named(item)} later`, () => swap(place, place + 1), place === state.history.length - 1),
    press("✕", `Remove ${named(item)}`, () => remove("history", place)))));
  at("exclude").replaceChildren(...state.exclude.map((item, place) => make("li", {},
    make("span", {}, named(item)), press("✕", `Allow ${named(item)} again`, () => remove("exclude", place)))));
  at("excluded").hidden = state.exclude.length === 0;
  at("no-history").hidden = state.history.length > 0;
  at("history-count").textContent = state.history.length ? `${state.history.length} items, the newest last` : "";
  at("history").scrollTop = at("history").scrollHeight;
  const fields = Object.entries(state.user).map(([name, value]) => `${name} ${value}`);
  at("user").hidden = fields.length === 0;
  at("user").textContent = `Told of the person: ${fields.join(", ")}`;
}

function press(text, label, onclick, disabled = false) {
  return make("button", { type: "button", class: "quiet small", "aria-label": label, title: label, onclick, disabled }, text);
}

function swap(one, other) {
  [state.history[one], state.history[other]] = [state.history[other], state.history[one]];
  showHistory();
  at("history").children[other].querySelector("button:not(:disabled)").focus();
}

function remove(list, place) {
  state[list].splice(place, 1);
  showHistory();
  (at(list).children[Math.min(place, state[list].length - 1)]?.querySelector("button:last-child") ?? at("find")).focus();
}

at("clear").addEventListener("click", () => {
  Object.assign(state, { history: [], exclude: [], user: {} });
  at("people").value = "";
  showHistory();
});

at("people").addEventListener("change", () => {
  const one = state.about.examples[Number(at("people").value)];
  if (at("people").value === "") return;
  Object.assign(state, { history: [...one.history], user: { ...one.user } });
  for (const [place, item] of one.history.entries()) if (one.titles?.[place]) state.titles.set(item, one.titles[place]);
  showHistory();
});

/* ---- recommendations ---- */

function request() {
  const width = at("beams").value, domain = at("domain").value, allow = chosenSets();
  return {
    history: state.history, k: Number(at("k").value), titles: true,
    ...(state.exclude.length && { exclude: state.exclude }),
    ...(allow.length && { allow }),
    ...(width && { beam_width: JSON.parse(width) }),
    ...(domain && { domain }),
    ...(at("seen").checked && { exclude_seen: true }),
    ...(Object.keys(state.user).length && { user: state.user }),
  };
}

at("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!state.about) return begin();
  at("problem").textContent = "";
  at("go").disabled = true;
  at("said").textContent = "Asking …";
  try {
    const body = request();
    if (state.about.compared !== null) showBoth(await ask("/v1/compare", body));
    else showOne(await ask("/v1/recommend", body));
    await showTrace(body);
  } catch (error) {
    at("said").textContent = "No answer.";
    complain(error);
  } finally {
    at("go").disabled = false;
  }
  refreshExperiment();
});

function remember(answer) {
  answer.items.forEach((item, place) => state.titles.set(item, answer.titles?.[place] ?? ""));
}

function badge(text, warn = false) {
  return make("span", { class: warn ? "badge warn" : "badge" }, text);
}

function sureness(answer) {
  if (answer.source === "popularity") return badge("by popularity: the request tells nothing of its user", true);
  if (answer.exact) return badge("exact: no item scores better");
  return badge(answer.near_tie ? "not certain: a near tie" : "not certain: wider beams may find better", true);
}

function timesOf(answer) {
  const { queue_ms, device_ms, total_ms } = answer.timings;
  return `${number(total_ms, 1)} ms in the server (${number(queue_ms, 1)} waiting, ${number(device_ms, 1)} on the device)`;
}

function showOne(answer) {
  remember(answer);
  at("said").textContent = `${answer.items.length} items for ${state.history.length} of history.`;
  at("badges").replaceChildren(sureness(answer), ...answer.notes.map((note) => badge(note, true)));
  const best = answer.scores[0] ?? 0;
  const rows = answer.items.map((item, place) => make("tr", {},
    make("td", { class: "n" }, String(place + 1)), itemCell(item),
    make("td", { class: "n" }, number(answer.scores[place])),
    make("td", { class: "bar" }, meter(answer.scores[place], best))));
  at("answer").replaceChildren(table(["#n", "Item", "Score#n", "Beside the best#bar"], rows));
  const bound = answer.bound === null ? "Nothing was left out." : `Nothing left out scores above ${number(answer.bound)}.`;
  at("times").textContent = `${timesOf(answer)}. ${answer.source === "model" ? bound : ""}`;
}

function itemCell(item) {
  return make("td", {}, named(item), ...(named(item) === item ? [] : [make("span", { class: "id" }, item)]));
}

function meter(score, best) {
  const share = Math.exp(score - best);
  return make("meter", { min: 0, max: 1, value: share, "aria-label": `${Math.round(share * 100)} % of the best` });
}

function table(heads, rows) {
  const cells = heads.map((head) => {
    const [text, kind] = head.split("#");
    return make("th", { scope: "col", class: kind || null }, text || (kind ? "#" : ""));
  });
  return make("table", {}, make("thead", {}, make("tr", {}, ...cells)), make("tbody", {}, ...rows));
}

function showBoth({ served, compared }) {
  const broken = [served, compared].find((side) => side.answer.error);
  if (broken) throw new Problem(`${broken.model}: ${inWords(broken.answer)}`);
  const [one, other] = [served.answer, compared.answer];
  remember(one);
  remember(other);
  const places = new Map(other.items.map((item, place) => [item, place]));
  const shared = one.items.filter((item) => places.has(item));
  const moved = shared.filter((item) => places.get(item) !== one.items.indexOf(item));
  const apart = Math.max(0, ...shared.map((item) =>
    Math.abs(one.scores[one.items.indexOf(item)] - other.scores[places.get(item)])));
  at("said").textContent =
    `${served.model} and ${compared.model} share ${shared.length} of ${one.items.length} items; ` +
    `${moved.length} of these moved; scores differ by at most ${number(apart)}.`;
  at("badges").replaceChildren(
    make("p", {}, `${served.model}: `, sureness(one)), make("p", {}, `${compared.model}: `, sureness(other)));
  const all = [...one.items, ...other.items.filter((item) => !one.items.includes(item))];
  at("answer").replaceChildren(
    table([`${served.model}#n`, `${compared.model}#n`, "Item", "Moved#n", "Score apart#n"],
      all.map((item) => sideBySide(item, one, other))));
  at("times").textContent = `${served.model}: ${timesOf(one)}. ${compared.model}: ${timesOf(other)}.`;
}

function sideBySide(item, one, other) {
  const [first, second] = [one.items.indexOf(item), other.items.indexOf(item)];
  const shared = first >= 0 && second >= 0, by = first - second;
  const move = !shared ? (first >= 0 ? "gone" : "new") : by === 0 ? "same" : by > 0 ? `↑ ${by}` : `↓ ${-by}`;
  const kind = move === "same" ? "same" : move === "gone" || by < 0 && shared ? "down" : "up";
  const apart = shared ? number(other.scores[second] - one.scores[first]) : "";
  const place = (found) => make("td", { class: "n" }, found >= 0 ? String(found + 1) : "–");
  return make("tr", {}, place(first), place(second), itemCell(item),
    make("td", { class: `n ${kind}` }, move), make("td", { class: "n" }, apart));
}

/* ---- the search as a picture ---- */

async function showTrace(body) {
  at("picture-section").hidden = true;
  if (!state.about.traces || !state.history.length && !Object.keys(state.user).length) return;
  const { titles, ...rest } = body;
  try {
    drawTrace(await ask("/v1/trace", rest));
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    at("picture-said").textContent = error.message;
    at("picture").replaceChildren();
    at("picture-table").replaceChildren();
  }
  at("picture-section").hidden = false;
}

const key = (codes) => codes.join(",");

function drawTrace(found) {
  const won = new Set();
  found.codes.forEach((codes) => codes.forEach((_, level) => won.add(key(codes.slice(0, level + 1)))));
  const items = new Map();
  found.codes.forEach((codes, place) => items.set(key(codes), [...(items.get(key(codes)) ?? []), found.titles[place] || found.items[place]]));
  const columns = found.levels.map((level) => [
    ...level.kept.filter(([codes], place) => place < SHOWN || won.has(key(codes))).map((one) => [...one, "kept"]),
    ...level.dropped.slice(0, 4).map((one) => [...one, "dropped"]),
  ]);
  const wide = 150, tall = 30, top = 60, right = 330;
  const most = Math.max(...columns.map((column) => column.length));
  const width = wide * columns.length + right, height = top + most * tall + 30;
  const spots = new Map([["", [30, top + most * tall / 2]]]);
  const edges = [], nodes = [];
  columns.forEach((column, level) => {
    const x = wide * (level + 1) - 20;
    nodes.push(draw("text", { x, y: 16, class: "head", "text-anchor": "middle" }, `Level ${level + 1}`));
    keptOf(found.levels[level]).forEach((text, line) =>
      nodes.push(draw("text", { x, y: 32 + 15 * line, class: "soft", "text-anchor": "middle" }, text)));
    column.forEach(([codes, score, kind], row) => {
      const y = top + row * tall + tall / 2, mine = kind === "kept" && won.has(key(codes)) ? "won" : kind;
      const from = spots.get(key(codes.slice(0, -1)));
      if (kind === "kept") spots.set(key(codes), [x, y]);
      const out = level ? 28 : 8;
      if (from) edges.push(draw("path", { class: `edge ${mine}`, d: `M${from[0] + out} ${from[1]} C${from[0] + 65} ${from[1]} ${x - 65} ${y} ${x - 28} ${y}` }));
      nodes.push(draw("rect", { x: x - 28, y: y - 11, width: 56, height: 22, rx: 11, class: `node ${mine}` },
        draw("title", {}, `${codes.join(" ")}, score ${number(score)}, ${kind}`)));
      nodes.push(draw("text", { x, y: y + 4, "text-anchor": "middle", class: mine }, String(codes.at(-1))));
      if (level === columns.length - 1) nodes.push(draw("text", { x: x + 36, y: y + 4, class: kind === "dropped" ? "soft" : "item" }, leafText(items.get(key(codes)), score, kind)));
    });
  });
  const root = draw("circle", { cx: 30, cy: spots.get("")[1], r: 8, class: "node won" });
  edges.forEach((edge) => { if (edge.classList.contains("won")) edges.push(edges.splice(edges.indexOf(edge), 1)[0]); });
  const picture = draw("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-labelledby": "picture-said" }, ...edges, root, ...nodes);
  at("picture").replaceChildren(picture);
  at("picture-said").textContent = traceInWords(found);
  at("picture-table").replaceChildren(table(["Level#n", "May keep#n", "Kept#n", "Best kept#n", "Best dropped#n"], found.levels.map((level, place) =>
    make("tr", {}, ...[place + 1, level.width, level.kept.length, level.kept.length ? number(level.kept[0][1]) : "none", number(level.highest_dropped)]
      .map((value) => make("td", { class: "n" }, String(value)))))));
}

function keptOf(level) {
  const kept = level.kept.length;
  return level.highest_dropped === null ? [`kept all ${kept}`] : [`kept ${kept}`, `dropped ${number(level.highest_dropped, 2)} …`];
}

function leafText(titles, score, kind) {
  const text = titles ? titles.join(" · ") : kind === "dropped" ? "given up" : "";
  return `${number(score, 2)}  ${text.length > 42 ? `${text.slice(0, 41)}…` : text}`;
}

function traceInWords(found) {
  const last = found.scores.at(-1);
  const whose = state.about.compared === null ? "" : `This is the search of ${found.model}. `;
  const start = whose + "From the left, each level adds a code to the best beginnings of items. Filled: they lead to an item of the list. Dashed: the best that were given up. ";
  if (last === undefined) return `${start}No item was found.`;
  if (found.bound === null) return `${start}Nothing was given up, so the list is exact.`;
  const than = `the last item of the list scores ${number(last)}, the best of what was given up at most ${number(found.bound)}`;
  return `${start}${than[0].toUpperCase()}${than.slice(1)}: ${found.exact ? "so the list is exact." : "so wider beams may find better items."}`;
}

/* ---- the experiment ---- */

async function refreshExperiment() {
  if (state.about?.experiment) showExperiment((await ask("/v1/about").catch(() => state.about)).experiment);
}

function showExperiment(one) {
  at("experiment-section").hidden = !one;
  if (!one) return;
  const how = one.ended ? "has ended" : one.stopped !== null ? `is stopped (${one.stopped}): the control answers everybody` : "runs";
  at("experiment-said").textContent = `${one.name} ${how}; stage ${one.stage}, ${one.ramp === "1" ? "all units" : `${one.ramp} of all units`} take part.`;
  at("experiment").replaceChildren(table(["Variant", "Share#n", "Requests here"], Object.entries(one.variants).map(([name, variant]) =>
    make("tr", {}, make("td", {}, name), make("td", { class: "n" }, variant.share),
      make("td", {}, Object.entries(variant.requests).map(([end, count]) => `${count} ${end}`).join(", ") || "none yet")))));
}

begin();
