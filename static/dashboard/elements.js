/** Elements, made of words and of each other. */

import { Ended, wordsOf } from "./ask.js";

const SVG = "http://www.w3.org/2000/svg";
const TOLD_MS = 7_000;

/**
 * An element. `on…` are listeners; what is a property is set as one, all else as an attribute. What is null or false
 * among the children is left out.
 */
export function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.className = value;
    else if (name in node && name !== "list" && !(typeof node[name] === "boolean" && typeof value === "string")) node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** An SVG element; words go into it as text. */
export function draw(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** A button. While what it does is under way it does nothing more; what goes wrong with it is told. */
export function button(words, onclick, kind = "") {
  const node = make("button", { type: "button", class: `button ${kind}` }, words);
  let busy = false;
  node.addEventListener("click", async () => {
    if (busy) return;
    busy = true;
    try {
      await onclick();
    } catch (error) {
      if (!(error instanceof Ended)) tell(wordsOf(error), "bad");
    } finally {
      busy = false;
    }
  });
  return node;
}

/** A button whose words alone do not say what it is about. */
export function named(node, name) {
  node.setAttribute("aria-label", name);
  return node;
}

export const link = (href, ...words) => make("a", { href }, ...words);

/** A word in a pill; kinds are `good`, `wait`, `bad` and none. */
export const pill = (words, kind = "") => make("span", { class: `pill ${kind}` }, words);

export const nothing = (said) => make("p", { class: "nothing" }, said);

/**
 * A table. Where there is no room its rows become cards, which name their cells; with `plain` it scrolls instead.
 *
 * @param caption what it is, for those who do not see its heading
 * @param columns `{name, number, wide}` of each; one without a name holds controls
 * @param rows lists of cells, elements or words
 */
export function table(caption, columns, rows, { plain = false } = {}) {
  const head = columns.map(({ name, number }) => make(name ? "th" : "td", { scope: name ? "col" : null, role: name ? "columnheader" : "cell", class: number ? "number right" : "" }, name));
  const body = make("tbody", { role: "rowgroup" }, rows.map((cells) => line(columns, cells)));
  return make(
    "div",
    { class: `scroll ${plain ? "plain" : "cards"}`, tabIndex: 0, role: "group", "aria-label": caption },
    make("table", { role: "table" }, make("caption", { class: "unseen" }, caption), make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, head)), body),
  );
}

const line = (columns, cells) =>
  make(
    "tr",
    { role: "row" },
    cells.map((cell, at) => {
      const { name = "", number, wide } = columns[at];
      const kind = [number && "number right", wide && "wide", !name && "controls"].filter(Boolean).join(" ");
      return make(at === 0 ? "th" : "td", { scope: at === 0 ? "row" : null, role: at === 0 ? "rowheader" : "cell", class: kind, "data-name": name }, cell ?? "–");
    }),
  );

/** More rows at the end of a table; the first of them takes the focus. */
export function addRows(node, columns, rows) {
  const lines = rows.map((cells) => line(columns, cells));
  node.querySelector("tbody").append(...lines);
  if (lines.length) {
    lines[0].tabIndex = -1;
    lines[0].focus();
  }
}

let cards = 0;

/** A card with a heading, what belongs beside it, and what is in it. */
export function card(title, { beside = null, note = null, class: className = "" } = {}, ...inside) {
  const id = `card-${(cards += 1)}`;
  return make(
    "section",
    { class: `card panel ${className}`, "aria-labelledby": id },
    make("header", {}, make("h2", { id }, title), beside && make("div", { class: "beside" }, beside)),
    note && make("p", { class: "note" }, note),
    ...inside,
  );
}

/** Offers a file. */
export function download(name, blob) {
  const address = URL.createObjectURL(blob);
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address));
}

let fading = null;

/** Says something where everyone hears it: for some seconds, or until it is dismissed where it went wrong. */
export function tell(words, kind = "good") {
  clearTimeout(fading);
  const dismiss = make("button", { type: "button", "aria-label": "Dismiss", onclick: hush }, "×");
  const node = make("p", { class: `told ${kind}` }, words, dismiss);
  const fade = () => {
    clearTimeout(fading);
    if (kind !== "bad") fading = setTimeout(hush, TOLD_MS);
  };
  for (const type of ["pointerenter", "focusin"]) node.addEventListener(type, () => clearTimeout(fading));
  for (const type of ["pointerleave", "focusout"]) node.addEventListener(type, fade);
  document.getElementById("told").replaceChildren(node);
  fade();
}

/** Takes away what was told. */
export function hush() {
  clearTimeout(fading);
  document.getElementById("told").replaceChildren();
}
