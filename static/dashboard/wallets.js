/** Every wallet, by its customer. */

import { ask, query } from "./ask.js";
import { button, card, link, make, pill, table } from "./elements.js";
import { go, to } from "./router.js";
import * as words from "./words.js";

const PAGE = 50;
const SEARCH_AFTER_MS = 250;

export async function wallets(root, { parameters, signal }) {
  const place = make("div", {});
  const search = make("input", { class: "input", type: "search", id: "search", placeholder: "Part of an id or a name", value: parameters.get("query") ?? "", autocomplete: "off", spellcheck: "false", maxLength: 255 });
  const low = make("input", { type: "checkbox", id: "low", checked: parameters.get("low") === "true" });
  const found = make("p", { class: "faint small", role: "status" });
  let asked = 0;
  let shown = [];

  async function read(cursor = null) {
    const mine = (asked += 1);
    const text = search.value.trim();
    const page = await ask(`/v1/wallets${query({ query: text, low: low.checked ? "true" : null, limit: PAGE, cursor })}`, { signal });
    if (mine !== asked) return; // what was typed since is asked for by now
    shown = cursor ? [...shown, ...page.wallets] : page.wallets;
    const more = page.next_cursor && button("More", () => read(page.next_cursor));
    found.textContent = shown.length ? `${words.plural(shown.length, "wallet")}${page.next_cursor ? " so far" : ""}` : "";
    place.replaceChildren(shown.length ? list(shown) : nobody(text, low.checked), ...(more ? [make("p", { class: "more" }, more)] : []));
    history.replaceState(null, "", to("wallets", [], { query: text, low: low.checked }));
  }

  let timer = null;
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(() => read().catch(() => (found.textContent = "This could not be read. Type again to try again.")), SEARCH_AFTER_MS);
  };
  search.addEventListener("input", later);
  low.addEventListener("change", later);
  signal.addEventListener("abort", () => clearTimeout(timer));
  root.append(
    make("header", { class: "top" }, make("div", {}, make("h1", { tabIndex: -1 }, "Wallets"))),
    card("Find a wallet", {}, make("search", { class: "search" }, make("label", { class: "unseen", for: "search" }, "Part of an id or a name"), search, make("label", { class: "checked", for: "low" }, low, "Low alone"), found), place),
  );
  await read();
}

/** What there is of a wallet to be seen at a glance. */
export const marks = (wallet) => make("span", { class: "marks" }, wallet.frozen && pill("Frozen", "bad"), wallet.balance < 0 ? pill("In debt", "bad") : wallet.balance === 0 ? pill("Empty", "bad") : wallet.low && pill("Low", "wait"));

function list(shown) {
  const columns = [{ name: "Customer" }, { name: "Name" }, { name: "Balance", number: true }, { name: "Held", number: true }, { name: "Available", number: true }, { name: "State" }, { name: "Since" }];
  const rows = shown.map((wallet) => [link(to("wallets", [wallet.customer_id]), wallet.customer_id), wallet.name ?? "", words.number(wallet.balance), words.number(wallet.held), words.number(wallet.available), marks(wallet), words.time(wallet.created_at)]);
  return table("Wallets", columns, rows);
}

function nobody(text, low) {
  const open = text && !low && button(`Look for a wallet of exactly “${text}”`, () => go("wallets", [text]));
  return make("div", { class: "nothing" }, make("p", {}, low ? "No wallet is below its threshold." : text ? "No wallet has this in its id or name." : "There is no wallet yet. The first event, grant or checkout of a customer opens one."), open);
}
