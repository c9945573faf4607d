/** Every wallet, by its customer. */

import { Ended, ask, query, wordsOf } from "./ask.js";
import { addRows, button, card, link, make, nothing, pill, table } from "./elements.js";
import { go, route, to } from "./router.js";
import * as words from "./words.js";

const PAGE = 50;
const SEARCH_AFTER_MS = 250;
const STATES = [["", "All"], ["low", "Low"], ["empty", "Empty"], ["in_debt", "In debt"], ["frozen", "Frozen"]];
const COLUMNS = [{ name: "Customer" }, { name: "Name" }, { name: "Balance", number: true }, { name: "Held", number: true }, { name: "Available", number: true }, { name: "State" }, { name: "Since" }];

/** Where one came from, so that the way back finds the same search. */
export const search = { address: to("wallets") };

export async function wallets(root, { parameters, signal }) {
  const place = make("div", { class: "list" });
  const text = make("input", { class: "input", type: "search", id: "search", placeholder: "Part of an id or a name", value: parameters.get("query") ?? "", autocomplete: "off", spellcheck: "false", maxLength: 255 });
  const state = make("select", { class: "input slim", id: "state", "aria-label": "State" }, STATES.map(([of, name]) => make("option", { value: of, selected: of === (parameters.get("state") ?? "") }, name)));
  const found = make("p", { class: "faint small", role: "status" });
  let asking = new AbortController();
  let count = 0;

  function keep() {
    if (route().name !== "wallets" || route().parts.length) return; // another view has come meanwhile
    search.address = to("wallets", [], { query: text.value.trim(), state: state.value });
    history.replaceState(null, "", search.address);
  }

  async function read(cursor = null) {
    asking.abort(); // what was typed since is asked for instead
    asking = new AbortController();
    const page = await ask(`/v1/wallets${query({ query: text.value.trim(), state: state.value, limit: PAGE, cursor })}`, { signal: AbortSignal.any([signal, asking.signal]) });
    const rows = page.wallets.map(row);
    count = (cursor ? count : 0) + rows.length;
    found.textContent = count ? `${words.plural(count, "wallet")}${page.next_cursor ? " so far" : ""}` : "";
    const more = page.next_cursor ? make("p", { class: "more" }, button("More", () => read(page.next_cursor))) : "";
    if (!cursor) return place.replaceChildren(rows.length ? table("Wallets", COLUMNS, rows) : nobody(text.value.trim(), state.value), more);
    place.querySelector(".more").replaceWith(more);
    addRows(place, COLUMNS, rows);
  }

  let timer = null;
  const later = () => {
    keep();
    clearTimeout(timer);
    timer = setTimeout(() => read().catch((error) => error instanceof Ended || (found.textContent = wordsOf(error))), SEARCH_AFTER_MS);
  };
  text.addEventListener("input", later);
  state.addEventListener("change", later);
  signal.addEventListener("abort", () => clearTimeout(timer));
  root.append(
    make("header", { class: "top" }, make("div", {}, make("h1", { tabIndex: -1 }, "Wallets"))),
    card("Find a wallet", {}, make("search", { class: "search" }, make("label", { class: "unseen", for: "search" }, "Part of an id or a name"), text, state, found), place),
  );
  await read();
  keep();
}

/** What there is of a wallet to be seen at a glance. */
export const marks = (wallet) => make("span", { class: "marks" }, wallet.frozen && pill("Frozen", "bad"), wallet.balance < 0 ? pill("In debt", "bad") : wallet.balance === 0 ? pill("Empty", "bad") : wallet.low && pill("Low", "wait"));

const row = (wallet) => [link(to("wallets", [wallet.customer_id]), wallet.customer_id), wallet.name ?? "", words.number(wallet.balance), words.number(wallet.held), words.number(wallet.available), marks(wallet), words.time(wallet.created_at)];

function nobody(text, state) {
  if (text && !state) return make("div", { class: "nothing" }, make("p", {}, "No wallet has this in its id or name."), button(`Look for a wallet of exactly “${text}”`, () => go("wallets", [text])));
  return nothing(state ? "No such wallet is in this state." : "There is no wallet yet. The first event, grant or checkout of a customer opens one.");
}
