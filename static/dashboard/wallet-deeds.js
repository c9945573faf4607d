/** What an operator does to a wallet. */

import { Refused, ask, once, path, send } from "./ask.js";
import { button, make, tell } from "./elements.js";
import { confirm, dialog, field } from "./forms.js";
import * as words from "./words.js";

const PERS = [["day", "day"], ["week", "week"], ["month", "month"]];
const REASON_MAX = 500;

/** Buttons for all of it. */
export function actions(one, changed) {
  const customer = one.customer_id;
  const address = path("wallets", customer);
  const unfreeze = async () => {
    await send("PATCH", address, { frozen: false });
    changed(`${customer} spends again.`);
  };
  const freeze = () =>
    confirm(`Freeze ${customer}?`, "Events and new holds are refused until you unfreeze it. Credits still come in, and what was held can be captured.", "Freeze", async () => {
      await send("PATCH", address, { frozen: true });
      changed(`${customer} is frozen.`);
    });
  const audit = async () => {
    const { ok, entries, mismatch } = await ask(path("verify", customer));
    if (ok) tell(`The ledger is sound: ${words.plural(entries, "entry", "entries")}, every promise kept.`);
    else tell(`The ledger is broken ${mismatch.version === null ? "as it stands" : `at version ${mismatch.version}`}: ${mismatch.what} is ${mismatch.found} and should be ${mismatch.expected}.`, "bad");
  };
  return make(
    "div",
    { class: "actions" },
    button("Grant credits", () => grantDialog(customer, changed), "primary"),
    button("Adjust", () => adjustDialog(one, changed)),
    button("Settings", () => settingsDialog(customer, changed)),
    button(one.frozen ? "Unfreeze" : "Freeze", one.frozen ? unfreeze : freeze),
    button("Audit", audit),
  );
}

export function grantDialog(customer, changed) {
  dialog({
    title: `Grant credits to ${customer}`,
    submit: "Grant",
    parts: [
      field({ name: "credits", label: "Credits", kind: "number", min: 1, step: 1, required: true }),
      field({ name: "category", label: "Category", kind: "select", value: "promotional", options: [["promotional", "Promotional: a gift, earns nothing"], ["paid", "Paid: money came for it elsewhere"]] }),
      field({ name: "usd_value", label: "Dollars they stand for", hint: "Of paid credits alone, such as 20.00; without it, what your packs ask.", inputmode: "decimal" }),
      field({ name: "expires_at", label: "Expire at", kind: "datetime-local", hint: "In your time zone. Without it, never." }),
      field({ name: "every", label: "Again", kind: "select", options: [["", "Once"], ["day", "Every day"], ["week", "Every week"], ["month", "Every month"]] }),
      field({ name: "reason", label: "Reason", hint: "For you; the customer does not see it.", maxlength: REASON_MAX }),
    ],
    async onSubmit({ expires_at: expires, every, usd_value: value, reason, ...given }) {
      const body = { ...given, ...(expires && { expires_at: new Date(expires).toISOString() }), ...(every && { every }), ...(value && { usd_value: value }), ...(reason && { reason }) };
      await once(`grant ${customer}`, (idempotency_key) => send("POST", path("wallets", customer, "grants"), { ...body, idempotency_key }));
      changed(`${words.plural(given.credits, "credit")} granted to ${customer}.`);
    },
  });
}

function adjustDialog(one, changed) {
  const customer = one.customer_id;
  dialog({
    title: `Adjust the balance of ${customer}`,
    note: "Up makes a promotional grant, down spends grants in their order. The ledger keeps both sides and the reason.",
    submit: "Adjust",
    parts: [field({ name: "credits", label: "Credits", kind: "number", step: 1, required: true, hint: "Below zero takes away, such as -5." }), field({ name: "reason", label: "Reason", required: true, maxlength: REASON_MAX })],
    async onSubmit({ credits, reason }) {
      try {
        await once(`adjust ${customer}`, (idempotency_key) => send("POST", path("wallets", customer, "adjustments"), { credits, reason, idempotency_key }));
      } catch (error) {
        if (error.code === "insufficient_credits") throw new Refused(error.status, { code: error.code, message: `Only ${words.plural(error.facts.available, "credit")} can be taken away.`, field: "credits" });
        throw error;
      }
      changed(`${customer} adjusted by ${words.signed(credits)}.`);
    },
  });
}

/* ---------- Settings and limits ---------- */

const limitFields = (limit) => [
  field({ name: "spend_limit", label: "Spend at most", kind: "number", min: 1, step: 1, value: limit?.credits ?? "", hint: "Empty: no limit." }),
  field({ name: "per", label: "In a", kind: "select", value: limit?.per ?? "month", options: PERS }),
];

const limitOf = ({ spend_limit: credits, per }) => (credits === null ? null : { credits, per });

/** Saves what was changed here alone: another may have changed the rest meanwhile. */
async function settingsDialog(customer, changed) {
  const one = await ask(path("wallets", customer));
  const before = { name: one.name, low_balance_threshold: one.low_balance_threshold, overdraft_limit: one.overdraft_limit, spend_limit: one.spend_limit };
  dialog({
    title: `Settings of ${customer}`,
    submit: "Save",
    parts: [
      field({ name: "name", label: "Name", value: one.name ?? "", maxlength: 255 }),
      field({ name: "low_balance_threshold", label: "Low below", kind: "number", min: 1, step: 1, value: one.low_balance_threshold ?? "", hint: "Empty: never called low." }),
      field({ name: "overdraft_limit", label: "Overdraft", kind: "number", min: 0, step: 1, value: one.overdraft_limit, hint: "How many credits the balance may lie below zero." }),
      ...limitFields(one.spend_limit),
    ],
    async onSubmit({ name, low_balance_threshold, overdraft_limit, ...limit }) {
      const now = { name, low_balance_threshold, overdraft_limit: overdraft_limit ?? 0, spend_limit: limitOf(limit) };
      const differs = Object.entries(now).filter(([of, value]) => JSON.stringify(value) !== JSON.stringify(before[of]));
      if (differs.length) await send("PATCH", path("wallets", customer), Object.fromEntries(differs));
      changed(differs.length ? `The settings of ${customer} are saved.` : "Nothing was changed.");
    },
  });
}

export function memberDialog(customer, { member, spend_limit: limit }, changed) {
  dialog({
    title: `What ${member} may spend of ${customer}`,
    submit: "Save",
    parts: limitFields(limit),
    async onSubmit(given) {
      await send("PATCH", path("wallets", customer, "members", member), { spend_limit: limitOf(given) });
      changed(`The limit of ${member} is saved.`);
    },
  });
}

/* ---------- Taking back ---------- */

export const voidDialog = (customer, grant, changed) =>
  confirm(`Void ${words.plural(grant.remaining, "credit")} of ${customer}?`, "What is left of this grant is taken back, as far as open holds do not need it.", "Void", async () => {
    await send("POST", path("wallets", customer, "grants", grant.id, "void"), { reason: "Voided on the dashboard" });
    changed(`A grant of ${customer} is voided.`);
  });

export const releaseDialog = (customer, hold, changed) =>
  confirm(`Release ${words.plural(hold.credits, "credit")} of ${customer}?`, "What the hold sets apart can be spent again. An agent that is still at work can no longer capture it.", "Release", async () => {
    await send("POST", path("holds", hold.id, "release"));
    changed(`A hold of ${customer} is released.`);
  });

export function refundDialog(one, changed) {
  const left = one.amount_paid - one.amount_refunded - one.amount_disputed;
  const money = (amount) => words.money({ [one.currency]: amount });
  dialog({
    title: `Refund ${one.customer_id}`,
    note: `${money(left)} of ${money(one.amount_paid)} can go back. The same share of the ${words.plural(one.credits + one.bonus_credits, "credit")} that it bought is taken back; what was spent of them the wallet owes.`,
    submit: "Refund",
    kind: "bad",
    parts: [field({ name: "amount", label: `Amount, ${one.currency.toUpperCase()}`, value: words.majorText(left, one.currency), required: true, inputmode: "decimal", hint: `Up to ${money(left)}.` }), field({ name: "reason", label: "Reason", maxlength: REASON_MAX })],
    async onSubmit({ amount: text, reason }) {
      const amount = words.minorOf(text ?? "", one.currency);
      if (amount === null || amount < 1 || amount > left) throw new Refused(400, { code: "invalid_request", message: `An amount up to ${money(left)}, such as ${words.majorText(left, one.currency)}.`, field: "amount" });
      await once(`refund ${one.id}`, (idempotency_key) => send("POST", path("checkouts", one.id, "refund"), { amount, ...(reason && { reason }), idempotency_key }));
      changed(`A refund of ${money(amount)} is asked for; the credits follow when Stripe has confirmed it.`);
    },
  });
}
