// A Basket is a search for items and the items that were chosen, in order.
class Basket {
  constructor(root, { name, label, ordered, changed }) {
    Object.assign(this, { name, ordered, changed, items: [], found: [], at: -1, timer: 0, asking: null });
    this.list = make("ul", { id: `${name}-found`, role: "listbox", "aria-label": "Items that match", hidden: true });
    this.input = make("input", {
      id: `${name}-search`, type: "search", role: "combobox", autocomplete: "off", spellcheck: "false", maxlength: "100",
      "aria-expanded": "false", "aria-controls": `${name}-found`, "aria-autocomplete": "list",
      oninput: () => this.later(), onkeydown: (event) => this.key(event), onblur: () => this.close(),
    });
    this.chosen = make(ordered ? "ol" : "ul", { class: "chosen", "aria-label": label });
    this.count = make("span", { class: "soft" });
    this.clear = make("button", { type: "button", class: "link", hidden: true, onclick: () => { this.set([]); this.input.focus(); } }, "Clear");
    root.append(
      make("div", { class: "field" }, make("label", { for: this.input.id }, ordered ? "Add an item" : "Leave out an item"),
        make("div", { class: "search" }, this.input, this.list)),
      this.chosen, make("div", { class: "under" }, this.count, this.clear));
    this.draw();
  }

  get ids() { return this.items.map((item) => item.item_id); }

  set(items) {
    this.items = items.slice();
    this.draw();
    this.changed();
  }

  later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.search(), 180);
  }

  async search() {
    const text = this.input.value.trim();
    if (this.asking) this.asking.abort();
    if (!text) return this.close();
    this.asking = new AbortController();
    try {
      const query = new URLSearchParams({ title: text, limit: 12, domain: state.about.domains.length ? state.about.domain : "" });
      const found = await ask(`v1/items?${query}`, undefined, this.asking.signal);
      if (document.activeElement === this.input && this.input.value.trim() === text) this.show(found);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.note(error.message);
    }
  }

  show({ items, total }) {
    this.found = items;
    if (!items.length) return this.note("Nothing matches.");
    this.at = 0;
    this.list.replaceChildren(...items.map((item, number) => make("li", {
      id: `${this.name}-${number}`, role: "option", "aria-selected": String(number === 0),
      onmousedown: (event) => { event.preventDefault(); this.take(number); },
    }, titleOf(item))));
    if (total > items.length) this.list.append(make("li", { class: "note", role: "presentation" }, `${(total - items.length).toLocaleString("en")} more match`));
    this.open();
    say(`${several(total, "item matches", "items match")}. ${titleOf(items[0])} is first.`);
    this.input.setAttribute("aria-activedescendant", `${this.name}-0`);
  }

  note(text) {
    this.found = [];
    this.list.replaceChildren(make("li", { class: "note", role: "presentation" }, text));
    this.open();
    say(text);
  }

  open() {
    this.list.hidden = false;
    this.input.setAttribute("aria-expanded", "true");
  }

  close() {
    clearTimeout(this.timer);
    this.list.hidden = true;
    this.found = [];
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }

  key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Enter" && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      if (this.found.length) this.take(this.at);
    } else if (event.key === "Escape" && !this.list.hidden) {
      event.preventDefault();
      this.close();
    } else if (step && this.found.length) {
      event.preventDefault();
      this.select((this.at + step + this.found.length) % this.found.length);
    }
  }

  select(number) {
    this.list.children[this.at].setAttribute("aria-selected", "false");
    this.at = number;
    const option = this.list.children[number];
    option.setAttribute("aria-selected", "true");
    option.scrollIntoView({ block: "nearest" });
    this.input.setAttribute("aria-activedescendant", option.id);
  }

  take(number) {
    const item = this.found[number];
    this.input.value = "";
    this.close();
    this.set([...this.items, item]);
    say(`${titleOf(item)} was added.`);
    this.chosen.scrollTop = this.chosen.scrollHeight;
  }

  move(number, by) {
    const items = this.items.slice();
    [items[number], items[number + by]] = [items[number + by], items[number]];
    this.set(items);
    say(`${titleOf(items[number + by])} is now ${number + by + 1} of ${items.length}.`);
    const buttons = this.chosen.children[number + by].querySelectorAll("button");
    (buttons[by < 0 ? 0 : 1].disabled ? buttons[by < 0 ? 1 : 0] : buttons[by < 0 ? 0 : 1]).focus();
  }

  remove(number) {
    const [gone] = this.items.slice(number, number + 1);
    this.set(this.items.filter((_, other) => other !== number));
    say(`${titleOf(gone)} was removed.`);
    const next = this.chosen.children[Math.min(number, this.items.length - 1)];
    (next ? next.querySelector("button:last-child") : this.input).focus();
  }

  draw() {
    this.chosen.hidden = !this.items.length;
    this.chosen.replaceChildren(...this.items.map((item, number) => this.row(item, number)));
    this.clear.hidden = !this.items.length;
    this.count.textContent = this.items.length ? several(this.items.length, "item") + (this.ordered && this.items.length > 1 ? ", the newest last" : "") : "";
  }

  row(item, number) {
    const title = titleOf(item);
    const button = (text, said, disabled, act) => make("button", {
      type: "button", class: "small", "aria-label": `${said}: ${title}`, title: said, disabled, onclick: act,
    }, text);
    const moves = this.ordered ? [
      button("\u2191", "Move up", number === 0, () => this.move(number, -1)),
      button("\u2193", "Move down", number === this.items.length - 1, () => this.move(number, 1))] : [];
    return make("li", {}, make("span", { class: "title" }, title), ...moves, button("\u2715", "Remove", false, () => this.remove(number)));
  }
}

const titleOf = (item) => item.title || `Item ${item.item_id}`;
