// What happens, and when.
let asking = null;

async function attempt(work) {
  refuse("");
  try {
    await work();
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof Refused)) throw error;
    refuse(error.message);
    say("");
  }
}

const begin = (domain = "") => attempt(async () => {
  const query = domain ? `?${new URLSearchParams({ domain })}` : "";
  try {
    state.about = await ask(`v1/about${query}`);
  } catch (error) {
    if (error.wait) setTimeout(() => begin(domain), 1000 * error.wait);
    throw error;
  }
  at("main").hidden = false;
  showForm();
  showExperiment(state.about.experiment);
  if (document.activeElement === document.body) history_.input.focus({ preventScroll: true });
});

const recommend = () => attempt(async () => {
  const body = bodyOf();
  if (asking) asking.abort();
  asking = new AbortController();
  at("go").setAttribute("aria-busy", "true");
  say("Asking.");
  try {
    const paths = state.about.compared ? ["v1/recommend", "v1/compare"] : ["v1/recommend"];
    const [answer, other] = await Promise.all(paths.map((path) => ask(path, body, asking.signal)));
    state.last = body;
    const shared = showAnswer(answer, other);
    at("answer").append(make("details", {}, make("summary", {}, "The request, as JSON"), make("pre", {}, JSON.stringify(body, null, 1))));
    at("search-part").hidden = !state.about.explains;
    at("picture").replaceChildren();
    state.search = null;
    if (at("results").getBoundingClientRect().top > innerHeight - 80) at("results").scrollIntoView();
    const first = answer.items.length ? `, ${answer.titles[0] || answer.items[0]} first` : "";
    say(`${several(answer.items.length, "item")} found${first}. ${answer.exact ? "The answer is exact." : "The answer is not exact."} ${shared}`);
  } finally {
    at("go").removeAttribute("aria-busy");
  }
});

const explain = () => attempt(async () => {
  at("explain").disabled = true;
  say("Searching once more.");
  try {
    const of = state.last, found = await ask("v1/explain", of);
    if (of === state.last) say(showSearch(found));
  } finally {
    at("explain").disabled = false;
    at("explain").focus();
  }
});

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  recommend();
});
at("ask").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("ask").requestSubmit();
});
at("explain").addEventListener("click", explain);
at("domain").addEventListener("change", () => {
  history_.set([]);
  exclude.set([]);
  begin(at("domain").value);
});
let drawnWidth = 0;
new ResizeObserver(() => {
  const width = at("picture").clientWidth;
  if (state.search && Math.abs(width - drawnWidth) > 1) showSearch(state.search);
  drawnWidth = width;
}).observe(at("picture"));
begin();
