/** The sandbox's dashboard: its payments, and what may become of them. It moves no money. */

import { formatMoney } from "/static/widget.js";

const READ_AGAIN_MS = 3_000;
const ANSWER_MS_MAX = 10_000;
const $ = (id) => document.getElementById(id);

const STATES = {
  open: ["Not paid yet", ""],
  paid: ["Paid", "good"],
  processing: ["Money on its way", "wait"],
  declined: ["Declined", "bad"],
  canceled: ["Canceled", ""],
  partly_refunded: ["Partly refunded", "wait"],
  refunded: ["Refunded", ""],
  inquiry: ["Inquiry", "wait"],
  inquiry_closed: ["Paid, inquiry closed", "good"],
  disputed: ["Disputed", "bad"],
  dispute_won: ["Paid, dispute won", "good"],
  dispute_lost: ["Dispute lost", "bad"],
};
const ACTIONS = {
  money_arrives: ["Money arrives", "The money arrived."],
  money_fails: ["Money fails", "The bank returned the debit."],
  refund_half: ["Refund half", "Half is refunded."],
  refund_rest: ["Refund the rest", "All that was left is refunded."],
  fail_refund: ["Fail the last refund", "The refund came back from the bank."],
  dispute: ["Dispute", "The buyer’s bank took the money back, for now."],
  inquiry: ["Inquiry", "The buyer’s bank asks; it took no money."],
  escalate: ["Escalate", "The inquiry became a dispute: the bank took the money."],
  win: ["Win", "It is decided for the seller."],
  lose: ["Lose", "It is decided for the buyer."],
};
/** The article of each payment, and what it was drawn from. */
const drawn = new Map();
let packs = "";
let busy = false;
/** Whether a button or key is down: what is drawn anew meanwhile would take its click. */
let pressed = false;
/** Counts each deed's begin and end: what was asked for before the last of them may be of the past. */
let turns = 0;

/* ---------- Asking ---------- */

async function ask(path, body) {
  const answer = await fetch(path, {
    method: body ? "POST" : "GET",
    headers: body ? { "Content-Type": "application/json" } : {},
    body: body && JSON.stringify(body),
    cache: "no-store",
    signal: AbortSignal.timeout(ANSWER_MS_MAX),
  });
  const json = await answer.json();
  if (!answer.ok) throw new Error(json.error?.message ?? "The sandbox refused.");
  return json;
}

async function read() {
  try {
    const before = turns;
    const state = await ask("/sandbox/payments");
    if (!busy && !pressed && turns === before) show(state);
  } catch {
    // The server restarts, and the next reading shows what is there.
  }
}

async function again() {
  if (document.visibilityState === "visible") await read();
  setTimeout(again, READ_AGAIN_MS);
}

/** Does one thing at a time, and says what it did. */
async function act(path, body, done) {
  if (busy) return;
  busy = true;
  turns += 1;
  document.body.setAttribute("aria-busy", "true");
  try {
    const { payment, events } = await ask(path, body);
    say(`${done} The server is told of ${events.join(", ") || "nothing"}.`, "done");
    draw(payment);
  } catch (error) {
    say(error instanceof TypeError || error.name === "TimeoutError" ? "The demo can’t be reached just now." : error.message, "wrong");
  }
  busy = false;
  turns += 1;
  document.body.removeAttribute("aria-busy");
  await read();
}

function say(words, kind) {
  $("said").textContent = words;
  $("said").className = `said ${kind}`;
}

/* ---------- Showing ---------- */

function make(tag, className, ...inside) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...inside);
  return node;
}

function show({ payments, packs: mapped }) {
  $("payments").removeAttribute("aria-busy");
  $("empty").hidden = payments.length > 0;
  const ids = new Set(payments.map(({ id }) => id));
  for (const [id, { node }] of drawn) {
    if (!ids.has(id)) {
      node.remove();
      drawn.delete(id);
    }
  }
  for (const payment of [...payments].reverse()) draw(payment);
  showPacks(mapped);
}

/** Draws a payment where it is not as it was drawn; the newest come first. */
function draw(payment) {
  const json = JSON.stringify(payment);
  const before = drawn.get(payment.id);
  if (before?.json === json) return;
  const node = article(payment);
  drawn.set(payment.id, { node, json });
  if (!before) return $("payments").prepend(node);
  const held = before.node.contains(document.activeElement) ? document.activeElement.dataset.action : null;
  before.node.replaceWith(node);
  if (held !== null) (node.querySelector(`[data-action="${held}"]`) ?? node.querySelector("h3")).focus();
}

function article(payment) {
  const { id, description, amount, refunded, currency, state, failure, customer_id: wallet, method, created_at: at } = payment;
  const money = (of) => formatMoney(of, currency, "en");
  const title = make("h3", "number", money(amount));
  title.id = `amount-${id}`;
  title.tabIndex = -1;
  const [words, kind] = STATES[state] ?? [state, ""];
  const head = make("header", "", title, make("span", "what", description), make("span", `state ${kind}`, words));
  const facts = [
    ["Wallet", wallet],
    ["Refunded", refunded ? money(refunded) : null],
    ["By", method],
    ["At", new Date(at).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" })],
    ["Payment", id],
    ["Bank", state === "declined" ? failure : null],
  ];
  const list = make("dl", "facts number", ...facts.filter(([, fact]) => fact).map(([name, fact]) => make("div", "", make("dt", "", name), make("dd", "", fact))));
  const node = make("article", "card payment", head, list);
  node.setAttribute("aria-labelledby", title.id);
  if (payment.actions.length) node.append(make("div", "actions", ...payment.actions.map((action) => button(payment, action, title.textContent))));
  return node;
}

function button({ id, state, refunded }, action, amount) {
  const [label, done] = ACTIONS[action];
  const words = action === "refund_rest" && !refunded ? "Refund all" : action === "win" && state === "inquiry" ? "Close the inquiry" : label;
  const node = make("button", "button", words);
  node.type = "button";
  node.dataset.action = action;
  node.setAttribute("aria-label", `${words}: ${amount}`);
  node.addEventListener("click", () => act(`/sandbox/payments/${encodeURIComponent(id)}`, { action }, done));
  return node;
}

function showPacks(mapped) {
  const json = JSON.stringify(mapped);
  if (json === packs) return;
  packs = json;
  const chosen = $("pack").value;
  $("invoice").hidden = mapped.length === 0;
  $("unmapped").hidden = mapped.length > 0;
  const options = mapped.map(({ code, name, credits, amount, currency }) => {
    const option = make("option", "", `${name}: ${credits.toLocaleString("en")} credits, ${formatMoney(amount, currency, "en")}`);
    option.value = code;
    return option;
  });
  $("pack").replaceChildren(...options);
  if (mapped.some(({ code }) => code === chosen)) $("pack").value = chosen;
}

$("invoice").addEventListener("submit", (event) => {
  event.preventDefault();
  act("/sandbox/invoices", { customer_id: $("wallet").value.trim(), pack: $("pack").value }, "The invoice is paid.");
});
for (const type of ["pointerdown", "keydown"]) addEventListener(type, () => (pressed = true), true);
for (const type of ["pointerup", "pointercancel", "keyup", "blur"]) addEventListener(type, () => (pressed = false), true);
again();
