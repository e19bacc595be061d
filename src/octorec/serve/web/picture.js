// The search as a picture: a column a level, a dot a prefix, as high as its score; lines lead from a prefix to its extensions.
const HEIGHT = 380, TOP = 54, BOTTOM = 26;

function showSearch({ answer, levels }) {
  state.search = { answer, levels };
  if (!levels.length) {
    at("picture").replaceChildren(make("p", { class: "soft" }, "Popularity answered: no search was needed."));
    return "Popularity answered.";
  }
  const said = why(answer, levels);
  at("picture").replaceChildren(
    make("p", { class: "shared" }, said), pictureOf(answer, levels, at("picture").clientWidth || 600),
    make("p", { class: "legend" }, make("span", {}, make("i", { class: "won" }), "on the way to the answer"),
      make("span", {}, make("i"), "kept"), make("span", {}, make("i", { class: "off" }), "dropped, the best of them")),
    tableOf(levels));
  return said;
}

const boundOf = (levels) => levels.reduce((most, one) => one.bound === null ? most : Math.max(most, one.bound), -Infinity);

function why(answer, levels) {
  const bound = boundOf(levels);
  if (bound === -Infinity) return "Exact: the search dropped nothing.";
  if (!answer.scores.length) return "No item was found.";
  const last = answer.scores[answer.scores.length - 1];
  const numbers = `the last item of the answer scores ${shownNumber(last)}, the best that was dropped ${shownNumber(bound)}`;
  return answer.exact ? `Exact: ${numbers}, and nothing below a dropped prefix can score more than it.`
    : `Not exact: ${numbers}, so that a better item may lie below it. A wider beam would tell.`;
}

function wonPrefixes(answer, levels) {
  const codes = answer.codes.map((one) => one.join(" "));
  return levels.map((level) => new Set(level.kept.map((prefix, number) => [prefix.codes.join(" "), number])
    .filter(([path]) => codes.some((one) => one === path || one.startsWith(path + " "))).map(([, number]) => number)));
}

function pictureOf(answer, levels, width) {
  const scores = levels.flatMap((level) => [...level.kept, ...level.dropped].map((prefix) => prefix.score));
  const low = Math.min(...scores), high = Math.max(...scores, Math.min(0, Math.max(...scores) + 0.3));
  const y = (score) => TOP + (HEIGHT - TOP - BOTTOM) * (high - score) / (high - low || 1);
  const step = (width - 24) / levels.length;
  const x = (number, off = 0) => 12 + step * (number + 0.3) + off;
  const won = wonPrefixes(answer, levels);
  const ways = [], dots = [];
  levels.forEach((level, number) => {
    const away = Math.min(26, step * 0.2);
    for (const [place, prefix] of [...level.kept.entries()].reverse()) {
      const isWon = won[number].has(place) ? " won" : "";
      const before = number === 0 ? [0, TOP - 22] : prefix.parent === null ? null : [x(number - 1), y(levels[number - 1].kept[prefix.parent].score)];
      if (before && number > 0) ways.push(drawn("path", { class: "way" + isWon, d: curve(before, [x(number), y(prefix.score)]) }));
      dots.push(drawn("circle", { class: "kept" + isWon, cx: x(number), cy: y(prefix.score), r: isWon ? 4.5 : 3 }, drawn("title", {}, told(prefix))));
    }
    for (const prefix of level.dropped) dots.push(drawn("circle", { class: "dropped", cx: x(number, away), cy: y(prefix.score), r: 3 }, drawn("title", {}, told(prefix))));
  });
  ways.sort((a, b) => a.classList.contains("won") - b.classList.contains("won"));
  const heads = levels.flatMap((level, number) => [
    drawn("text", { class: "strong", x: x(number), y: 16, "text-anchor": "middle" }, `Level ${number + 1}`),
    drawn("text", { x: x(number), y: 32, "text-anchor": "middle" }, `${level.n_kept} of ${level.candidates}`)]);
  return drawn("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, height: HEIGHT, role: "img", "aria-label": `The search, level by level. ${why(answer, levels)}` },
    ...ways, ...dots, ...linesOf(answer, levels, y, width), ...heads);
}

function linesOf(answer, levels, y, width) {
  const bound = boundOf(levels), lines = [];
  const line = (score, name, text, above) => lines.push(
    drawn("line", { class: name, x1: 0, x2: width, y1: y(score), y2: y(score) }),
    drawn("text", { class: `${name}-said`, x: width, y: y(score) + (above ? -6 : 15), "text-anchor": "end" }, text));
  const last = answer.scores[answer.scores.length - 1];
  if (bound !== -Infinity) line(bound, "bound", `bound ${shownNumber(bound)}`, last !== undefined && bound > last);
  if (last !== undefined) line(last, "last", `${width < 480 ? "last item" : "last of the answer"} ${shownNumber(last)}`, bound === -Infinity || last >= bound);
  return lines;
}

const curve = ([x0, y0], [x1, y1]) => `M${x0} ${y0}C${(x0 + x1) / 2} ${y0} ${(x0 + x1) / 2} ${y1} ${x1} ${y1}`;
const told = (prefix) => `${prefix.codes.join(" \u203a ")}: ${shownNumber(prefix.score)}, ${several(prefix.items, "item")} such as ${prefix.example}`;

function tableOf(levels) {
  const rows = levels.flatMap((level, number) => level.kept.slice(0, 3).map((prefix, place) => make("tr", {},
    place ? make("td") : make("th", { scope: "row" }, String(number + 1)),
    make("td", { class: "n" }, place ? "" : `${level.n_kept} of ${level.candidates}`),
    make("td", { class: "n" }, place ? "" : level.bound === null ? "none" : shownNumber(level.bound)),
    make("td", {}, `${prefix.codes.join(" \u203a ")} (${prefix.example})`), make("td", { class: "n" }, shownNumber(prefix.score)))));
  const heads = ["level", "kept", "best dropped", "best kept", "score"].map((text, n) => make("th", { scope: "col", class: [1, 2, 4].includes(n) ? "n" : null }, text));
  return make("details", {}, make("summary", {}, "As a table"),
    make("div", { class: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows))));
}
