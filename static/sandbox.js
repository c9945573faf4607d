/** The sandbox's checkout: takes test cards only, and moves no money. */

import { formatMoney } from "/static/widget.js";

const session = location.pathname.split("/").filter(Boolean).pop();
const address = `/sandbox/sessions/${encodeURIComponent(session)}`;
const $ = (id) => document.getElementById(id);

const BANK = "bank";
const NOTES = {
  [BANK]: "Let the money arrive, or not, on the sandbox’s dashboard.",
  "4000 0000 0000 0341": "Pays now. Charged again without its buyer, it gets no money.",
  "4000 0027 6000 3184": "Pays now, as if you had authenticated. Charged again without you, it asks for you.",
};

let order = null;
let paying = false;

const OVER = {
  paid: ["Already paid", "This checkout was completed. The credits are in the wallet."],
  processing: ["Payment on its way", "This checkout was completed. The credits land when the money arrives."],
  expired: ["This checkout has expired", "Nothing was charged. Start a new top-up to try again."],
  missing: ["No such checkout", "The link may be incomplete, or the demo was restarted since."],
  offline: ["The demo can’t be reached", "Nothing was charged. Reload the page to try again."],
};

async function load() {
  try {
    const answer = await fetch(address, { cache: "no-store" });
    if (!answer.ok) return over(answer.status === 404 ? "missing" : "offline");
    return describe(await answer.json());
  } catch {
    return over("offline");
  }
}

function describe(session) {
  order = session;
  for (const id of ["description", "line-name"]) $(id).textContent = session.description;
  document.title = `${session.description} · Sandbox checkout`;
  const back = session.cancel_url;
  if (back && /^https?:$/.test(new URL(back, location).protocol)) $("cancel").href = $("over-back").href = back;
  if (session.customer_email) $("email").value = session.customer_email;
  $("promotion-choice").hidden = !session.promotion_codes;
  $("kept").hidden = !session.keeps_card;
  showPrice();
  ready();
  if (session.status === "complete") over(session.payment_status === "unpaid" ? "processing" : "paid");
  else if (session.status !== "open") over("expired");
}

const money = (amount) => formatMoney(amount, order.currency, "en");
const price = () => money($("promotion").checked ? 0 : order.amount);

/** What is bought, less a promotion, with tax: what is due. */
function showPrice() {
  const free = $("promotion").checked;
  $("line-amount").textContent = money(order.subtotal);
  $("discount").textContent = `−${money(order.subtotal)}`;
  $("tax").textContent = money(order.tax);
  $("discount-line").hidden = !free;
  $("tax-line").hidden = free || !order.tax;
  for (const id of ["amount", "total"]) $(id).textContent = price();
}

function over(reason) {
  const [title, words] = OVER[reason];
  $("form").hidden = true;
  $("over").hidden = false;
  $("over-title").textContent = title;
  $("over-words").textContent = words;
}

function ready() {
  paying = false;
  $("pay").setAttribute("aria-disabled", "false");
  $("pay-words").textContent = order ? `Pay ${price()}` : "Pay";
}

/* ---------- Fields ---------- */

const chosen = () => document.querySelector('[name="quick"]:checked')?.value;
const byCard = () => chosen() !== BANK && !$("promotion").checked;
const digits = (id) => $(id).value.replace(/\D/g, "");

/** The check digit every card number carries. */
function passesLuhn(number) {
  const sum = [...number].reverse().reduce((total, digit, place) => {
    const value = Number(digit) * (place % 2 ? 2 : 1);
    return total + (value > 9 ? value - 9 : value);
  }, 0);
  return sum % 10 === 0;
}

function expired() {
  const [month, year] = [Number(digits("expiry").slice(0, 2)), 2000 + Number(digits("expiry").slice(-2))];
  return !(month >= 1 && month <= 12 && new Date(year, month, 1) > new Date());
}

/** The first thing wrong with the form: the field and what to say, or null. */
function problem() {
  const card = digits("card");
  if (!$("email").checkValidity() || !$("email").value) return ["email", "Enter an email address, like ada@example.com."];
  if (!byCard()) return null;
  if (card.length < 13 || card.length > 19) return ["card", "Enter the whole card number."];
  if (!passesLuhn(card)) return ["card", "This card number has a typing mistake."];
  if (digits("expiry").length < 4 || expired()) return ["expiry", "The expiry date is in the past or incomplete."];
  if (digits("cvc").length < 3) return ["cvc", "The CVC has three or four digits."];
  return null;
}

function complain([field, words]) {
  clear();
  $("card-error").textContent = words;
  $(field).setAttribute("aria-invalid", "true");
  $(field).focus();
}

function clear() {
  $("card-error").textContent = "";
  for (const input of document.querySelectorAll(".input")) input.removeAttribute("aria-invalid");
}

function group() {
  const atEnd = $("card").selectionStart === $("card").value.length;
  if (atEnd) $("card").value = digits("card").replace(/(.{4})(?=.)/g, "$1 ");
  for (const radio of document.querySelectorAll('[name="quick"]')) radio.checked = radio.value === $("card").value;
  choose();
}

/** Shows the fields that the choice needs. */
function choose() {
  for (const part of document.querySelectorAll(".of-card")) part.hidden = !byCard();
  for (const radio of document.querySelectorAll('[name="quick"]')) radio.disabled = $("promotion").checked;
  $("quick-note").textContent = $("promotion").checked ? "" : NOTES[chosen()] ?? "";
}

/* ---------- Paying ---------- */

async function pay(event) {
  event.preventDefault();
  if (paying) return;
  const wrong = problem();
  if (wrong) return complain(wrong);
  clear();
  paying = true;
  $("pay").setAttribute("aria-disabled", "true");
  $("pay-words").textContent = "Processing…";
  try {
    const how = byCard() ? { card: digits("card") } : $("promotion").checked ? { promotion: true } : { bank_debit: true };
    const body = JSON.stringify(how);
    const answer = await fetch(`${address}/pay`, { method: "POST", headers: { "Content-Type": "application/json" }, body });
    const json = await answer.json();
    if (answer.ok) return location.assign(json.redirect);
    if (answer.status === 404) load();
    complain(["card", json.error?.message ?? "The payment did not go through."]);
  } catch {
    complain(["card", "The demo can’t be reached just now. Nothing was charged."]);
  }
  return ready();
}

$("form").addEventListener("submit", pay);
$("card").addEventListener("input", group);
for (const radio of document.querySelectorAll('[name="quick"]')) {
  radio.addEventListener("change", () => {
    if (radio.value !== BANK) $("card").value = radio.value;
    choose();
    clear();
  });
}
$("promotion").addEventListener("change", () => {
  choose();
  clear();
  showPrice();
  ready();
});
choose();
ready();
load();
