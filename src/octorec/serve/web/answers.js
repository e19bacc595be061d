// Ranked lists: one, or two beside each other with what they share and what moved.
function showAnswer(answer, other) {
  const lists = make("div", { class: other ? "lists two" : "lists" });
  if (other) {
    const moved = movedBetween(answer, other);
    lists.append(
      listOf(answer, answer.model, (item) => moved.from.has(item) ? "\u00a0" : mark("gone", "Not among the other's", true)),
      listOf(other, other.model, (item, rank) => moveOf(moved, item, rank)));
    at("answer").replaceChildren(make("p", { class: "shared", id: "shared" }, moved.said), lists);
    return moved.said;
  }
  lists.append(listOf(answer, null, null));
  at("answer").replaceChildren(lists);
  return "";
}

function listOf(answer, name, marked) {
  const best = answer.scores.length ? answer.scores[0] : 0;
  const seen = new Set(history_.ids);
  const rows = answer.items.map((item, rank) => {
    const bar = make("span");
    bar.style.width = `${100 * Math.exp(answer.scores[rank] - best)}%`;
    const title = answer.titles[rank];
    return make("li", {},
      make("span", { class: "rank" }, String(rank + 1)),
      make("span", { class: "item", title: title || item }, title || `Item ${item}`,
        title ? make("small", {}, item) : null, seen.has(item) ? make("small", {}, "in the history") : null),
      make("span", { class: "score" }, shownNumber(answer.scores[rank])),
      make("span", { class: "bar", "aria-hidden": "true" }, bar),
      marked ? make("span", { class: "change" }, marked(item, rank)) : null);
  });
  return make("section", { "aria-label": name || "Answer" }, name ? make("h3", {}, name) : null, summaryOf(answer),
    rows.length ? make("ol", { class: "ranked" }, ...rows) : make("p", { class: "soft" }, "No item was found."),
    ...answer.notes.map((note) => make("p", { class: "soft" }, note)));
}

function summaryOf(answer) {
  const { total_ms, queue_ms, device_ms } = answer.timings;
  const width = Array.isArray(answer.beam_width) ? answer.beam_width.join("\u2013") : answer.beam_width;
  const badge = answer.source === "popularity" ? make("span", { class: "badge no" }, "by popularity")
    : make("span", { class: answer.exact ? "badge" : "badge no", title: answer.exact ? "No item that may be returned scores better." : "A wider beam might find better items." },
      answer.exact ? "exact" : answer.near_tie ? "near tie" : "not exact");
  return make("div", { class: "summary" }, badge, answer.complete ? null : make("span", { class: "badge no" }, "short"),
    make("span", { class: "soft" }, `${total_ms.toFixed(1)} ms: ${queue_ms.toFixed(1)} waiting, ${device_ms.toFixed(1)} on the device`),
    width === null ? null : make("span", { class: "soft" }, `beam ${width}`));
}

const mark = (text, said, away = false) => make("span", { class: away ? "moved away" : "moved", title: said }, text);

function movedBetween(answer, other) {
  const ranks = (one) => new Map(one.items.map((item, rank) => [item, rank]));
  const before = ranks(answer), from = ranks(other);
  const shared = other.items.filter((item) => before.has(item));
  const moves = shared.map((item) => Math.abs(before.get(item) - from.get(item)));
  const differences = shared.map((item) => other.scores[from.get(item)] - answer.scores[before.get(item)]);
  const still = moves.filter((move) => move === 0).length;
  const most = Math.max(0, ...moves);
  const parts = [`They share ${shared.length} of ${several(Math.max(answer.items.length, other.items.length), "item")}`];
  if (shared.length) {
    parts.push(most ? `${still} at the same rank, the farthest moved by ${several(most, "place")}` : "all at the same rank");
    parts.push(`scores differ by at most ${shownNumber(Math.max(...differences.map(Math.abs)), 3)}`);
  }
  return { before, from, answer, other, said: parts.join(", ") + "." };
}

function moveOf({ before, answer, other }, item, rank) {
  if (!before.has(item)) return mark("new", "Not among the other's", true);
  const up = before.get(item) - rank;
  const by = other.scores[rank] - answer.scores[before.get(item)];
  const said = up === 0 ? "same rank" : `${several(Math.abs(up), "place")} ${up > 0 ? "up" : "down"}`;
  const text = up === 0 ? "=" : `${up > 0 ? "\u25b2" : "\u25bc"} ${Math.abs(up)}`;
  return make("span", {}, make("span", { class: "moved", title: said, "aria-hidden": "true" }, text),
    make("span", { class: "sr" }, `${said}, `), `score ${signed(by, 3)}`);
}

function showExperiment(running) {
  at("experiment-part").hidden = !running;
  if (!running) return;
  const now = running.ended !== null ? "has ended" : running.stop ? `stopped: ${running.stop.why}` : "runs";
  const total = (requests) => Object.values(requests).reduce((a, b) => a + b, 0);
  const rows = Object.entries(running.variants).map(([name, one]) => make("tr", {},
    make("th", { scope: "row" }, name), make("td", { class: "n" }, one.share), make("td", {}, one.model),
    make("td", { class: "n" }, total(one.requests).toLocaleString("en"))));
  at("experiment").replaceChildren(
    make("p", { class: "summary" }, make("strong", {}, running.name), make("span", { class: running.stop ? "badge no" : "badge" }, now),
      make("span", { class: "soft" }, `${running.ramp} of all units, stage ${running.stage}`)),
    make("div", { class: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, ...["variant", "share", "checkpoint", "requests here"].map(
      (text, n) => make("th", { scope: "col", class: n % 2 ? "n" : null }, text)))), make("tbody", {}, ...rows))),
    make("p", { class: "soft" }, "What this page asks names no unit, so that it is in no experiment."));
}
