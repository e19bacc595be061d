// The form: what the server says may be asked, and the body of a request that is made of it.
const counted = () => {
  at("exclude-count").textContent = exclude.items.length || "";
  at("sets-count").textContent = checkedSets().length || "";
  at("user-count").textContent = Object.keys(userGiven()).length || "";
};
const history_ = new Basket(at("history"), { name: "history", label: "History, oldest first", ordered: true, changed: () => {} });
const exclude = new Basket(at("exclude"), { name: "exclude", label: "Items never to return", ordered: false, changed: () => counted() });

const checkedSets = () => [...document.querySelectorAll("#sets input:checked")].map((box) => box.value);

function userGiven() {
  const inputs = [...document.querySelectorAll("#user [data-field]")].filter((input) => input.value !== "");
  return Object.fromEntries(inputs.map((input) => [input.dataset.field, input.type === "number" ? Number(input.value) : input.value]));
}

function bodyOf() {
  const { about } = state;
  const body = { history: history_.ids, k: Number(at("k").value), titles: true, exclude_seen: at("seen").checked };
  const beam = at("beam").value;
  if (beam) body.beam_width = beam === "auto" ? beam : JSON.parse(beam);
  if (exclude.items.length) body.exclude = exclude.ids;
  if (checkedSets().length) body.allow = checkedSets();
  if (Object.keys(userGiven()).length) body.user = userGiven();
  if (about.domains.length) body.domain = about.domain;
  return { ...body, ...furtherFields() };
}

function furtherFields() {
  const text = at("more").value.trim();
  if (!text) return {};
  try {
    const found = JSON.parse(text);
    if (found === null || typeof found !== "object" || Array.isArray(found)) throw new Error("no object");
    return found;
  } catch {
    throw new Refused("Further fields: write a JSON object, such as {\"deadline_ms\": 500}");
  }
}

function showForm() {
  const { about } = state;
  at("serving").textContent = [
    about.compared ? `${about.model} beside ${about.compared}` : about.model, several(about.items, "item"), `catalog ${about.catalog}`,
  ].join(" \u00b7 ");
  const missing = about.items - about.titled;
  at("titles-note").hidden = !missing;
  at("titles-note").textContent = about.titled ? `${several(missing, "item has", "items have")} no title and ${missing === 1 ? "is" : "are"} shown by id.`
    : "This catalog has no titles: search by id, and items are shown by their ids.";
  at("k").max = about.most_k;
  const usual = [about.default_beam_width].flat().at(-1);
  if (usual !== "auto") at("k").value = Math.min(10, usual);
  at("seen").checked = about.exclude_seen;
  const width = (one) => Array.isArray(one) ? one.join("\u2013") : String(one);
  at("beam").replaceChildren(
    make("option", { value: "" }, `default: ${width(about.default_beam_width)}`),
    make("option", { value: "auto" }, "auto, until exact"),
    ...about.beam_widths.map((one) => make("option", { value: JSON.stringify(one) }, width(one))));
  showSets(about.sets);
  showUser(about.user_fields);
  showExamples(about.examples);
  at("domain-field").hidden = about.domains.length < 2;
  at("domain").replaceChildren(...about.domains.map((name) => make("option", { value: name, selected: name === about.domain }, name)));
  at("features-note").hidden = !about.features.length;
  at("features-note").textContent = `The model reads features too: ${about.features.join(", ")}. Give them below as {"features": \u2026}.`;
  counted();
}

function showSets(sets) {
  at("sets-part").hidden = !sets.length;
  at("sets").replaceChildren(...sets.map((name) => make("label", {}, make("input", { type: "checkbox", value: name, onchange: counted }), name)));
}

function showUser(fields) {
  at("user-part").hidden = !fields.length;
  at("user").replaceChildren(...fields.map(({ name, kind, values }) => {
    const id = `user-${name}`;
    const input = kind === "number" ? make("input", { id, type: "number", step: "any", "data-field": name, oninput: counted })
      : make("select", { id, "data-field": name, onchange: counted }, make("option", { value: "" }, "not said"), ...values.map((one) => make("option", { value: one }, one)));
    return make("div", { class: "field" }, make("label", { for: id }, name), input);
  }));
}

function showExamples(examples) {
  at("examples").hidden = !examples.length;
  at("examples").replaceChildren(...examples.map((example) => make("button", { type: "button", onclick: () => {
    history_.set(example.history);
    for (const input of document.querySelectorAll("#user [data-field]")) input.value = example.user[input.dataset.field] ?? "";
    counted();
    recommend();
  } }, example.name)));
}
