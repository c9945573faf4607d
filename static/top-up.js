/** Where Stripe sends the customer back: asks after the checkout until it is settled, and says so. */

const EVERY_MS = 1000;
const TRIES_MAX = 60;

const query = new URLSearchParams(location.search);
const checkout = query.get("checkout");
const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat(document.documentElement.lang);

const CANCELED = ["calm", "No payment was made", "You left the checkout. Your balance is as it was."];
const UNKNOWN = ["calm", "We don’t know this checkout", "The link may be incomplete. Your balance shows what has arrived."];
const PATIENCE = ["calm", "This is taking longer than usual", "Your payment is safe. The credits land by themselves as soon as it is confirmed."];

/** What the page shows for a status: phase, title, words. Null means: keep asking. */
function verdict({ status, credits }) {
  const some = credits ? `${number.format(credits)} credits` : "Your credits";
  switch (status) {
    case "paid":
      return ["paid", `${some} landed`, "They are in your balance now."];
    case "failed":
      return ["failed", "The payment didn’t go through", "You were not charged. Try again, or use another card."];
    case "expired":
      return ["calm", "This checkout has expired", "You were not charged. Start a new top-up whenever you like."];
    case "refunded":
    case "partially_refunded":
    case "disputed":
      return ["calm", "This payment is settled", "Your balance is up to date."];
    default:
      return null;
  }
}

function show([phase, title, words], settled = true) {
  $("ticket").dataset.phase = phase;
  if ($("title").textContent !== title) $("title").textContent = title;
  if ($("words").textContent !== words) $("words").textContent = words;
  $("close").hidden = !settled;
  document.title = title;
}

async function ask() {
  const answer = await fetch(`/v1/checkouts/${encodeURIComponent(checkout)}/status`, { cache: "no-store" });
  if (answer.status === 404 || answer.status === 400) return UNKNOWN;
  if (!answer.ok) return null;
  const found = await answer.json();
  if (found.status === "processing") show(["waiting", "Payment received", `Adding ${number.format(found.credits)} credits to your balance…`], false);
  return verdict(found);
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function follow() {
  for (let tries = 0; tries < TRIES_MAX; tries += 1) {
    const found = await ask().catch(() => null);
    if (found) return show(found);
    await pause(EVERY_MS);
  }
  return show(PATIENCE);
}

/** Someone who came back by the cancel link may still have paid in another tab: ask once before saying no. */
async function followCanceled() {
  const found = await ask().catch(() => null);
  show(found?.[0] === "paid" ? found : CANCELED);
}

if (!checkout) show(UNKNOWN);
else if (query.get("canceled")) followCanceled();
else follow();
