/** One wallet: its balance as it moves, its ledger, its grants, its payments. */

import { Ended, Refused, ask, path, query, wordsOf } from "./ask.js";
import { addRows, button, card, download, link, make, named, nothing, pill, table, tell } from "./elements.js";
import { route, to } from "./router.js";
import { actions, grantDialog, memberDialog, refundDialog, releaseDialog, voidDialog } from "./wallet-deeds.js";
import { marks, search } from "./wallets.js";
import * as words from "./words.js";
import { connect } from "/static/widget.js";

const LEDGER_PAGE = 25;
const LISTED_MAX = 100;
const READ_AGAIN_MS = 800;
const TOKEN_SECONDS = 900;
const RENEW_MS = 600_000;
const RETRY_MS = 5_000;

export async function wallet(root, { parts, parameters, signal, again }) {
  const [customer] = parts;
  const get = (name, parameters = {}) => ask(`${path("wallets", customer, ...(name ? [name] : []))}${query(parameters)}`, { signal });
  const back = make("p", { class: "small" }, link(search.address, "Wallets"));
  const changed = (said) => {
    tell(said);
    again();
  };
  /** What moves with the balance; null where there is no wallet. */
  const standing = async () => {
    try {
      const [one, members, holds] = await Promise.all([get(""), get("members", { limit: LISTED_MAX }), get("holds", { status: "open", limit: LISTED_MAX })]);
      return { one, members: members.members, holds: holds.holds };
    } catch (error) {
      if (error instanceof Refused && error.status === 404) return null;
      throw error;
    }
  };
  const first = await standing();
  if (first === null) {
    const grant = button("Grant credits", () => grantDialog(customer, changed), "primary");
    return root.append(make("header", { class: "top" }, make("div", {}, back, make("h1", { tabIndex: -1 }, customer))), card("There is no such wallet yet", {}, make("p", {}, "The first event, grant or checkout of this customer opens it."), grant));
  }
  const [bought, ledger] = await Promise.all([ask(`/v1/checkouts${query({ customer_id: customer, limit: LISTED_MAX })}`, { signal }), ledgerCard(customer, parameters.get("kind") ?? "", signal)]);
  const state = make("span", {});
  const balance = balanceCard();
  const grants = make("div", { class: "w8 column" });
  const others = make("div", { class: "w12 column" });
  const doing = make("span", {});
  /** What somebody is at just now stays as it is. */
  const put = (place, ...inside) => place.contains(document.activeElement) || place.replaceChildren(...inside.filter(Boolean));
  function show({ one, members, holds }) {
    put(state, marks(one));
    put(doing, actions(one, changed));
    balance.settings(one);
    put(grants, grantsCard(customer, one.grants, changed));
    put(others, members.length && membersCard(customer, members, changed), holds.length && holdsCard(customer, holds, changed));
  }
  show(first);
  balance.show(first.one);
  root.append(
    make("header", { class: "top" }, make("div", {}, back, make("h1", { tabIndex: -1 }, first.one.name ?? customer, " ", state), make("p", { class: "faint" }, make("code", {}, customer), ` since ${words.time(first.one.created_at)} · `, link(to("usage", [], { customer }), "Usage"))), doing),
    make("div", { class: "grid" }, balance.node, grants, ledger.node, others, bought.checkouts.length ? paymentsCard(bought.checkouts, changed) : ""),
  );
  let asked = 0;
  follow(customer, signal, balance, async () => {
    const mine = (asked += 1);
    const now = await standing();
    if (now !== null && mine === asked) show(now);
    await ledger.refresh();
  });
}

/* ---------- As it moves ---------- */

/**
 * Follows the wallet over the websocket that its customer's page uses.
 *
 * @param moved reads again what else has moved; it is called soon after a change, and once for many
 */
async function follow(customer, signal, balance, moved) {
  const mint = () => ask(path("wallets", customer, "tokens"), { method: "POST", body: { expires_in: TOKEN_SECONDS, scopes: ["read"] }, signal });
  const timers = new Map();
  const later = (name, ms, does) => {
    if (signal.aborted || timers.has(name)) return;
    timers.set(name, setTimeout(() => {
      timers.delete(name);
      does();
    }, ms));
  };
  let handle = null;
  let seen = null;
  const open = async () => {
    try {
      const { token } = await mint();
      if (handle) handle.renew(token);
      else {
        handle = connect({
          server: location.origin,
          token,
          onChange(state) {
            balance.show(state);
            if (seen !== null && seen !== state.version) later("moved", READ_AGAIN_MS, () => moved().catch((error) => error instanceof Ended || balance.tell("stale")));
            seen = state.version;
          },
          onStatus: (status) => balance.tell(status),
          onError({ code }) {
            if (code !== "token_expired") return;
            clearTimeout(timers.get("open")); // as after a sleep, which the timer slept through too
            timers.delete("open");
            later("open", RETRY_MS, open);
          },
        });
      }
      later("open", RENEW_MS, open);
    } catch (error) {
      if (error instanceof Ended) return;
      balance.tell("offline");
      later("open", RETRY_MS, open);
    }
  };
  signal.addEventListener("abort", () => {
    for (const timer of timers.values()) clearTimeout(timer);
    handle?.close();
  });
  await open();
}

const PULSES = { live: "Live", connecting: "Connecting", offline: "Not live: it comes back by itself", error: "Not live", stale: "The balance is live, the rest could not be read" };

function balanceCard() {
  const value = make("p", { class: "balance number" });
  const pulse = make("span", { class: "pulse", role: "status" }, "Connecting");
  const facts = make("dl", { class: "facts number" });
  const settled = make("dl", { class: "facts number" });
  const rows = (pairs) => pairs.map(([name, said]) => make("div", {}, make("dt", {}, name), make("dd", {}, said)));
  return {
    node: card("Balance", { class: "w4", beside: pulse }, value, facts, settled),
    show({ balance, held, available }) {
      value.textContent = words.number(balance);
      facts.replaceChildren(...rows([["Held", words.number(held)], ["Available", words.number(available)]]));
    },
    settings(one) {
      const limit = one.spend_limit && `${words.number(one.spent[one.spend_limit.per])} of ${words.number(one.spend_limit.credits)} this ${one.spend_limit.per}`;
      settled.replaceChildren(
        ...rows([
          ["Spent today, this week, this month", [one.spent.day, one.spent.week, one.spent.month].map(words.number).join(" · ")],
          ["Spend limit", limit ?? "none"],
          ["Overdraft", one.overdraft_limit ? `down to −${words.number(one.overdraft_limit)}` : "none"],
          ["Low below", one.low_balance_threshold === null ? "no threshold" : words.number(one.low_balance_threshold)],
          ["Fills itself", one.auto_top_up ? `below ${words.number(one.auto_top_up.threshold)}, with ${one.auto_top_up.pack}` : "no"],
        ]),
      );
    },
    tell(status) {
      pulse.textContent = PULSES[status];
      pulse.className = `pulse ${status}`;
    },
  };
}

/* ---------- What it has ---------- */

const firstOf = (rows) => (rows.length < LISTED_MAX ? null : `The first ${LISTED_MAX}; the API has them all.`);

function grantsCard(customer, grants, changed) {
  const columns = [{ name: "Grant" }, { name: "Left", number: true }, { name: "Of", number: true }, { name: "From" }, { name: "" }];
  const rows = grants.map((grant) => [
    make("span", { class: "marks" }, grant.category === "paid" ? "Paid" : "Promotional", grant.status !== "active" && pill(grant.status, "wait")),
    words.number(grant.remaining),
    words.number(grant.credits),
    make("span", { class: "stacked" }, words.time(grant.effective_at), make("span", { class: "faint small" }, [grant.expires_at ? `until ${words.time(grant.expires_at)}` : "does not expire", grant.every && `comes again every ${grant.every}`].filter(Boolean).join(", "))),
    ["active", "pending"].includes(grant.status) ? named(button("Void", () => voidDialog(customer, grant, changed), "slim"), `Void ${words.number(grant.remaining)} ${grant.category} credits`) : "",
  ]);
  return card("Grants", { note: "In the order in which they are spent." }, rows.length ? table("Grants", columns, rows) : nothing("No credits left."));
}

async function ledgerCard(customer, chosen, signal) {
  const columns = [{ name: "Entry" }, { name: "Credits", number: true }, { name: "Balance", number: true }, { name: "Kind" }, { name: "By" }, { name: "At" }];
  const place = make("div", { class: "list" });
  const kind = make("select", { class: "input slim", "aria-label": "Kind of entries" }, [["", "All that moved credits"], ["all", "Everything"], ...Object.entries(words.KINDS)].map(([of, name]) => make("option", { value: of, selected: of === chosen }, name)));
  const address = path("wallets", customer, "entries");
  let asked = 0;
  let pages = 0;
  let goesBack = false;
  const read = async (cursor = null) => {
    const mine = (asked += 1);
    goesBack = cursor !== null;
    const page = await ask(`${address}${query({ kind: kind.value, limit: LEDGER_PAGE, cursor })}`, { signal }).finally(() => (goesBack = goesBack && mine !== asked));
    if (mine !== asked) return; // another kind was chosen, or the newest are being read
    const rows = page.entries.map(entryRow);
    const more = page.next_cursor ? make("p", { class: "more" }, button("Older", () => read(page.next_cursor))) : "";
    if (!cursor) {
      pages = 1;
      return place.replaceChildren(rows.length ? table("Entries", columns, rows) : nothing("No such entry."), more);
    }
    pages += 1;
    place.querySelector(".more").replaceWith(more);
    addRows(place, columns, rows);
  };
  kind.addEventListener("change", () => {
    if (route().name === "wallets") history.replaceState(null, "", to("wallets", [customer], { kind: kind.value }));
    read().catch((error) => error instanceof Ended || tell(wordsOf(error), "bad"));
  });
  const save = button("CSV", async () => download(`${customer}.csv`, await ask(`${address}${query({ kind: kind.value })}`, { accept: "text/csv", signal })), "slim");
  await read();
  return {
    node: card("Ledger", { class: "w12", beside: [kind, save] }, place),
    /** Reads the newest again, unless somebody has gone further back. */
    refresh: async () => (pages === 1 && !goesBack && !place.contains(document.activeElement) ? read() : undefined),
  };
}

const entryRow = (entry) => [
  make("span", { class: "stacked" }, entry.description, make("span", { class: "faint small" }, [entry.model, entry.member, entry.quantity > 1 ? `${words.number(entry.quantity)} units` : null, entry.cost_usd && `cost ${words.usd(entry.cost_usd)}`, entry.reason].filter(Boolean).join(" · "))),
  make("span", { class: entry.credits > 0 ? "good" : "" }, entry.credits ? words.signed(entry.credits) : "–"),
  words.number(entry.balance),
  words.kindWord(entry.kind),
  entry.actor ?? "time",
  words.time(entry.created_at),
];

function membersCard(customer, members, changed) {
  const columns = [{ name: "Member" }, { name: "Today", number: true }, { name: "This week", number: true }, { name: "This month", number: true }, { name: "Held", number: true }, { name: "Limit" }, { name: "" }];
  const rows = members.map((one) => [one.member, words.number(one.spent.day), words.number(one.spent.week), words.number(one.spent.month), words.number(one.held), one.spend_limit ? `${words.number(one.spend_limit.credits)} a ${one.spend_limit.per}` : "none", named(button("Limit", () => memberDialog(customer, one, changed), "slim"), `Limit ${one.member}`)]);
  return card("Members", { note: firstOf(members) }, table("Members", columns, rows));
}

function holdsCard(customer, holds, changed) {
  const rows = holds.map((hold) => [hold.event ?? hold.label, words.number(hold.credits), hold.member ?? "–", words.time(hold.created_at), words.ago(hold.expires_at), button("Release", () => releaseDialog(customer, hold, changed), "slim")]);
  return card("Open holds", { note: firstOf(holds) }, table("Open holds", [{ name: "For" }, { name: "Credits", number: true }, { name: "Member" }, { name: "Since" }, { name: "Runs out" }, { name: "" }], rows));
}

const PAID = new Map([
  ["paid", ["Paid", "good"]],
  ["partially_refunded", ["Partly refunded", "wait"]],
  ["refunded", ["Refunded", ""]],
  ["disputed", ["Disputed", "bad"]],
  ["processing", ["Money on its way", "wait"]],
  ["failed", ["Failed", "bad"]],
  ["expired", ["Expired", ""]],
  ["open", ["Not paid yet", ""]],
  ["charging", ["Charging", "wait"]],
]);

function paymentsCard(bought, changed) {
  const rows = bought.map((one) => {
    const [said, kind] = PAID.get(one.status) ?? [one.status, ""];
    const refundable = ["paid", "partially_refunded"].includes(one.status) && one.amount_paid > one.amount_refunded + one.amount_disputed;
    const money = (amount) => words.money({ [one.currency]: amount });
    return [one.pack, words.number(one.credits + one.bonus_credits), money(one.amount_paid ?? one.amount), one.amount_refunded ? money(one.amount_refunded) : "–", pill(said, kind), words.time(one.created_at), refundable ? named(button("Refund", () => refundDialog(one, changed), "slim"), `Refund ${money(one.amount_paid)} of ${words.time(one.created_at)}`) : ""];
  });
  return card("Payments", { class: "w12", note: firstOf(bought) }, table("Payments", [{ name: "Pack" }, { name: "Credits", number: true }, { name: "Amount", number: true }, { name: "Refunded", number: true }, { name: "State" }, { name: "At" }, { name: "" }], rows));
}
