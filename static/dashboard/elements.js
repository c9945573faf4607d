/** Elements, made of words and of each other. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element. `on…` are listeners, `dataset` and everything with a dash or that is no property is an attribute; what
 * is null or false among the children is left out.
 */
export function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.className = value;
    else if (name in node && !name.includes("-") && name !== "list") node[name] = value;
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

export const button = (words, onclick, kind = "") => make("button", { type: "button", class: `button ${kind}`, onclick }, words);

export const link = (href, ...words) => make("a", { href }, ...words);

/** A word in a pill; kinds are `good`, `wait`, `bad` and none. */
export const pill = (words, kind = "") => make("span", { class: `pill ${kind}` }, words);

/**
 * A table that scrolls by itself where it is too wide.
 *
 * @param caption what it is, for those who do not see its heading
 * @param columns `{name, number, wide}` of each; one without a name holds controls
 * @param rows lists of cells, elements or words
 */
export function table(caption, columns, rows) {
  const head = columns.map(({ name, number }) => make(name ? "th" : "td", { scope: name ? "col" : null, class: number ? "number right" : "" }, name));
  const lines = rows.map((cells) =>
    make("tr", {}, cells.map((cell, at) => make(at === 0 ? "th" : "td", { scope: at === 0 ? "row" : null, class: [columns[at].number && "number right", columns[at].wide && "wide"].filter(Boolean).join(" ") }, cell ?? "–"))),
  );
  return make(
    "div",
    { class: "scroll", tabIndex: 0, role: "group", "aria-label": caption },
    make("table", {}, make("caption", { class: "unseen" }, caption), make("thead", {}, make("tr", {}, head)), make("tbody", {}, lines)),
  );
}

/** A card with a heading, what belongs beside it, and what is in it. */
export function card(title, { beside = null, note = null, class: className = "" } = {}, ...inside) {
  const id = `card-${title.toLowerCase().replace(/[^a-z0-9]+/g, "-")}`;
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

/** Says something where everyone hears it, and shows it for a while. */
export function tell(words, kind = "good") {
  const place = document.getElementById("told");
  place.replaceChildren(make("p", { class: `told ${kind}` }, words, make("button", { type: "button", "aria-label": "Dismiss", onclick: () => place.replaceChildren() }, "×")));
}
