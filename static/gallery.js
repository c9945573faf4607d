/** The gallery: every element in every state. What a state needs from a server, gallery-peer.js plays. */

import { SERVER, move, play } from "/static/gallery-peer.js";

const PACKS = [
  { code: "starter", name: "Starter", credits: 500, amount: 1000, currency: "usd" },
  { code: "team", name: "Team", credits: 1200, amount: 2000, currency: "usd" },
];
const EUROS = PACKS.map((pack) => ({ ...pack, currency: "eur" }));
const DAY = 86_400;
const HISTORY = [
  ["Chat reply", -8, "event", 40],
  ["Image generation", -40, "event", 190],
  ["Top-up", 500, "top_up", 900],
  ["Document summary", -12, "event", 3_600],
  ["Agent run", -25, "event", DAY],
  ["Welcome credits", 100, "grant", 3 * DAY],
];
const BUSY = [...Array.from({ length: 24 }, (_, at) => ["Chat reply", -8, "event", 10 + at * 5]), ["Agent run", -25, "event", 150], ...HISTORY.slice(1)];
const LONG = "Credits of the whole research and evaluation department for the second half of the year, which everyone in it spends from and which nobody but the head of the department may top up, as was agreed by all who were there when the budget was made, in a label of exactly as many characters as one may fear, that is 300!";

const GERMAN = {
  balance: "Guthaben",
  activity: "Verlauf",
  topUp: "Aufladen",
  credits: { one: "{n} Credit", other: "{n} Credits" },
  left: "noch {n}",
  low: "Wird knapp",
  held: "{n} vorgemerkt",
  csv: "Als CSV",
  more: "Mehr laden",
};
const ARABIC = {
  balance: "الرصيد",
  activity: "الحركات",
  topUp: "شحن",
  credits: { zero: "{n} رصيد", one: "رصيد واحد", two: "رصيدان", few: "{n} أرصدة", many: "{n} رصيدًا", other: "{n} رصيد" },
  left: "المتبقي {n}",
  low: "الرصيد منخفض",
  held: "محجوز {n}",
  csv: "تنزيل CSV",
  more: "المزيد",
};

const quote = (credits, available, more = {}) => ({ credits, allowed: true, reason: null, balance: available, available, covers: Math.floor(available / credits), ...more });
const readOnly = ["read"];

const FAMILIES = {
  "chargly-balance": [
    ["Connecting", { silent: true }],
    ["Live", { balance: 1160, scopes: readOnly }],
    ["With packs to buy", { balance: 1160, packs: PACKS }],
    ["Draining and filling", { balance: 1160, scopes: readOnly, alive: true }],
    ["Some held by a running agent", { balance: 1160, held: 25, packs: PACKS }],
    ["Low", { balance: 42, low: true, packs: PACKS }],
    ["Empty", { balance: 0, packs: PACKS }],
    ["All held", { balance: 25, held: 25, packs: PACKS }],
    ["In debt", { balance: -3, packs: PACKS }],
    ["Nine quadrillion", { balance: 9e15, packs: PACKS }],
    ["Connection lost", { balance: 1160, cut: true, packs: PACKS }],
    ["Signed out", { close: 4401 }],
    ["Origin not allowed", { close: 4403 }],
    ["A label of 300 characters", { balance: 1160, packs: PACKS }, { label: LONG }],
    ["German", { balance: 123456, low: true, packs: EUROS }, { lang: "de" }, GERMAN],
    ["Arabic", { balance: 123456, held: 25, packs: PACKS }, { lang: "ar", dir: "rtl" }, ARABIC],
    ["In a brand’s clothes", { balance: 1160, packs: PACKS }, { class: "branded" }],
  ],
  "chargly-price": [
    ["Connecting", { silent: true, slow: true }],
    ["Covered", { balance: 1160, quote: quote(8, 1160) }],
    ["One credit, once more", { balance: 1, quote: quote(1, 1) }],
    ["Free", { balance: 1160, quote: quote(0, 1160, { covers: null }) }],
    ["Short", { balance: 3, quote: quote(8, 3, { allowed: false, reason: "insufficient_credits" }) }],
    ["Spend limit reached", { balance: 1160, quote: quote(8, 1160, { allowed: false, reason: "spend_limit_reached", covers: 0 }) }],
    ["Wallet frozen", { balance: 1160, quote: quote(8, 1160, { allowed: false, reason: "wallet_frozen", covers: 0 }) }],
    ["No such event", { balance: 1160 }, { event: "chat.repply" }],
    ["Connection lost", { balance: 1160, cut: true, quote: quote(8, 1160) }],
    ["German", { balance: 123456, quote: quote(8, 123456) }, { lang: "de" }, GERMAN],
    ["Arabic", { balance: 1160, quote: quote(8, 1160) }, { lang: "ar", dir: "rtl" }, ARABIC],
    ["On its button", { balance: 1160, quote: quote(8, 1160) }, { button: "Ask" }],
    ["On its button, short", { balance: 3, quote: quote(8, 3, { allowed: false, reason: "insufficient_credits" }) }, { button: "Ask" }],
  ],
  "chargly-activity": [
    ["Loading", { silent: true, slow: true }],
    ["A quiet day", { balance: 515, moves: HISTORY }],
    ["Busy: actions of a kind in one row", { balance: 515, moves: BUSY, more: true }],
    ["Nothing yet", { balance: 0 }],
    ["The server cannot be read", { balance: 1160, broken: true }],
    ["Connection lost", { balance: 515, moves: HISTORY.slice(0, 2), cut: true }],
    ["German", { balance: 515, moves: HISTORY.slice(0, 4) }, { lang: "de" }, GERMAN],
    ["Arabic", { balance: 515, moves: HISTORY.slice(0, 4) }, { lang: "ar", dir: "rtl" }, ARABIC],
  ],
  "chargly-top-up": [
    ["Loading", { silent: true, slow: true }],
    ["Packs", { balance: 42, packs: PACKS }],
    ["No packs", { balance: 42 }],
    ["The server cannot be read", { balance: 42, broken: true }],
    ["Waiting for the payment", { balance: 42, packs: PACKS, checkout: { status: "open", credits: 500 } }],
    ["Paid, not yet confirmed", { balance: 42, packs: PACKS, checkout: { status: "processing", credits: 500 } }],
    ["Landed", { balance: 542, packs: PACKS, checkout: { status: "paid", credits: 500 } }],
    ["Payment failed", { balance: 42, packs: PACKS, checkout: { status: "failed", credits: 500 } }],
    ["German, in euros", { balance: 42, packs: EUROS }, { lang: "de" }, GERMAN],
  ],
};

const make = (tag, properties = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
};

function show(tag, customer, [title, script, attributes = {}, labels]) {
  const { button, ...rest } = attributes;
  const element = document.createElement(tag);
  const all = { server: SERVER, token: play(customer, script), ...(tag === "chargly-price" && { event: "chat.reply" }), ...rest };
  for (const [name, value] of Object.entries(all)) element.setAttribute(name, value);
  if (labels) element.labels = labels;
  // As after a checkout that took the tab and came back.
  if (script.checkout) sessionStorage.setItem(`chargly ${customer}`, "co_gallery");
  const shown = button ? make("button", { className: "price-button", type: "button", id: customer }, button, element) : element;
  if (button) element.setAttribute("for", customer);
  return make("figure", {}, make("figcaption", { textContent: title }), shown);
}

for (const [tag, states] of Object.entries(FAMILIES)) {
  const figures = states.map((state, at) => show(tag, `${tag}-${at}`, state));
  const grid = make("div", { className: "states" }, ...figures);
  document.getElementById("gallery").append(make("section", { className: "family" }, make("h2", { textContent: `<${tag}>` }), grid));
}

const alive = `chargly-balance-${FAMILIES["chargly-balance"].findIndex(([, script]) => script.alive)}`;
let turn = 0;
setInterval(() => {
  if (document.hidden) return;
  turn += 1;
  if (turn % 8) move(alive, ["Chat reply", -8]);
  else move(alive, ["Top-up", 56, "top_up"]);
}, 1500);

document.getElementById("choices").addEventListener("change", ({ target }) => {
  if (target.name === "scheme") document.documentElement.style.colorScheme = target.value;
  else document.documentElement.dir = target.value;
});
