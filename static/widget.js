/**
 * <chargly-balance>, <chargly-price>, <chargly-activity>, <chargly-top-up>: a customer's credits, live.
 * Types: widget.d.ts. Reasons: docs/architecture.md.
 *
 * Custom properties: --chargly-color, -background, -border, -muted, -accent, -on-accent, -low, -empty, -landed, -radius,
 *   -padding, -menu-background, -font; font-size scales all
 * Parts: base, label, status, flash, balance, held, button, menu, packs, pack, note, price, covers, rows, row, more, csv
 * States: low, empty, short; connecting, live, offline, error
 */

export const text = {
  balance: "Credits",
  activity: "Activity",
  topUp: "Top up",
  credits: { one: "{n} credit", other: "{n} credits" },
  free: "Free",
  left: "{n} left",
  missing: "{n} more needed",
  limit: "Limit reached",
  frozen: "Wallet frozen",
  held: "{n} held",
  low: "Running low",
  empty: "Out of credits",
  allHeld: "All held",
  connecting: "Connecting…",
  offline: "Reconnecting…",
  signIn: "Sign in again",
  unavailable: "Unavailable",
  loading: "Loading…",
  noPacks: "No packs are on sale.",
  noEntries: "Nothing yet.",
  times: "{words} × {n}",
  more: "Load more",
  csv: "Download CSV",
  failed: "That didn’t work.",
  retry: "Try again",
  opening: "Opening checkout…",
  waiting: "Waiting for payment…",
  stop: "Stop waiting",
  processing: "Payment received, credits follow.",
  unpaid: "The payment failed.",
  landed: { one: "{n} credit added.", other: "{n} credits added." },
};

const HOME = new URL(import.meta.url).origin;

const SILENCE_MS_MAX = 30_000;
const ANSWER_MS_MAX = 10_000;
const WAKE_SILENCE_MS_MAX = 25_000;
const PULSE_MS = 5_000;
const BACKOFF_MS_MIN = 250;
const BACKOFF_MS_MAX = 4_000;
const SLOW_BACKOFF_MS_MAX = 30_000;
const FAILURES_MAX = 6;
const OFFLINE_AFTER_MS = 2_000;
const LINGER_MS = 3_000;

const between = (low, high) => low + Math.random() * (high - low);

/* Connection */

function readToken(jwt) {
  try {
    const base64 = jwt.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt());
    const { sub, exp, scopes = [] } = JSON.parse(new TextDecoder().decode(bytes));
    return sub ? { jwt, customer: sub, expires: exp * 1000, scopes } : null;
  } catch {
    return null;
  }
}

const REFUSALS = { 4400: "bad_message", 4401: "token_expired", 4403: "origin_not_allowed" };

const sessions = new Map();

class Session {
  token = null;
  status = "connecting";
  #state = null;
  #members = new Set();
  #socket = null;
  #fetching = false;
  #wantsToken = true;
  #failures = 0;
  #fresh = true;
  #heardAt = 0;
  #code = 0;
  #opener;
  #timers = {};

  constructor(key, server, url) {
    Object.assign(this, { key, server, url });
    sessions.set(key, this);
  }

  join(member, token) {
    this.#members.add(member);
    this.#stop("end");
    if (token && (this.#wantsToken || !this.url)) this.take(token);
    else if (this.#wantsToken) this.#fetch();
    member.onStatus?.(this.status);
    if (this.#state) member.onChange?.({ ...this.#state, entries: [], gap: false });
  }

  leave(member) {
    if (this.#members.delete(member) && !this.#members.size) this.#after("end", LINGER_MS, () => this.#end());
  }

  wake() {
    if (this.url && (this.#wantsToken || this.token.expires < Date.now())) this.#fetch();
    const well = this.#socket ? Date.now() - this.#heardAt < WAKE_SILENCE_MS_MAX : this.#code === 4429;
    if (!well && !this.#wantsToken && !this.#timers.end) this.#lose(1006, "", 0);
    this.#tell("onWake");
  }

  sever() {
    if (this.#socket) this.#lose(1006);
  }

  take(token) {
    const last = this.token;
    const other = last && last.customer !== token.customer;
    if (this.#wantsToken || this.url || token.expires > last.expires) {
      const stuck = this.#wantsToken;
      const life = token.expires - Date.now();
      this.token = token;
      this.#wantsToken = false;
      if (other) {
        this.#state = null;
        this.status = "connecting";
      }
      const wait = life > 1_000 ? life * between(0.75, 0.85) : 60_000;
      if (this.url) this.#after("token", Math.min(wait, 2 ** 31 - 1), () => this.#fetch());
      if (stuck || other) this.#open();
      else if (this.#socket?.readyState === WebSocket.OPEN) this.#subscribe();
    }
    this.#tell("onStatus", this.status);
  }

  async #fetch() {
    if (this.#fetching) return;
    this.#fetching = true;
    this.#stop("token");
    let token;
    let status = "no answer";
    try {
      const options = { credentials: "same-origin", cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS_MAX) };
      const answer = await fetch(this.url, options);
      status = answer.status;
      token = answer.ok && readToken((await answer.json()).token);
    } catch {}
    this.#fetching = false;
    if (sessions.get(this.key) !== this) return;
    if (token) return this.take(token);
    if (status === 401 || status === 403) return this.#fail("signed_out", `${this.url} answered ${status}.`);
    if (!this.#failures) this.#report("token_unavailable", `${this.url} must answer {"token": "…"}. It gave ${status}.`);
    if (this.#wantsToken) this.#show("offline");
    this.#after("token", this.#wantsToken ? 1000 + this.#backoff() : between(15_000, 30_000), () => this.#fetch());
  }

  #backoff(slow = document.hidden) {
    const most = slow ? SLOW_BACKOFF_MS_MAX : BACKOFF_MS_MAX;
    return between(0, Math.min(most, BACKOFF_MS_MIN * 2 ** this.#failures++));
  }

  #open() {
    this.#drop();
    this.#stop("open");
    this.#fresh = true;
    this.#opener = this.token;
    this.#heardAt = Date.now();
    if (this.status === "error") this.#show("connecting");
    try {
      const socket = new WebSocket(`${this.server.replace(/^http/, "ws")}/v1/live`, "chargly.v1");
      socket.onopen = () => this.#subscribe();
      socket.onmessage = ({ data }) => this.#hear(data);
      socket.onclose = ({ code, reason }) => this.#lose(code, reason);
      this.#socket = socket;
      this.#expect(ANSWER_MS_MAX);
    } catch (error) {
      this.#fail("blocked", error.message);
    }
  }

  #subscribe() {
    const resume = this.#state && { epoch: this.#state.epoch, since: this.#state.version };
    this.#socket.send(JSON.stringify({ type: "subscribe", token: this.token.jwt, ...resume }));
    if (this.#fresh) this.#expect(ANSWER_MS_MAX);
  }

  #hear(data) {
    let message;
    try {
      message = JSON.parse(data) ?? {};
    } catch {
      return;
    }
    this.#heardAt = Date.now();
    if (!this.#fresh) {
      this.#failures = 0;
      this.#expect(SILENCE_MS_MAX);
    }
    const { type, prices, at } = message;
    if (type === "wallet" && message.customer_id === this.token.customer) this.#change(message);
    if (type === "heartbeat" && prices > this.#state?.prices) {
      this.#state = { ...this.#state, prices, at, entries: [], gap: false };
      this.#tell("onChange", this.#state);
    }
  }

  #change(state) {
    const last = this.#state;
    const sameEpoch = last?.epoch === state.epoch;
    if (!this.#fresh) {
      if (sameEpoch && state.version <= last.version) return;
      if (!sameEpoch) return this.#lose(1006);
    }
    if (sameEpoch) state.entries = state.entries.filter((entry) => entry.version > last.version);
    this.#fresh = false;
    this.#expect(SILENCE_MS_MAX);
    this.#state = state;
    this.#stop("offline");
    this.#show("live");
    this.#tell("onChange", state);
  }

  #lose(code, reason, wait) {
    this.#drop();
    if (code === 4401 && this.token !== this.#opener) code = 1006;
    this.#code = code;
    this.#fresh = true;
    this.#wantsToken = code === 4401;
    if (REFUSALS[code] && !(this.#wantsToken && this.url)) return this.#fail(REFUSALS[code], reason);
    if (!this.#timers.offline) this.#after("offline", OFFLINE_AFTER_MS, () => this.#show("offline"));
    if (this.#wantsToken) {
      if (this.#failures) this.#report(REFUSALS[code], reason);
      return this.#after("open", this.#failures ? this.#backoff(true) : this.#failures++, () => this.#fetch());
    }
    if (code === 1012) wait = between(100, 2000);
    if (code === 4429) wait = between(30_000, 60_000);
    this.#after("open", wait ?? this.#backoff(), async () => {
      const ask = { mode: "no-cors", signal: AbortSignal.timeout(ANSWER_MS_MAX) };
      const there = this.#failures < FAILURES_MAX || (await fetch(`${this.server}/healthz`, ask).catch(() => {}));
      if (this.#socket || this.#timers.open || this.#wantsToken || sessions.get(this.key) !== this) return;
      if (there) this.#open();
      else this.#lose(1006);
    });
  }

  #fail(code, message) {
    if (this.#fresh) {
      this.#drop();
      this.#wantsToken = true;
      this.#stop("open");
      this.#stop("offline");
      this.#show("error");
    }
    this.#report(code, message);
  }

  #report(code, message) {
    this.#tell("onError", { code, message });
  }

  #expect(ms) {
    this.#after("silence", ms, () => this.#lose(1006));
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    this.#stop("silence");
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  #end() {
    this.#drop();
    for (const name in this.#timers) this.#stop(name);
    sessions.delete(this.key);
  }

  #show(status) {
    if (status === this.status) return;
    this.status = status;
    this.#tell("onStatus", status);
    if (status === "offline" && !this.#state && this.#code === 1006) this.#report("unreachable", `${this.server} does not answer. Is it in the page's CSP?`);
  }

  #tell(hook, value) {
    this.#members.forEach((member) => {
      try {
        member[hook]?.(value);
      } catch (error) {
        reportError(error);
      }
    });
  }

  #after(name, ms, act) {
    this.#stop(name);
    this.#timers[name] = setTimeout(() => {
      delete this.#timers[name];
      act();
    }, ms);
  }

  #stop(name) {
    clearTimeout(this.#timers[name]);
    delete this.#timers[name];
  }
}

let pulseAt;

function listenForWaking() {
  if (pulseAt) return;
  const wake = () => document.hidden || sessions.forEach((session) => session.wake());
  for (const type of ["online", "pageshow", "visibilitychange"]) addEventListener(type, wake);
  addEventListener("offline", () => sessions.forEach((session) => session.sever()));
  pulseAt = Date.now();
  setInterval(() => {
    if (Date.now() - pulseAt > WAKE_SILENCE_MS_MAX) wake();
    pulseAt = Date.now();
  }, PULSE_MS);
}

export function connect({ server, token, tokenUrl, ...hooks }) {
  let session;
  let own;
  let closed;

  const handle = {
    server: "",
    get token() {
      return own?.expires > Date.now() ? own : (session?.token ?? null);
    },
    renew(jwt) {
      const next = readToken(jwt);
      if (!next) return fail("invalid_token", "This is no widget token.");
      if (!tokenUrl) own = next;
      join(next);
    },
    close() {
      closed = true;
      session?.leave(hooks);
    },
  };

  function join(first) {
    if (closed || !handle.server) return;
    const key = [handle.server, tokenUrl, own?.customer].join(" ");
    const next = sessions.get(key) ?? new Session(key, handle.server, tokenUrl);
    if (next === session) return next.take(first);
    session?.leave(hooks);
    session = next;
    session.join(hooks, first);
  }

  function fail(code, message) {
    if (!session) hooks.onStatus?.("error");
    hooks.onError?.({ code, message });
  }

  listenForWaking();
  try {
    if (!/^(https?:\/)?\//.test(server || HOME)) throw server;
    handle.server = new URL(server || HOME, document.baseURI).href.replace(/\/+$/, "");
    tokenUrl &&= new URL(tokenUrl, document.baseURI).href;
  } catch {}
  queueMicrotask(() => {
    if (closed || session) return;
    if (!handle.server) fail("invalid_address", `server="${server}" is no address.`);
    else if (tokenUrl) join(readToken(token));
    else if (token) handle.renew(token);
    else fail("missing_token", "Give a token-url.");
  });
  return handle;
}

/* Asking the server */

const NO_DECIMALS = /bif|clp|djf|gnf|jpy|kmf|krw|mga|pyg|rwf|vnd|vuv|xaf|xof|xpf/i;
const THREE_DECIMALS = /bhd|jod|kwd|omr|tnd/i;

export function formatMoney(amount, currency, locale) {
  const digits = NO_DECIMALS.test(currency) ? 0 : THREE_DECIMALS.test(currency) ? 3 : 2;
  return (amount / 10 ** digits).toLocaleString(locale, { style: "currency", currency, maximumFractionDigits: digits });
}

export async function call({ server, token }, path, body, type = "application/json") {
  const answer = await fetch(server + path, {
    method: body ? "POST" : "GET",
    headers: { Authorization: `Bearer ${token.jwt}`, Accept: type },
    body: body && new Blob([JSON.stringify(body)], { type }),
    credentials: "omit",
    signal: type === "text/csv" ? null : AbortSignal.timeout(ANSWER_MS_MAX),
  });
  if (!answer.ok) throw (await answer.json()).error ?? {};
  return type === "text/csv" ? answer.blob() : answer.json();
}

const ledgerOf = ({ token }) => `/v1/wallets/${encodeURIComponent(token.customer)}/entries`;

export async function openCheckout(handle, pack, { redirect } = {}) {
  const tab = redirect ? null : window.open("", "_blank");
  const back = !tab && { success_url: location.href, cancel_url: location.href };
  if (tab) {
    tab.opener = null;
  }
  try {
    const checkout = await call(handle, "/v1/checkouts", { customer_id: handle.token.customer, pack, ...back });
    if (!/^https?:/.test(checkout.url)) throw checkout;
    if (tab) tab.location.replace(checkout.url);
    else location.assign(checkout.url);
    return checkout;
  } catch (error) {
    tab?.close();
    throw error?.code ? error : { code: "failed", message: text.failed };
  }
}

/* Looks */

const STYLE = `
:host { all: initial; color-scheme: inherit; display: inline-block; max-width: 100%;
  font: 1rem/1.4 var(--chargly-font, system-ui, sans-serif); font-variant-numeric: tabular-nums; overflow-wrap: anywhere;
  --color: var(--chargly-color, light-dark(#1b1c1a, #f1f0ec));
  --background: var(--chargly-background, light-dark(#fff, #1b1c1a));
  --border: var(--chargly-border, light-dark(#e4e3de, #34352f));
  --muted: var(--chargly-muted, light-dark(#686a64, #a0a298));
  --accent: var(--chargly-accent, light-dark(#0a7457, #45c799));
  --low: var(--chargly-low, light-dark(#95590a, #e8b04b));
  --empty: var(--chargly-empty, light-dark(#b3261e, #ff8a80));
  --landed: var(--chargly-landed, var(--accent));
  --radius: var(--chargly-radius, .75em); color: var(--color); }
:host(:is(chargly-activity, chargly-top-up)) { display: block; }
:host(chargly-price) { font: inherit; color: var(--chargly-color, inherit); }
:host([hidden]), [hidden], .error .note { display: none !important; }
* { box-sizing: border-box; margin: 0; padding: 0; }
.card, .menu { padding: var(--chargly-padding, .75em 1em); color: var(--color); background: var(--background);
  border: 1px solid var(--border); border-radius: var(--radius); }
.side, .top, .pair { display: flex; align-items: center; justify-content: space-between; gap: 1em; }
.side { flex-wrap: wrap; gap: .5em 1em; }
.text { flex: auto; min-width: 10.5em; }
.text .top { width: 0; min-width: 100%; }
.label, .status { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.flash, .csv, .button { flex: none; }
small, .more { font-size: .8125em; color: var(--muted); }
.top { font-size: .8125em; }
.top * { font-size: 1em; }
b { font-weight: 560; }
.balance { font-size: 1.75em; font-weight: 640; line-height: 1.25; }
b, small, span { unicode-bidi: plaintext; }
.flash, .in .credits, .good { color: var(--landed); }
.low .status { color: var(--low); }
.empty :is(.status, .balance), .error .status, .bad { color: var(--empty); }
:is(.connecting, .offline, .error) .balance { opacity: .5; }
.covers { color: inherit; }
button { font: inherit; color: inherit; background: none; border: 1px solid #0000; border-radius: calc(var(--radius) * .75); cursor: pointer; }
.button { padding: .4em .8em; font-size: .875em; color: var(--chargly-on-accent, light-dark(#fff, #06241a)); background: var(--accent); }
.link { padding: 0; color: var(--accent); text-decoration: underline; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.said { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.menu { width: 17em; padding: 0 .5em .5em; background: var(--chargly-menu-background, var(--background));
  box-shadow: 0 12px 32px -8px #0004;
  position-area: block-end span-inline-start; position-try: flip-block, flip-inline; inset: auto; margin: 6px 0; }
ul { list-style: none; }
.pair { width: 100%; padding: .5em 0; text-align: start; }
.pair span { display: grid; justify-items: start; }
.pair span + span { justify-items: end; text-align: end; }
.row + .row { border-top: 1px solid var(--border); }
.pack { margin-top: .5em; padding: .5em .75em; border-color: var(--border); }
.pack:hover { border-color: var(--accent); }
.packs { display: flex; flex-wrap: wrap; gap: 0 .5em; }
.packs li { flex: 1 14em; }
:is(.note:not(:empty), .more) { display: block; padding-top: .5em; }
:disabled { opacity: .5; cursor: default; }
.unit { min-width: 9em; }
`;

const sheet = globalThis.CSSStyleSheet && new CSSStyleSheet();
sheet?.replaceSync(STYLE);

function make(tag, className, properties, ...children) {
  const node = Object.assign(document.createElement(tag), { className, part: className.split(" ")[0] }, properties);
  node.append(...children);
  return node;
}

const makeButton = (name, onclick, ...children) => make("button", name, { type: "button", onclick }, ...children);

const sum = (entries) => entries.reduce((total, { credits }) => total + credits, 0);

const makePair = (...columns) => columns.map(([name, line, small]) => make("span", "", {}, make("b", name, {}, line), make("small", "", {}, small)));

function put(node, words) {
  if (node.textContent !== words) node.textContent = words;
}

function languageOf(node) {
  const near = node.closest("[lang]");
  const { host } = node.getRootNode();
  if (!near && host) return languageOf(host);
  try {
    return Intl.getCanonicalLocales(near.lang.replace("_", "-"));
  } catch {
    return [];
  }
}

/* What all elements do */

const SAID_MS = 10_000;
const warned = new Set();

class View {
  state = null;
  status = "connecting";
  handle = null;
  labels = {};
  told = [];
  shape = "card";
  mood = "";
  #error = "unavailable";
  #saidTimer;
  #states;
  #customer;

  constructor(element) {
    this.element = element;
    const root = element.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [sheet];
    this.#states = element.attachInternals().states;
    this.label = make("small", "label");
    this.news = make("small", "status");
    this.said = make("span", "said", { role: "status" });
    this.top = make("div", "top", {}, this.label, this.news);
    this.base = make("div", "base", { role: "group" });
    this.note = make("small", "note", { role: "status", tabIndex: -1 });
    this.build();
    this.base.append(this.said);
    root.append(this.base);
  }

  start() {
    this.handle = connect({
      server: this.attribute("server"),
      token: this.attribute("token"),
      tokenUrl: this.attribute("token-url"),
      onChange: (state) => this.#change(state),
      onStatus: (status) => this.#connection(status),
      onError: (error) => this.fail(error),
      onWake: () => this.wake(),
    });
    this.render();
  }

  stop() {
    this.handle?.close();
    this.handle = null;
    this.#forget();
  }

  #forget(customer) {
    this.#customer = customer;
    this.element.state = this.state = null;
    this.mood = "";
    this.say("");
    this.clear();
  }

  clear() {
    this.packs?.clear();
  }

  ready() {
    this.packs?.wait();
  }

  wake() {
    this.packs?.check();
  }

  attribute(name) {
    return this.element.getAttribute(name);
  }

  changed(name, value) {
    if (name === "token" && value) this.handle.renew(value);
    else if (/^(server|token)/.test(name)) {
      this.stop();
      this.start();
    } else this.reword();
  }

  reword() {
    this.render();
    if (this.told[0]) this.tell(...this.told);
    if (this.packs?.list.firstChild) this.packs.load();
  }

  #change(state) {
    const last = this.state;
    this.element.state = this.state = state;
    this.take?.(state, last);
    if (!last || state.gap || state.entries.some(({ credits }) => credits > 0)) this.packs?.check();
    this.emit("change", { ...state });
  }

  #connection(status) {
    this.status = status;
    const customer = this.handle?.token?.customer;
    if (status === "error") this.#forget();
    else if (customer && customer !== this.#customer) {
      this.#forget(customer);
      this.ready();
    }
    this.render();
  }

  fail(error) {
    this.#error = /expired|signed/.test(error.code) ? "signIn" : "unavailable";
    const warning = `<${this.element.localName}> ${error.message} (${error.code})`;
    if (!warned.has(warning)) console.warn(warning);
    warned.add(warning);
    this.render();
    this.emit("error", error);
  }

  render() {
    const { base, status, state, mood } = this;
    this.language = languageOf(this.element);
    const phase = state || status === "error" ? status : "connecting";
    base.className = `base ${this.shape} ${phase} ${mood}`;
    base.ariaBusy = phase === "connecting";
    const name = this.words(this.name);
    base.ariaLabel = this.attribute("label") || name;
    put(this.label, this.attribute("label") ?? name);
    put(this.news, this.newsWords());
    this.#states.clear();
    for (const one of [phase, mood]) this.#states.add(one);
  }

  newsWords() {
    if (this.status === "error") return this.words(this.#error);
    return this.status === "offline" ? this.words(this.state ? "offline" : "connecting") : "";
  }

  number(value, options) {
    return value?.toLocaleString(this.language, options) ?? "";
  }

  words(name, values = {}) {
    let words = this.labels[name] ?? text[name] ?? name;
    if (words.other) words = words[new Intl.PluralRules(this.language).select(values.n)] ?? words.other;
    return `${words}`.replace(/\{(\w+)\}/g, (_, key) => this.number(values[key]));
  }

  say(words) {
    this.said.textContent = words;
    clearTimeout(this.#saidTimer);
    if (words) this.#saidTimer = setTimeout(() => this.say(""), SAID_MS);
  }

  emit(name, detail) {
    this.element.dispatchEvent(new CustomEvent(`chargly-${name}`, { detail, bubbles: true, composed: true }));
  }

  tell(name, told = {}) {
    const { note } = this;
    const { tone = "", label = "retry", act } = told;
    this.told = [name, told];
    const focused = note.matches(":focus-within");
    note.className = `note ${tone}`;
    note.replaceChildren(name ? this.words(name, told) : "", ...(name && act ? [" ", makeButton("link", act, this.words(label))] : []));
    if (focused) note.focus();
  }
}

/* Packs */

let kept;
try {
  kept = sessionStorage;
} catch {}

class Packs {
  list = make("ul", "packs", { role: "list" });
  #view;
  #key;
  #id;

  constructor(view) {
    this.#view = view;
  }

  async load() {
    if (!this.list.firstChild && !this.#view.told[0]) this.#view.tell("loading");
    try {
      const { packs } = await call(this.#view.handle, "/v1/packs");
      this.list.replaceChildren(...packs.map((pack) => make("li", "", {}, this.#item(pack))));
      if (/loading|failed|noPacks/.test(this.#view.told[0])) this.#view.tell(packs.length ? "" : "noPacks");
    } catch {
      if (!this.#id) this.#view.tell("failed", { tone: "bad", act: () => this.load() });
    }
  }

  #item(pack) {
    const view = this.#view;
    const credits = view.words("credits", { n: pack.credits });
    const price = formatMoney(pack.amount, pack.currency, view.language);
    return makeButton("pack pair", () => this.#buy(pack), ...makePair(["", credits, pack.name], ["", price, ""]));
  }

  async #buy(pack) {
    const view = this.#view;
    if (view.told[0] === "opening") return;
    view.tell("opening");
    const key = this.#key;
    try {
      const { id } = await openCheckout(view.handle, pack.code, { redirect: view.element.hasAttribute("redirect") });
      kept?.setItem(key, id);
      if (key === this.#key) this.wait(id);
    } catch (error) {
      if (key === this.#key) view.tell(error.code === "failed" ? error.code : error.message, { tone: "bad" });
    }
  }

  clear() {
    this.#key = this.#id = null;
    this.#view.tell();
  }

  wait(id) {
    this.#key = `chargly ${this.#view.handle.token.customer}`;
    this.#id = id ?? kept?.getItem(this.#key);
    this.#view.tell(this.#id && "waiting", { label: "stop", act: () => this.#end() });
    this.check();
  }

  async check() {
    const id = this.#id;
    const { handle } = this.#view;
    if (!id || !handle) return;
    const { status, credits } = await call(handle, `/v1/checkouts/${id}`).catch(() => ({}));
    if (id !== this.#id) return;
    if (status === "processing") this.#view.tell(status);
    if (/failed|expired/.test(status)) this.#end("unpaid", { tone: "bad" });
    if (status !== "paid") return;
    if (kept?.getItem(this.#key) !== null) this.#view.emit("landed", { id, credits });
    this.#end("landed", { tone: "good", n: credits });
  }

  #end(...told) {
    this.#id = null;
    kept?.removeItem(this.#key);
    this.#view.tell(...told);
  }
}

/* <chargly-balance> */

const COUNT_MS = 400;
const FLASH_MS = 2_600;

class Balance extends View {
  name = "balance";
  shape = "card side";
  #shown = null;
  #frame = 0;
  #flashTimer;

  build() {
    this.packs = new Packs(this);
    this.flash = make("b", "flash", { hidden: true });
    this.balance = make("span", "balance");
    this.held = make("small", "held");
    this.menu = make("div", "menu", { role: "group", popover: "auto" }, this.packs.list, this.note);
    this.menu.addEventListener("beforetoggle", ({ newState }) => {
      if (newState === "open") this.packs.load();
      else if (this.menu.matches(":focus-within")) this.button.focus();
    });
    this.button = make("button", "button", { type: "button", popoverTargetElement: this.menu });
    this.top.append(this.flash);
    this.base.append(make("div", "text", {}, this.top, this.balance, " ", this.held), this.button, this.menu);
  }

  clear() {
    super.clear();
    clearTimeout(this.#flashTimer);
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.flash.hidden = true;
  }

  take(state, last) {
    const was = last && this.mood;
    if (last) this.#count(this.#shown, state.balance);
    this.render();
    const { mood } = this;
    if (mood === "empty" && was !== mood) this.say(this.newsWords());
    if (mood && !was) {
      if (mood === "low") this.say(`${this.newsWords()}: ${this.words("left", { n: state.balance })}`);
      this.emit("low", { ...state });
    }
    const landed = state.entries.filter((entry) => entry.credits > 0);
    if (landed.length && !state.gap) this.#land(landed);
  }

  render() {
    const { state, status, balance, held, button, handle } = this;
    if (state) {
      const low = state.low || state.balance < parseFloat(this.attribute("low"));
      this.mood = state.available <= 0 ? "empty" : low ? "low" : "";
    }
    super.render();
    if (!state) put(balance, status === "error" ? "–" : "…");
    else if (!this.#frame) this.#put(state.balance);
    put(held, state?.held > 0 ? this.words("held", { n: state.held }) : "");
    const token = handle?.token;
    button.disabled = !token;
    button.hidden = status === "error" || (token && !token.scopes.includes("top_up"));
    put(button, (this.menu.ariaLabel = this.words("topUp")));
  }

  newsWords() {
    const { mood } = this;
    return super.newsWords() || (mood && this.words(mood === "empty" && this.state?.balance > 0 ? "allHeld" : mood));
  }

  #count(from, to) {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    if (document.hidden || from === to || matchMedia("(prefers-reduced-motion)").matches) return;
    let start;
    const step = (now) => {
      start ??= now;
      const progress = Math.min(1, (now - start) / COUNT_MS);
      this.#put(Math.round(to + (from - to) * (1 - progress) ** 3));
      this.#frame = progress < 1 ? requestAnimationFrame(step) : 0;
    };
    this.#frame = requestAnimationFrame(step);
  }

  #put(value) {
    this.#shown = value;
    put(this.balance, this.number(value));
  }

  #land(landed) {
    const n = sum(landed.filter(({ kind }) => kind === "top_up" || kind === "grant"));
    if (n) this.say(`${this.words("landed", { n })} ${this.words("left", { n: this.state.balance })}`);
    put(this.flash, `+${this.number(sum(landed))}`);
    this.flash.hidden = false;
    clearTimeout(this.#flashTimer);
    this.#flashTimer = setTimeout(() => {
      this.flash.hidden = true;
    }, FLASH_MS);
  }
}

/* <chargly-price> */

const SOON_MS = 1_000;
const LATER_MS = 5_000;
const disabled = new Map();

class Price extends View {
  name = "price";
  shape = "unit";
  quote;
  #asked = 0;
  #timer = null;

  build() {
    this.price = make("span", "price");
    this.covers = make("small", "covers");
    this.base.append(this.price, " ", this.covers);
  }

  clear() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#asked++;
    this.element.quote = this.quote = undefined;
    this.#button(false);
  }

  changed(name, value) {
    if (/event|model|quantity/.test(name)) {
      this.clear();
      this.#ask();
    }
    super.changed(name, value);
  }

  take(state, last) {
    const spent = last?.prices === state.prices && state.entries.length;
    if (last && !(spent && this.#timer)) this.#askIn(spent ? LATER_MS : between(0, SOON_MS));
    this.render();
  }

  #askIn(ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ask(), ms);
  }

  ready() {
    this.#ask();
  }

  wake() {
    if (this.mood) this.#ask();
  }

  async #ask() {
    const { handle } = this;
    clearTimeout(this.#timer);
    this.#timer = null;
    if (!handle?.token || this.status === "error") return;
    if (document.hidden && this.quote) return this.#askIn(LATER_MS);
    const asked = ++this.#asked;
    const action = {
      customer_id: handle.token.customer,
      event: this.attribute("event") ?? "",
      model: this.attribute("model"),
      quantity: Number(this.attribute("quantity") ?? 1),
    };
    const quote = await call(handle, "/v1/quote", action).catch((error) => ({ error }));
    if (asked !== this.#asked) return;
    const { error } = quote;
    if (error && !/unknown|request|forbidden/.test(error.code)) return this.#askIn(LATER_MS);
    this.element.quote = this.quote = error ? null : quote;
    if (error) this.fail(error);
    else this.emit("price", { ...quote });
    this.render();
  }

  render() {
    const { quote, state } = this;
    const n = quote?.credits;
    const available = state?.available ?? quote?.available;
    const refusal = quote?.reason !== "insufficient_credits" && quote?.reason;
    const short = Boolean(quote && (refusal || (n && available < n)));
    this.mood = short ? "short" : "";
    super.render();
    put(this.price, quote ? this.words(n ? "credits" : "free", { n }) : this.quote === null || this.status === "error" ? "–" : "…");
    put(this.covers, n || refusal ? `· ${this.#coversWords(refusal, available)}` : "");
    this.base.role = this.base.ariaLabel = null;
    this.#button(short);
  }

  #coversWords(refusal, available) {
    const { credits, covers, available: then } = this.quote;
    if (refusal) return this.words(refusal === "wallet_frozen" ? "frozen" : "limit");
    if (available < credits) return this.words("missing", { n: credits - available });
    const most = covers < Math.floor(then / credits) ? covers : Infinity;
    return this.words("left", { n: Math.min(most, Math.floor(available / credits)) });
  }

  #button(off) {
    const last = disabled.get(this);
    const next = off && this.element.getRootNode().getElementById?.(this.attribute("for"));
    disabled.delete(this);
    if (next) disabled.set(this, next);
    for (const button of [last, next]) if (button) button.disabled = [...disabled.values()].includes(button);
  }
}

/* <chargly-activity> */

const PAGE = 50;
const ENTRIES_MAX = 1_000;
const BUSY_MS = 60_000;
const keyOf = ({ kind, description, member }) => [kind, description, member].join();

class Activity extends View {
  name = "activity";
  #entries = [];
  #cursor = null;
  #pages = 1;
  #asked = 0;
  #soon;
  #frame = 0;

  build() {
    this.rows = make("ul", "rows", { role: "list" });
    this.more = makeButton("more link", () => this.#more());
    this.csv = makeButton("csv link", () => this.#save());
    this.top.append(this.csv);
    this.base.append(this.top, this.rows, this.note, this.more);
  }

  clear() {
    clearTimeout(this.#soon);
    this.#cursor = this.#soon = null;
    this.#entries = [];
    this.#pages = 1;
    this.#asked++;
    this.tell("loading");
    this.#draw();
  }

  take(state, last) {
    const other = last?.epoch !== state.epoch;
    if (other) this.clear();
    else this.#merge(state.entries);
    if (other) state.version ? this.#load() : this.tell();
    else if (state.gap) this.#soon ??= setTimeout(() => this.#load(), SOON_MS);
  }

  async #load(cursor = "") {
    if (!this.handle) return;
    if (!cursor) this.#cursor = this.#soon = null;
    const asked = ++this.#asked;
    const path = `${ledgerOf(this.handle)}?limit=${PAGE}${cursor && `&cursor=${cursor}`}`;
    const { entries, next_cursor: next, error } = await call(this.handle, path).catch((error) => ({ error }));
    if (asked !== this.#asked) return;
    if (error) return this.tell("failed", { tone: "bad", act: () => this.#load(cursor) });
    if (!cursor) this.#entries = this.#entries.filter(({ version }) => !(version <= entries[0]?.version));
    this.#cursor = next;
    this.#merge(entries);
    this.tell();
    if (next && this.#entries.length < this.#most) this.#load(next);
  }

  tell(name = this.#entries.length ? "" : "noEntries", told) {
    super.tell(name, told);
  }

  #merge(entries) {
    const all = new Map([...this.#entries, ...entries].map((entry) => [entry.version, entry]));
    this.#entries = [...all.values()].sort((one, other) => other.version - one.version);
    if (entries.length && !this.note.matches(".bad")) this.tell();
    if (this.#entries.length > ENTRIES_MAX * this.#pages + this.#most) {
      this.#pages = 1;
      this.#entries.length = PAGE;
      this.#load();
    }
    this.#draw();
  }

  #more() {
    this.#pages += 1;
    if (this.#cursor && this.#groups().length < this.#most) this.#load(this.#cursor);
    this.render();
  }

  get #most() {
    return (Math.abs(this.attribute("rows")) || 10) * this.#pages;
  }

  #groups() {
    const groups = [];
    let last;
    for (const entry of this.#entries) {
      const same = last && entry.credits < 0 && keyOf(entry) === keyOf(last);
      if (same && new Date(last.created_at) - new Date(entry.created_at) < BUSY_MS) groups.at(-1).push(entry);
      else groups.push([entry]);
      last = entry;
    }
    return groups;
  }

  wake() {
    this.#draw();
  }

  #draw() {
    if (!document.hidden) this.#frame ||= requestAnimationFrame(() => this.render());
  }

  render() {
    this.#frame = 0;
    super.render();
    const groups = this.#groups();
    const shown = groups.slice(0, this.#most);
    this.rows.replaceChildren(...shown.map((entries) => this.#row(entries)));
    const whole = shown.length === groups.length && !this.#cursor;
    if (whole && this.more.matches(":focus")) this.note.focus();
    this.more.hidden = whole;
    put(this.more, this.words("more"));
    put(this.csv, this.words("csv"));
    this.csv.hidden = !groups.length;
  }

  #row(entries) {
    const [{ description: words, created_at: created, balance }] = entries;
    const at = new Date(created);
    const today = at.toDateString() === new Date().toDateString();
    const when = at.toLocaleString(this.language, { dateStyle: today ? undefined : "medium", timeStyle: "short" });
    const n = entries.length;
    const credits = sum(entries);
    const what = ["", n > 1 ? this.words("times", { words, n }) : words, when];
    const change = ["credits", this.number(credits, { signDisplay: "exceptZero" }), this.words("left", { n: balance })];
    return make("li", `row pair ${credits > 0 ? "in" : ""}`, {}, ...makePair(what, change));
  }

  async #save() {
    try {
      const href = URL.createObjectURL(await call(this.handle, ledgerOf(this.handle), undefined, "text/csv"));
      make("a", "", { href, download: "credits.csv" }).click();
      setTimeout(() => URL.revokeObjectURL(href), ANSWER_MS_MAX);
      this.tell();
    } catch {
      this.tell("failed", { tone: "bad", act: () => this.#save() });
    }
  }
}

/* <chargly-top-up> */

class TopUp extends View {
  name = "topUp";

  build() {
    this.packs = new Packs(this);
    this.base.append(this.top, this.packs.list, this.note);
  }

  ready() {
    super.ready();
    this.packs.load();
  }
}

/* Elements */

function define(name, Inside, ...attributes) {
  if (!globalThis.customElements || customElements.get(name)) return;
  customElements.define(name, class extends HTMLElement {
    static observedAttributes = ["server", "token", "token-url", "label", "lang", ...attributes];
    #view = new Inside(this);

    get labels() {
      return this.#view.labels;
    }

    set labels(labels) {
      this.#view.labels = labels ?? {};
      this.#view.reword();
    }

    connectedCallback() {
      const { labels } = this;
      delete this.labels;
      this.labels = labels;
      this.#view.start();
    }

    disconnectedCallback() {
      this.#view.stop();
    }

    attributeChangedCallback(attribute, before, after) {
      if (this.#view.handle && before !== after) this.#view.changed(attribute, after);
    }
  });
}

define("chargly-balance", Balance, "low");
define("chargly-price", Price, "event", "model", "quantity", "for");
define("chargly-activity", Activity, "rows");
define("chargly-top-up", TopUp);
