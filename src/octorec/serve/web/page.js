"use strict";
// Everything a reader sees is made by `make`, as elements and text: no text of a catalog is ever read as HTML.
const SVG = "http://www.w3.org/2000/svg";
const state = { about: null, token: "", last: null };
const at = (id) => document.getElementById(id);

function make(tag, given = {}, ...inside) {
  const element = document.createElement(tag);
  return fill(element, given, inside);
}

function drawn(tag, given = {}, ...inside) {
  return fill(document.createElementNS(SVG, tag), given, inside);
}

function fill(element, given, inside) {
  for (const [name, value] of Object.entries(given)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...inside.filter((one) => one !== null && one !== undefined && one !== ""));
  return element;
}

const shownNumber = (value, digits = 2) => value.toFixed(digits).replace("-", "\u2212");
const signed = (value, digits = 2) => (value > 0 ? "+" : "") + shownNumber(value, digits);
const several = (n, one, many = one + "s") => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

function say(text) {
  at("status").textContent = text;
}

function refuse(text) {
  at("refusal").hidden = !text;
  at("refusal").textContent = text || "";
}
