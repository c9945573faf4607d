/** One wallet: its balance as it moves, its ledger, its grants, and what an operator does to it. */

import { Refused, ask, freshKey, path, query, send, wordsOf } from "./ask.js";
import { button, card, download, link, make, pill, table, tell } from "./elements.js";
import { confirm, dialog, field } from "./forms.js";
import { to } from "./router.js";
import { marks } from "./wallets.js";
import * as words from "./words.js";
import { connect } from "/static/widget.js";

const LEDGER_PAGE = 25;
const LISTED_MAX = 100;
const READ_AGAIN_MS = 800;
const TOKEN_SECONDS = 86_400;
const PERS = [["", "No limit"], ["day", "a day"], ["week", "a week"], ["month", "a month"]];

export async function wallet(root, { parts, signal, again }) {
  const [customer] = parts;
  const get = (name, parameters = {}) => ask(`${path("wallets", customer, ...(name ? [name] : []))}${query(parameters)}`, { signal });
  let one;
  try {
    one = await get("");
  } catch (error) {
    if (!(error instanceof Refused) || error.status !== 404) throw error;
    return missing(root, customer, again);
  }
  const [members, holds, bought] = await Promise.all([get("members", { limit: LISTED_MAX }), get("holds", { status: "open", limit: LISTED_MAX }), ask(`/v1/checkouts${query({ customer_id: customer, limit: LISTED_MAX })}`, { signal })]);
  const ledger = await ledgerCard(customer, signal);
  const balance = balanceCard(one);
  const changed = (said) => {
    tell(said);
    again();
  };
  root.append(
    make("header", { class: "top" }, make("div", {}, make("p", { class: "small" }, link(to("wallets"), "Wallets")), make("h1", { tabIndex: -1 }, one.name ?? customer, " ", marks(one)), make("p", { class: "faint" }, make("code", {}, customer), ` since ${words.time(one.created_at)}`)), actions(one, changed)),
    make(
      "div",
      { class: "grid" },
      balance.node,
      grantsCard(customer, one.grants, changed),
      ledger.node,
      members.members.length ? membersCard(customer, members.members, changed) : "",
      holds.holds.length ? holdsCard(holds.holds, changed) : "",
      bought.checkouts.length ? paymentsCard(bought.checkouts, changed) : "",
    ),
  );
  watch(customer, signal, balance, ledger);
}

function missing(root, customer, again) {
  root.append(
    make("header", { class: "top" }, make("div", {}, make("p", { class: "small" }, link(to("wallets"), "Wallets")), make("h1", { tabIndex: -1 }, customer))),
    card("There is no such wallet yet", {}, make("p", {}, "The first event, grant or checkout of this customer opens it."), button("Grant credits", () => grantDialog(customer, (said) => (tell(said), again())), "primary")),
  );
}

/* ---------- As it moves ---------- */

/** Follows the wallet over the websocket that its customer's page uses. */
async function watch(customer, signal, balance, ledger) {
  const mint = () => ask(path("wallets", customer, "tokens"), { method: "POST", body: { expires_in: TOKEN_SECONDS, scopes: ["read"] }, signal });
  let handle = null;
  let seen = null;
  try {
    const { token } = await mint();
    if (signal.aborted) return;
    handle = connect({
      server: location.origin,
      token,
      onChange(state) {
        balance.show(state);
        if (seen !== null && seen !== state.version) ledger.later();
        seen = state.version;
      },
      onStatus: (status) => balance.tell(status),
      onError: async ({ code }) => {
        if (code === "token_expired") handle.renew((await mint()).token);
      },
    });
    signal.addEventListener("abort", () => handle.close());
  } catch {
    balance.tell("offline"); // what was read stays, and says that it does not move
  }
}

function balanceCard(one) {
  const value = make("p", { class: "balance number" });
  const state = make("span", { class: "pulse", role: "status" }, "Connecting");
  const facts = make("dl", { class: "facts number" });
  const limit = one.spend_limit && `${words.number(one.spent[one.spend_limit.per])} of ${words.number(one.spend_limit.credits)} this ${one.spend_limit.per}`;
  const show = ({ balance, held, available }) => {
    value.textContent = words.number(balance);
    const rows = [
      ["Held", words.number(held)],
      ["Available", words.number(available)],
      ["Spent today, this week, this month", [one.spent.day, one.spent.week, one.spent.month].map(words.number).join(" · ")],
      ["Spend limit", limit ?? "none"],
      ["Overdraft", one.overdraft_limit ? `down to −${words.number(one.overdraft_limit)}` : "none"],
      ["Low below", one.low_balance_threshold === null ? "no threshold" : words.number(one.low_balance_threshold)],
      ["Fills itself", one.auto_top_up ? `below ${words.number(one.auto_top_up.threshold)}, with ${one.auto_top_up.pack}` : "no"],
    ];
    facts.replaceChildren(...rows.map(([name, said]) => make("div", {}, make("dt", {}, name), make("dd", {}, said))));
  };
  show(one);
  const WORDS = { live: "Live", connecting: "Connecting", offline: "Not live: it comes back by itself", error: "Not live" };
  return {
    node: card("Balance", { class: "w4", beside: state }, value, facts),
    show,
    tell(status) {
      state.textContent = WORDS[status];
      state.className = `pulse ${status}`;
    },
  };
}

/* ---------- What is done to it ---------- */

function actions(one, changed) {
  const address = path("wallets", one.customer_id);
  const freeze = () =>
    one.frozen
      ? send("PATCH", address, { frozen: false }).then(() => changed("The wallet spends again."), (error) => tell(wordsOf(error), "bad"))
      : confirm("Freeze this wallet?", "Events and new holds are refused until you unfreeze it. Credits still come in, and what was held can be captured.", "Freeze", async () => {
          await send("PATCH", address, { frozen: true });
          changed("The wallet is frozen.");
        });
  const audit = async () => {
    try {
      const { ok, entries, mismatch } = await ask(path("verify", one.customer_id));
      ok ? tell(`The ledger is sound: ${words.plural(entries, "entry", "entries")}, every promise kept.`) : tell(`The ledger is broken at version ${mismatch.version ?? "now"}: ${mismatch.what} is ${mismatch.found} and should be ${mismatch.expected}.`, "bad");
    } catch (error) {
      tell(wordsOf(error), "bad");
    }
  };
  return make(
    "div",
    { class: "actions" },
    button("Grant credits", () => grantDialog(one.customer_id, changed), "primary"),
    button("Adjust", () => adjustDialog(one, changed)),
    button("Settings", () => settingsDialog(one, changed)),
    button(one.frozen ? "Unfreeze" : "Freeze", freeze),
    button("Audit", audit),
  );
}

function grantDialog(customer, changed) {
  const key = freshKey();
  dialog({
    title: `Grant credits to ${customer}`,
    submit: "Grant",
    parts: [
      field({ name: "credits", label: "Credits", kind: "number", min: 1, step: 1, required: true }),
      field({ name: "category", label: "Category", kind: "select", value: "promotional", options: [["promotional", "Promotional: a gift, earns nothing"], ["paid", "Paid: money came for it elsewhere"]] }),
      field({ name: "usd_value", label: "Dollars they stand for", hint: "Of paid credits alone, such as 20.00; without it, what your packs ask.", inputmode: "decimal" }),
      field({ name: "expires_at", label: "Expire at", kind: "datetime-local", hint: "In your time zone. Without it, never." }),
      field({ name: "every", label: "Again", kind: "select", options: [["", "Once"], ["day", "Every day"], ["week", "Every week"], ["month", "Every month"]] }),
      field({ name: "reason", label: "Reason", hint: "For you; the customer does not see it.", maxlength: 500 }),
    ],
    async onSubmit({ expires_at: expires, every, usd_value: value, reason, ...given }) {
      const body = { ...given, ...(expires && { expires_at: new Date(expires).toISOString() }), ...(every && { every }), ...(value && { usd_value: value }), ...(reason && { reason }), idempotency_key: key };
      await send("POST", path("wallets", customer, "grants"), body);
      changed(`${words.plural(given.credits, "credit")} granted.`);
    },
  });
}

function adjustDialog(one, changed) {
  const key = freshKey();
  dialog({
    title: "Adjust the balance",
    note: "Up makes a promotional grant, down spends grants in their order. The ledger keeps both sides and the reason.",
    submit: "Adjust",
    parts: [field({ name: "credits", label: "Credits", kind: "number", step: 1, required: true, hint: "Below zero takes away, such as -5." }), field({ name: "reason", label: "Reason", required: true, maxlength: 500 })],
    async onSubmit({ credits, reason }) {
      await send("POST", path("wallets", one.customer_id, "adjustments"), { credits, reason, idempotency_key: key });
      changed(`Adjusted by ${words.signed(credits)}.`);
    },
  });
}

function limitFields(limit) {
  return [field({ name: "spend_limit", label: "Spend at most", kind: "number", min: 0, step: 1, value: limit?.credits ?? "" }), field({ name: "per", label: "Per", kind: "select", value: limit?.per ?? "", options: PERS })];
}

function limitOf({ spend_limit: credits, per }) {
  if (!per && credits === null) return null;
  return { credits: credits ?? 0, per: per || "month" };
}

function settingsDialog(one, changed) {
  dialog({
    title: "Settings",
    submit: "Save",
    parts: [
      field({ name: "name", label: "Name", value: one.name ?? "", maxlength: 255 }),
      field({ name: "low_balance_threshold", label: "Low below", kind: "number", min: 1, step: 1, value: one.low_balance_threshold ?? "", hint: "Empty: never called low." }),
      field({ name: "overdraft_limit", label: "Overdraft", kind: "number", min: 0, step: 1, value: one.overdraft_limit, hint: "How many credits the balance may lie below zero." }),
      ...limitFields(one.spend_limit),
    ],
    async onSubmit({ name, low_balance_threshold, overdraft_limit, ...limit }) {
      await send("PATCH", path("wallets", one.customer_id), { name, low_balance_threshold, overdraft_limit: overdraft_limit ?? 0, spend_limit: limitOf(limit) });
      changed("Saved.");
    },
  });
}

/* ---------- What it has ---------- */

function grantsCard(customer, grants, changed) {
  const spent = (id) => confirm("Void this grant?", "What is left of it is taken back, as far as open holds do not need it.", "Void", async () => {
    await send("POST", path("wallets", customer, "grants", id, "void"), { reason: "Voided on the dashboard" });
    changed("The grant is voided.");
  });
  const columns = [{ name: "Grant" }, { name: "Left", number: true }, { name: "Of", number: true }, { name: "From" }, { name: "" }];
  const rows = grants.map((grant) => [
    make("span", { class: "marks" }, grant.category === "paid" ? "Paid" : "Promotional", grant.status !== "active" && pill(grant.status, "wait")),
    words.number(grant.remaining),
    words.number(grant.credits),
    make("span", { class: "stacked" }, words.time(grant.effective_at), make("span", { class: "faint small" }, [grant.expires_at ? `until ${words.time(grant.expires_at)}` : "does not expire", grant.every && `comes again every ${grant.every}`].filter(Boolean).join(", "))),
    ["active", "pending"].includes(grant.status) ? button("Void", () => spent(grant.id), "slim") : "",
  ]);
  return card("Grants", { class: "w8", note: "In the order in which they are spent." }, rows.length ? table("Grants", columns, rows) : make("p", { class: "nothing" }, "None that is not used up."));
}

async function ledgerCard(customer, signal) {
  const place = make("div", {});
  const kind = make("select", { class: "input slim", "aria-label": "Kind of entries" }, [["", "All that moved credits"], ["all", "Everything"], ...Object.entries(words.KINDS)].map(([of, name]) => make("option", { value: of }, name)));
  const address = () => `${path("wallets", customer, "entries")}`;
  let entries = [];
  let following = null;
  const read = async (cursor = null) => {
    const page = await ask(`${address()}${query({ kind: kind.value, limit: LEDGER_PAGE, cursor })}`, { signal });
    entries = cursor ? [...entries, ...page.entries] : page.entries;
    following = page.next_cursor;
    show();
  };
  const failed = (error) => signal.aborted || tell(wordsOf(error), "bad");
  const show = () => {
    const columns = [{ name: "Entry" }, { name: "Credits", number: true }, { name: "Balance", number: true }, { name: "Kind" }, { name: "By", wide: true }, { name: "At" }];
    const rows = entries.map((entry) => [
      make("span", { class: "stacked" }, entry.description, make("span", { class: "faint small" }, [entry.model, entry.member, entry.quantity > 1 ? `${words.number(entry.quantity)} units` : null, entry.cost_usd && `cost ${words.usd(entry.cost_usd)}`, entry.reason].filter(Boolean).join(" · "))),
      make("span", { class: entry.credits > 0 ? "good" : "" }, entry.credits ? words.signed(entry.credits) : "–"),
      words.number(entry.balance),
      words.kindWord(entry.kind),
      entry.actor ?? "time",
      words.time(entry.created_at),
    ]);
    const more = following && button("Older", () => read(following).catch(failed));
    place.replaceChildren(rows.length ? table("Entries", columns, rows) : make("p", { class: "nothing" }, "No such entry."), ...(more ? [make("p", { class: "more" }, more)] : []));
  };
  kind.addEventListener("change", () => read().catch(failed));
  const save = button("CSV", async () => download(`${customer}.csv`, await ask(`${address()}${query({ kind: kind.value })}`, { accept: "text/csv" })), "slim");
  let timer = null;
  signal.addEventListener("abort", () => clearTimeout(timer));
  await read();
  return {
    node: card("Ledger", { class: "w12", beside: [kind, save] }, place),
    /** Reads its newest entries again, soon and once for many changes, unless somebody has read further back. */
    later() {
      timer ??= setTimeout(() => {
        timer = null;
        if (entries.length <= LEDGER_PAGE) read().catch(() => {});
      }, READ_AGAIN_MS);
    },
  };
}

function membersCard(customer, members, changed) {
  const limit = ({ member, spend_limit: limit }) =>
    dialog({
      title: `What ${member} may spend`,
      submit: "Save",
      parts: limitFields(limit),
      async onSubmit(given) {
        await send("PATCH", path("wallets", customer, "members", member), { spend_limit: limitOf(given) });
        changed("Saved.");
      },
    });
  const columns = [{ name: "Member" }, { name: "Today", number: true }, { name: "This week", number: true }, { name: "This month", number: true }, { name: "Held", number: true }, { name: "Limit" }, { name: "" }];
  const rows = members.map((one) => [one.member, words.number(one.spent.day), words.number(one.spent.week), words.number(one.spent.month), words.number(one.held), one.spend_limit ? `${words.number(one.spend_limit.credits)} a ${one.spend_limit.per}` : "none", button("Limit", () => limit(one), "slim")]);
  return card("Members", { class: "w12" }, table("Members", columns, rows));
}

function holdsCard(holds, changed) {
  const release = (id) => confirm("Release this hold?", "The credits that it sets apart can be spent again. An agent that is still at work can no longer capture them.", "Release", async () => {
    await send("POST", path("holds", id, "release"));
    changed("The hold is released.");
  });
  const rows = holds.map((hold) => [hold.event ?? hold.id, words.number(hold.credits), hold.member ?? "–", words.time(hold.created_at), words.ago(hold.expires_at), button("Release", () => release(hold.id), "slim")]);
  return card("Open holds", { class: "w12" }, table("Open holds", [{ name: "For" }, { name: "Credits", number: true }, { name: "Member" }, { name: "Since" }, { name: "Runs out" }, { name: "" }], rows));
}

const PAID = { paid: ["Paid", "good"], partially_refunded: ["Partly refunded", "wait"], refunded: ["Refunded", ""], disputed: ["Disputed", "bad"], processing: ["Money on its way", "wait"], failed: ["Failed", "bad"], expired: ["Expired", ""], open: ["Not paid yet", ""], charging: ["Charging", "wait"] };

function paymentsCard(bought, changed) {
  const rows = bought.map((one) => {
    const [said, kind] = PAID[one.status] ?? [one.status, ""];
    const refundable = ["paid", "partially_refunded"].includes(one.status) && one.amount_paid > one.amount_refunded + one.amount_disputed;
    return [one.pack, words.number(one.credits + one.bonus_credits), words.money({ [one.currency]: one.amount_paid ?? one.amount }), one.amount_refunded ? words.money({ [one.currency]: one.amount_refunded }) : "–", pill(said, kind), words.time(one.created_at), refundable ? button("Refund", () => refundDialog(one, changed), "slim") : ""];
  });
  return card("Payments", { class: "w12" }, table("Payments", [{ name: "Pack" }, { name: "Credits", number: true }, { name: "Amount", number: true }, { name: "Refunded", number: true }, { name: "State" }, { name: "At" }, { name: "" }], rows));
}

function refundDialog(one, changed) {
  const key = freshKey();
  const left = one.amount_paid - one.amount_refunded - one.amount_disputed;
  dialog({
    title: "Refund this payment",
    note: `${words.money({ [one.currency]: left })} can go back. The credits that it bought are taken with it.`,
    submit: "Refund",
    kind: "bad",
    parts: [field({ name: "amount", label: `Minor units of ${one.currency.toUpperCase()}`, kind: "number", min: 1, max: left, step: 1, value: left, required: true, hint: "Cents, or whole yen: 1000 is $10.00." }), field({ name: "reason", label: "Reason", maxlength: 500 })],
    async onSubmit({ amount, reason }) {
      await send("POST", path("checkouts", one.id, "refund"), { amount, ...(reason && { reason }), idempotency_key: key });
      changed("The refund is asked for; the credits follow when Stripe has confirmed it.");
    },
  });
}
