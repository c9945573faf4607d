/** The wallet that fills itself: its switch, how it goes in words, and the card that it needs. */

import { formatMoney } from "/static/widget.js";

const ANSWER_MS_MAX = 10_000;
const AGAIN_MS = 5000;
const TIMER_MS_MAX = 2 ** 31 - 1;

/** Why it waits or has stopped, by the codes of Stripe and of the ledger. */
const REASONS = {
  authentication_required: "the bank wants you to confirm the payment",
  card_declined: "the card was declined",
  generic_decline: "the card was declined",
  insufficient_funds: "the card has no funds",
  expired_card: "the card has expired",
  no_saved_card: "no card is saved any more",
  monthly_limit: "this month’s limit is reached",
  pack_not_on_sale: "the pack is not on sale any more",
  pack_currency_changed: "the pack’s currency has changed",
  refunded: "a payment was refunded",
  disputed: "a payment is disputed",
};

const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");

let state = null;
let due = null;

/* ---------- Asking: one request after the other, so that the last answer is the newest ---------- */

let last = Promise.resolve();
let waiting = false;

function inTurn(job) {
  return (last = last.then(job));
}

async function ask(path, method = "GET", body = undefined) {
  const answer = await fetch(path, {
    method,
    headers: body ? { "Content-Type": "application/json" } : {},
    body: body && JSON.stringify(body),
    signal: AbortSignal.timeout(ANSWER_MS_MAX),
  });
  const json = await answer.json();
  if (!answer.ok) throw new Error(json.error?.message ?? answer.statusText);
  return json;
}

/** Asks how it goes now, once for all who want to know meanwhile. */
export function refreshAutoTopUp() {
  if (waiting) return;
  waiting = true;
  inTurn(async () => {
    waiting = false;
    try {
      render(await ask("/demo/auto-top-up"));
    } catch {
      setTimeout(refreshAutoTopUp, AGAIN_MS);
    }
  });
}

/* ---------- Showing ---------- */

function render(next) {
  state = next;
  const { auto_top_up: auto, card_saved: saved, threshold, credits, pay_url: payUrl } = state;
  $("itself").hidden = credits === null && !auto;
  $("itself").dataset.status = auto?.status ?? "off";
  $("itself-threshold").textContent = number.format(threshold);
  $("itself-switch").setAttribute("aria-checked", String(Boolean(auto)));
  $("itself-switch").setAttribute("aria-disabled", String(!auto && !saved));
  say(words(state));
  $("itself-charged").hidden = !auto;
  if (auto) $("itself-charged").textContent = `Charged ${money(auto.charged_this_month)} this month of ${money(auto.monthly_limit)}`;
  $("pay-instead").hidden = !payUrl;
  if (payUrl) $("pay-instead").href = payUrl;
  $("save-card").hidden = Boolean(payUrl) || credits === null; // what is paid instead leaves its card, too
  $("save-card").textContent = saved ? "Save another card" : "Save a card";
  $("save-card").removeAttribute("aria-disabled");
  clearTimeout(due);
  if (auto?.retry_at) due = setTimeout(refreshAutoTopUp, Math.min(Math.max(1000, Date.parse(auto.retry_at) - Date.now()), TIMER_MS_MAX));
}

function words({ auto_top_up: auto, card_saved: saved, credits }) {
  if (!auto) return saved ? "Off. A card is saved." : `Off. It needs a card: buy ${number.format(credits ?? 0)} credits and save yours.`;
  const why = REASONS[auto.reason] ?? `the payment failed (${auto.reason})`;
  switch (auto.status) {
    case "charging":
      return "Charging the saved card…";
    case "waiting":
      return `Waiting until ${time(auto.retry_at)} because ${why}.`;
    case "stopped":
      return `Stopped because ${why}.`;
    default:
      return "On.";
  }
}

/** Said aloud too, so only what is new. */
function say(text) {
  if ($("itself-note").textContent !== text) $("itself-note").textContent = text;
}

const money = (amount) => formatMoney(amount, state.currency ?? "usd", "en");

function time(at) {
  const date = new Date(at);
  const today = date.toDateString() === new Date().toDateString();
  return date.toLocaleString("en", { ...(!today && { month: "short", day: "numeric" }), hour: "numeric", minute: "2-digit" });
}

/* ---------- Acting ---------- */

$("itself-switch").addEventListener("click", () => {
  if (!state) return;
  const on = !state.auto_top_up;
  if (on && !state.card_saved) return say("It stays off until a card is saved.");
  $("itself-switch").setAttribute("aria-checked", String(on));
  inTurn(async () => {
    try {
      render(await ask("/demo/auto-top-up", "PUT", { on }));
    } catch (error) {
      render(state);
      say(failure(error));
    }
  });
});

$("save-card").addEventListener("click", async () => {
  if ($("save-card").getAttribute("aria-disabled") === "true") return;
  $("save-card").setAttribute("aria-disabled", "true");
  try {
    const { url } = await ask("/demo/card", "POST", {});
    location.assign(url);
  } catch (error) {
    $("save-card").removeAttribute("aria-disabled");
    say(failure(error));
  }
});

const failure = (error) => (error instanceof TypeError || error.name === "TimeoutError" ? "The server can’t be reached just now. Please try again." : error.message);

// A page that comes back from the browser's memory has missed what happened at the checkout.
addEventListener("pageshow", ({ persisted }) => persisted && refreshAutoTopUp());
