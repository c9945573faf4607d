/** The demo page: a wallet by Chargly's own elements, and around them a chart, some facts and actions to click. */

import { call, connect } from "/static/widget.js";
import { refreshAutoTopUp } from "/static/demo-auto-top-up.js";
import { BalanceChart } from "/static/demo-chart.js";

const HISTORY_MS = 5 * 60_000; // what the chart shows
const HISTORY_PAGES_MAX = 20;
const PAGE_LIMIT = 100;
const LEDGER_MAX = 3000;
const RATE_WINDOW_MS = 60_000;
const REFRESH_MS = 5000;
const SAMPLES_MAX = 9;
const REMEMBERED_MAX = 200;

const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");

function make(tag, className = "", words = "", children = []) {
  const node = document.createElement(tag);
  node.className = className;
  node.append(words, ...children);
  return node;
}

/* ---------- The wallet ---------- */

let state = null;
let clockOffset = 0;
let ledger = []; // newest first

const now = () => Date.now() + clockOffset;
const wallet = connect({ tokenUrl: "/demo/token", onChange: change });

function change(next) {
  const [first, restored] = [!state, state && state.epoch !== next.epoch];
  if (first || restored || next.gap || !onlySpent(next, state.version)) refreshAutoTopUp();
  state = next;
  // The first state's time is that of the last entry, however long ago.
  if (!first && next.entries.length) clockOffset = Date.parse(next.at) - Date.now();
  if (restored) ledger = [];
  if (first || restored || next.gap) loadHistory();
  merge(next.entries);
  afterPaint(() => next.entries.forEach((entry) => painted(entry.id)));
  renderActions();
}

/** Whether all that happened since a version is actions: entries of settings raise the version and are not shown. */
function onlySpent({ version, entries }, since) {
  return version - since === entries.length && entries.every((entry) => entry.kind === "event");
}

function merge(entries) {
  const known = new Set(ledger.map((entry) => entry.version));
  const fresh = entries.filter((entry) => !known.has(entry.version)).map((entry) => ({ ...entry, at: Date.parse(entry.created_at) }));
  if (fresh.length) ledger = [...fresh, ...ledger].sort((a, b) => b.version - a.version).slice(0, LEDGER_MAX);
  schedule();
}

/** Page by page until the chart is full, or until what is known already. */
async function loadHistory() {
  try {
    let next = "";
    for (let pages = 0; pages < HISTORY_PAGES_MAX; pages += 1) {
      const page = await entriesAfter(next);
      const oldest = page.entries.at(-1);
      const known = ledger.some((entry) => entry.version === oldest?.version);
      merge(page.entries);
      if (known) return;
      next = page.next_cursor;
      if (!next || Date.parse(oldest.created_at) < now() - HISTORY_MS) return;
    }
  } catch {
    setTimeout(loadHistory, REFRESH_MS);
  }
}

function entriesAfter(place) {
  const query = new URLSearchParams({ limit: PAGE_LIMIT, ...(place && { cursor: place }) });
  return call(wallet, `/v1/wallets/${encodeURIComponent(wallet.token.customer)}/entries?${query}`);
}

/* ---------- One drawing a frame ---------- */

let scheduled = false;
const chart = new BalanceChart($("chart"), $("chart-span"), () => schedule());

function schedule() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    renderFacts();
    chart.draw(points(), now());
  });
}

function points() {
  return ledger.map(({ at, balance, credits, kind }) => ({ at, balance, credits, landed: kind === "top_up" || kind === "grant" })).reverse();
}

/** Run once the browser has painted what this frame changes. */
function afterPaint(act) {
  requestAnimationFrame(() => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = act;
    port2.postMessage(null);
  });
}

/* ---------- Facts ---------- */

const clickedAt = new Map();
const paintedAt = new Map();
const samples = [];

function renderFacts() {
  if (!state) return;
  const since = now() - RATE_WINDOW_MS;
  const spent = ledger.filter((entry) => entry.kind === "event" && entry.at >= since).reduce((sum, entry) => sum - entry.credits, 0);
  $("rate").textContent = number.format(spent);
  $("runway").textContent = runway(spent);
}

/** Whether no action can be paid for. */
function broke() {
  return state && actions.length > 0 && actions.every((action) => action.credits > state.available);
}

function runway(perMinute) {
  if (state.available <= 0 || broke()) return "until the next top-up";
  if (!perMinute) return "as long as nobody spends";
  const minutes = state.available / perMinute;
  if (minutes < 1) return "less than a minute";
  if (minutes < 90) return `about ${Math.round(minutes)} min`;
  return minutes < 2880 ? `about ${Math.round(minutes / 60)} h` : `about ${Math.round(minutes / 1440)} days`;
}

/** The answer to the click and the push with its entry race; whichever comes second makes the sample. */
function clicked(id, at) {
  remember(clickedAt, id, at);
  sample(id);
}

function painted(id) {
  remember(paintedAt, id, performance.now());
  sample(id);
}

function remember(times, id, at) {
  times.set(id, at);
  if (times.size > REMEMBERED_MAX) times.delete(times.keys().next().value);
}

function sample(id) {
  if (!clickedAt.has(id) || !paintedAt.has(id)) return;
  samples.unshift(paintedAt.get(id) - clickedAt.get(id));
  samples.length = Math.min(samples.length, SAMPLES_MAX);
  clickedAt.delete(id);
  const sorted = [...samples].sort((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)];
  const latest = make("b", "", `${Math.round(samples[0])} ms`);
  const usual = make("span", "faint", samples.length > 2 ? ` · median ${Math.round(median)}` : "");
  $("latency").replaceChildren(latest, usual);
}

/* ---------- Actions ---------- */

let actions = [];

function buildActions(list) {
  if (list.length === actions.length && list.every((action, at) => action.event === actions[at].event && action.credits === actions[at].credits)) return;
  actions = list.map((action) => ({ ...action, ...actionNodes(action) }));
  $("action-list").replaceChildren(...actions.map((action) => action.item));
  renderActions();
}

function actionNodes(action) {
  const hint = make("span", "blurb");
  const price = document.createElement("chargly-price");
  price.setAttribute("token-url", "/demo/token");
  price.setAttribute("event", action.event);
  const button = make("button", "", "", [make("b", "", action.label), hint, price]);
  button.type = "button";
  button.addEventListener("click", (event) => run(action, event.timeStamp));
  return { button, hint, item: make("li", "action", "", [button]) };
}

function renderActions() {
  if (!state) return;
  for (const { button, hint, ...action } of actions) {
    const short = action.credits > state.available;
    button.setAttribute("aria-disabled", String(short));
    const words = short ? `Needs ${number.format(action.credits)}, you have ${number.format(Math.max(0, state.available))}` : action.blurb;
    if (hint.textContent !== words) hint.textContent = words;
  }
  if (actions.every((action) => action.credits <= state.available)) notice();
  renderTraffic();
}

async function run(action, at) {
  if (action.credits > (state?.available ?? Infinity)) return notice(shortOf(action), true);
  try {
    const answer = await fetch("/demo/actions", request("POST", { event: action.event }));
    const body = await answer.json();
    if (answer.ok) clicked(body.id, at);
    else if (answer.status === 402) notice(shortOf(action), true);
    else notice(body.error?.message ?? "That didn’t go through. Nothing was charged.");
  } catch {
    notice("The server can’t be reached just now. Nothing was charged.");
  }
}

const request = (method, body) => ({ method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
const shortOf = (action) => `${action.label} needs ${number.format(action.credits)} credits and ${number.format(Math.max(0, state.available))} are left. `;

function notice(words = "", invite = false) {
  const link = make("a", "", "Top up to go on.");
  link.href = "#packs";
  $("notice").replaceChildren(words, ...(invite ? [link] : []));
  $("notice").hidden = !words;
}

/* ---------- Agent traffic and the page's own state ---------- */

let autoplay = { running: false, speed: "normal" };
let autoplayTouched = 0;

async function loadState() {
  const asked = performance.now();
  try {
    const demo = await (await fetch("/demo/state")).json();
    $("product").textContent = $("preview-app").textContent = demo.name;
    $("version").textContent = demo.version;
    $("sandbox").hidden = demo.stripe !== "sandbox";
    for (const spot of document.querySelectorAll("[data-server]")) spot.textContent = demo.server;
    buildActions(demo.actions);
    if (asked > autoplayTouched) renderAutoplay(demo.autoplay);
  } catch {
    // The balance says itself that it is reconnecting; this is asked again in five seconds.
  }
}

function renderAutoplay(wanted) {
  const { running, speed } = (autoplay = wanted);
  $("autoplay").setAttribute("aria-checked", String(running));
  renderTraffic();
  for (const radio of document.querySelectorAll('[name="speed"]')) radio.checked = radio.value === speed;
}

function renderTraffic() {
  const working = broke() ? "Out of credits: agents wait for a top-up" : "Agents at work, spending by themselves";
  const words = autoplay.running ? working : "Paused: only you are spending";
  if ($("autoplay-note").textContent !== words) $("autoplay-note").textContent = words;
}

async function setAutoplay(change) {
  const before = autoplay;
  const wanted = { ...before, ...change };
  renderAutoplay(wanted);
  autoplayTouched = Infinity;
  try {
    const answer = await fetch("/demo/autoplay", request("PUT", wanted));
    if (!answer.ok) throw new Error(answer.statusText);
    renderAutoplay(await answer.json());
  } catch {
    renderAutoplay(before);
    notice("The agents did not hear that. Please try again.");
  }
  autoplayTouched = performance.now();
}

$("autoplay").addEventListener("click", () => setAutoplay({ running: !autoplay.running }));
for (const radio of document.querySelectorAll('[name="speed"]')) {
  radio.addEventListener("change", () => setAutoplay({ speed: radio.value }));
}

/* ---------- Snippets ---------- */

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText($(button.dataset.copy).textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren($(button.dataset.copy));
      button.textContent = "Selected";
    }
    setTimeout(() => (button.textContent = "Copy"), 1600);
  });
}

/* ---------- Running ---------- */

for (const spot of document.querySelectorAll("[data-server]")) spot.textContent = location.origin;
loadState();
setInterval(() => document.hidden || loadState(), REFRESH_MS);
setInterval(() => document.hidden || schedule(), 1000);
document.addEventListener("visibilitychange", () => document.hidden || (loadState(), refreshAutoTopUp()));
