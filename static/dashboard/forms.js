/** Forms in dialogs: what the server refuses is said at the field that it names. */

import { Ended, Refused, wordsOf } from "./ask.js";
import { button, make, tell } from "./elements.js";

let fields = 0;

/**
 * A labelled field. `kind` is an input's type, `select` or `check`.
 *
 * @returns {{name: string, node: HTMLElement, value: () => any, fail: (words: string) => void, clear: () => void}}
 */
export function field({ name, label, kind = "text", value = "", hint = null, options = [], ...attributes }) {
  const id = `field-${(fields += 1)}`;
  const described = [hint && `${id}-hint`, `${id}-error`].filter(Boolean).join(" ");
  const input =
    kind === "select"
      ? make("select", { id, class: "input", name, "aria-describedby": described, ...attributes }, options.map(([of, words]) => make("option", { value: of, selected: of === value }, words)))
      : kind === "check"
        ? make("input", { id, type: "checkbox", name, checked: value, "aria-describedby": described, ...attributes })
        : make("input", { id, class: "input", type: kind, name, value: value ?? "", autocomplete: "off", spellcheck: "false", "aria-describedby": described, ...attributes });
  const error = make("p", { class: "error", id: `${id}-error` });
  const words = make("label", { for: id }, label);
  const node = make("div", { class: `field ${kind}` }, kind === "check" ? [make("span", { class: "checked" }, input, words)] : [words, input], hint && make("p", { class: "hint", id: `${id}-hint` }, hint), error);
  return {
    name,
    node,
    input,
    value: () => (kind === "check" ? input.checked : kind === "number" ? (input.value === "" ? null : input.valueAsNumber) : input.value.trim() === "" ? null : input.value.trim()),
    fail(said) {
      error.textContent = said;
      input.setAttribute("aria-invalid", "true");
      input.focus();
    },
    clear() {
      error.textContent = "";
      input.removeAttribute("aria-invalid");
    },
  };
}

/**
 * Rows of two fields each, such as a model and its credits, that are added and taken away.
 *
 * @param rows the pairs it begins with
 */
export function pairs({ name, label, first, second, rows, hint = null, add }) {
  const list = make("div", { class: "pairs" });
  const error = make("p", { class: "error", role: "alert" });
  const row = ([one, two]) => {
    const inputs = [
      make("input", { class: "input", type: first.kind ?? "text", "aria-label": first.label, placeholder: first.label, value: one ?? "", ...first.attributes }),
      make("input", { class: "input", type: second.kind ?? "text", "aria-label": second.label, placeholder: second.label, value: two ?? "", ...second.attributes }),
    ];
    const line = make("div", { class: "pair" }, inputs, make("button", { type: "button", class: "button slim", "aria-label": `Take away ${one || "this row"}`, onclick: () => remove(line) }, "×"));
    return line;
  };
  const remove = (line) => {
    const next = line.nextElementSibling ?? line.previousElementSibling;
    line.remove();
    (next?.querySelector("input") ?? adder).focus();
  };
  const adder = button(add, () => {
    const line = row(["", ""]);
    list.append(line);
    line.querySelector("input").focus();
  }, "slim");
  list.append(...rows.map(row));
  const node = make("fieldset", { class: "field" }, make("legend", {}, label), hint && make("p", { class: "hint" }, hint), list, adder, error);
  return {
    name,
    node,
    /** Lists of two texts each; rows with nothing in them are left out. */
    value() {
      const given = [...list.children].map((line) => [...line.querySelectorAll("input")].map((input) => input.value.trim())).filter(([one, two]) => one || two);
      const firsts = given.map(([one]) => one);
      const wrong = given.some(([, two]) => two === "") ? `Every row needs ${second.label.toLowerCase()}.` : new Set(firsts).size < firsts.length ? `${first.label} twice: take one of the rows away.` : null;
      if (wrong) throw new Refused(400, { code: "invalid_request", message: wrong, field: name });
      return given;
    },
    fail(said) {
      error.textContent = said;
      (list.querySelector("input") ?? adder).focus();
    },
    clear: () => (error.textContent = ""),
  };
}

/** What is said at the field itself need not name it: "credits: Expected…" is "Expected…". */
const withoutName = (said) => said.replace(/^[\w.[\]]+: (\w+)/, (_, word) => (/^[a-z]+$/.test(word) && word !== "https" ? word[0].toUpperCase() + word.slice(1) : word));

/**
 * Asks in a dialog, and keeps it open until what it asks for is done.
 *
 * @param title its heading
 * @param parts fields, and elements to show between them
 * @param submit the word on its button, or null for one that only shows something
 * @param onSubmit gets the values by name; what it throws is said at the field that the server names
 * @param kind `bad` for what cannot be undone
 */
export function dialog({ title, note = null, parts = [], submit = null, kind = "primary", wide = false, onSubmit = async () => {}, more = [], stays = false, onClose = () => {} }) {
  const heading = make("h2", { id: `dialog-${(fields += 1)}` }, title);
  const said = make("p", { class: "error", role: "alert" });
  const cancel = make("button", { type: "button", class: "button" }, submit ? "Cancel" : "Close");
  const go = submit && make("button", { type: "submit", class: `button ${kind}` }, submit);
  const inputs = parts.filter((part) => "value" in part && "fail" in part);
  const form = make(
    "form",
    { method: "dialog" },
    heading,
    note && make("p", { class: "note" }, note),
    parts.map((part) => part.node ?? part),
    said,
    make("div", { class: "deeds" }, more, cancel, go),
  );
  const node = make("dialog", { class: `card dialog ${wide ? "broad" : ""} ${stays ? "stays" : ""}`, "aria-labelledby": heading.id }, form);
  let busy = false;
  const values = () => Object.fromEntries(inputs.map((input) => [input.name, input.value()]));
  const refuse = (error) => {
    const named = error.facts?.field?.match(/^[a-z_]+/)?.[0];
    const at = inputs.find(({ name }) => name === named);
    if (error instanceof Ended) return;
    if (!node.open) tell(wordsOf(error), "bad");
    else at ? at.fail(withoutName(wordsOf(error))) : (said.textContent = wordsOf(error));
  };
  const wait = (waits) => {
    busy = waits;
    for (const each of [go, cancel]) waits ? each.setAttribute("aria-disabled", "true") : each.removeAttribute("aria-disabled");
  };
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (busy || !go) return;
    said.textContent = "";
    for (const input of inputs) input.clear();
    wait(true);
    try {
      await onSubmit(values());
      node.close();
    } catch (error) {
      refuse(error);
    }
    wait(false);
  });
  cancel.addEventListener("click", () => busy || node.close());
  node.addEventListener("cancel", (event) => busy && event.preventDefault());
  node.addEventListener("close", () => {
    node.remove();
    onClose();
  });
  document.body.append(node);
  node.showModal();
  return { node, values, refuse };
}

/** Closes what is open, for another view comes; a secret that is shown this once stays. */
export function closeDialogs({ all = false } = {}) {
  for (const node of document.querySelectorAll(all ? "dialog" : "dialog:not(.stays)")) node.close();
}

/** Asks before something that cannot be undone. */
export const confirm = (title, note, submit, onSubmit) => dialog({ title, note, submit, kind: "bad", onSubmit });

/** Shows a secret this once; `onClose` comes after it was seen. */
export const reveal = (title, note, secret, onClose) => {
  const copied = make("p", { class: "hint", role: "status" });
  const copy = button("Copy", async () => {
    await navigator.clipboard.writeText(secret).then(
      () => (copied.textContent = "Copied."),
      () => (copied.textContent = "The browser does not let this page copy: select it instead."),
    );
  });
  dialog({ title, note, parts: [make("p", { class: "secret" }, make("code", {}, secret)), copied], more: [copy], stays: true, onClose });
};
