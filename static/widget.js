/**
 * <chargly-balance>: a customer's credit balance, live, in any page.
 *
 *   <script type="module" src="https://credits.example.com/static/widget.js"></script>
 *   <chargly-balance token-url="/chargly-token"></chargly-balance>
 *
 * Attributes
 *   server     where Chargly runs; by default the origin this file came from
 *   token      a widget token; setting another one renews the session in place
 *   token-url  GET here answers {"token": "…"}; asked for the first token and, before one ends, for the
 *              next; cookies travel only to the page's own origin
 *   label      the caption, "Credits" by default
 *   low        a balance below this number is low, besides what the wallet itself calls low
 *
 * Custom properties
 *   --chargly-color, --chargly-background, --chargly-border, --chargly-muted, --chargly-accent,
 *   --chargly-on-accent, --chargly-low, --chargly-empty, --chargly-landed, --chargly-radius, --chargly-padding,
 *   --chargly-menu-background, --chargly-font; the element's own font-size scales everything
 *
 * Parts: base, label, status, flash, balance, held, button, menu, pack, note
 * States: :state(low), :state(empty), :state(offline), :state(error)
 *
 * Events (they bubble and leave shadow trees)
 *   chargly-change  detail: the whole state as the server sent it, with the entries since the last one
 *   chargly-low     detail: the state; once for each fall below the line, and at load when already there
 *   chargly-error   detail: {code, message}
 *
 * Headless: connect({server, token, tokenUrl, onChange, onStatus, onError}) → {token, renew(token), close()};
 * openCheckout(handle, pack) sells a pack, call(handle, path) asks the server, formatMoney(amount, currency) says a
 * price. Assign to the exported `text` to translate. One file, no dependency, no build.
 */

export const text = {
  label: "Credits",
  topUp: "Top up",
  held: (credits) => `${credits} held`,
  low: "Running low",
  empty: "Out of credits",
  allHeld: "All held",
  connecting: "Connecting…",
  offline: "Reconnecting…",
  signIn: "Sign in again",
  unavailable: "Unavailable",
  packs: "Choose a pack",
  credits: (credits) => `${credits} credits`,
  loading: "Loading packs…",
  noPacks: "No packs are on sale right now.",
  opening: "Opening checkout…",
  opened: "Checkout opened in a new tab.",
  failed: "That didn’t work. Please try again.",
  nowLow: (credits) => `Running low: ${credits} credits left.`,
  nowEmpty: "Out of credits.",
  landed: (credits, balance) => `${credits} credits added. Balance ${balance}.`,
  lost: "Connection lost. The balance may be out of date.",
  back: "Connected again.",
};

const HOME = new URL(import.meta.url).origin;

const SILENCE_MS_MAX = 45_000; // the server speaks at least every 20 s
const ANSWER_MS_MAX = 10_000;
const WAKE_SILENCE_MS_MAX = 25_000;
const BACKOFF_MS_MIN = 250;
const BACKOFF_MS_MAX = 15_000;
const TOKEN_BACKOFF_MS_MAX = 60_000;
const STABLE_MS = 5_000;
const OFFLINE_AFTER_MS = 2_000;
const LOST_AFTER_MS = 8_000;
const LINGER_MS = 3_000;
const COUNT_MS = 400;
const FLASH_MS = 2_600;
const TIMEOUT_MS_MAX = 2 ** 31 - 1;

const ignore = () => {};
const between = (low, high) => low + Math.random() * (high - low);
const backoff = (attempt, max) => Math.random() * Math.min(max, BACKOFF_MS_MIN * 2 ** attempt);

/* ---------- Tokens ---------- */

/** What a page may know of its own token; the server alone checks it. Null where it is no token. */
function readToken(jwt) {
  try {
    const base64 = jwt.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    const { sub, exp, scopes = [] } = JSON.parse(new TextDecoder().decode(bytes));
    if (!sub) return null;
    return { jwt, customer: sub, expires: exp * 1000, scopes: [scopes].flat().join(" ").split(" ") };
  } catch {
    return null;
  }
}

/** One token URL, however many elements use it: fetches, renews before the end, retries. */
class TokenSource {
  static all = new Map();

  static at(url) {
    if (!this.all.has(url)) this.all.set(url, new TokenSource(url));
    return this.all.get(url);
  }

  #url;
  #users = new Set();
  #latest = null;
  #asking = false;
  #failures = 0;
  #timer;

  constructor(url) {
    this.#url = url;
  }

  join(user) {
    this.#users.add(user);
    if (this.#latest?.expires > Date.now()) user.use(this.#latest.jwt);
    else this.refresh();
  }

  leave(user) {
    this.#users.delete(user);
    if (this.#users.size) return;
    clearTimeout(this.#timer);
    TokenSource.all.delete(this.#url);
  }

  wake() {
    if (this.#failures) this.refresh();
  }

  async refresh() {
    if (this.#asking) return;
    this.#asking = true;
    clearTimeout(this.#timer);
    const [token, status] = await this.#fetch();
    this.#asking = false;
    if (token) this.#accept(token);
    else this.#fail(status);
  }

  async #fetch() {
    try {
      const answer = await fetch(this.#url, {
        credentials: "same-origin",
        cache: "no-store",
        signal: AbortSignal.timeout?.(ANSWER_MS_MAX),
      });
      return [answer.ok && readToken((await answer.json()).token), answer.status];
    } catch {
      return [null, 0];
    }
  }

  #accept(token) {
    this.#failures = 0;
    this.#latest = token;
    const life = token.expires - Date.now();
    // A token that seems over on arrival means a wrong clock here: the server will say when it really ends.
    const wait = life > 0 ? Math.max(life - 60_000, life * 0.8) * between(0.95, 1) : 60_000;
    this.#again(wait);
    for (const user of [...this.#users]) user.use(token.jwt);
  }

  #fail(status) {
    const signedOut = status === 401 || status === 403;
    if (this.#failures++ === 0 || signedOut) {
      const error = signedOut
        ? { code: "signed_out", message: "The page's token URL refused: the visitor has to sign in again." }
        : { code: "token_unavailable", message: "No token came from the page's token URL; trying again." };
      for (const user of [...this.#users]) user.fail(error, signedOut);
    }
    if (!signedOut) this.#again(1000 + backoff(this.#failures, TOKEN_BACKOFF_MS_MAX));
  }

  #again(ms) {
    if (!this.#users.size) return;
    this.#timer = setTimeout(() => this.refresh(), Math.min(ms, TIMEOUT_MS_MAX));
  }
}

/* ---------- Connection ---------- */

const REFUSALS = {
  4400: { code: "bad_message", message: "The server did not accept this widget's message; the versions may not match." },
  4401: { code: "token_expired", message: "The token is no longer valid and there is no token-url to ask for another." },
  4403: { code: "origin_not_allowed", message: "The server does not allow this origin; see CHARGLY_ALLOWED_ORIGINS." },
};

/** The one socket of a (server, customer), shared by all who look at that wallet. */
class Link {
  static all = new Map();

  static at(server, customer) {
    const key = `${server} ${customer}`;
    if (!this.all.has(key)) this.all.set(key, new Link(key, server, customer));
    return this.all.get(key);
  }

  status = "connecting";
  state = null;
  #server;
  #customer;
  #members = new Set();
  #token = null;
  #socket = null;
  #wantsToken = false;
  #refusals = 0;
  #attempt = 0;
  #expectsTruth = false;
  #heardAt = 0;
  #liveAt = 0;
  #timers = {};

  constructor(key, server, customer) {
    this.key = key;
    this.#server = server;
    this.#customer = customer;
  }

  join(member, token) {
    this.#members.add(member);
    this.#stop("linger");
    this.offer(token);
    if (this.state) member.onChange({ ...this.state, entries: [], gap: false });
    member.onStatus(this.status);
  }

  leave(member) {
    this.#members.delete(member);
    if (!this.#members.size) this.#after("linger", LINGER_MS, () => this.#end());
  }

  /** Take a token unless the present one lasts longer. */
  offer(token) {
    const stuck = this.#wantsToken || this.status === "error";
    if (this.#token?.jwt === token.jwt && !this.#wantsToken) return;
    if (!stuck && this.#token?.expires > token.expires) return;
    this.#token = token;
    this.#wantsToken = false;
    if (this.open) this.#subscribe();
    else if (stuck || !this.#socket) this.#reopen(this.#refusals > 1 ? backoff(this.#refusals + 2, BACKOFF_MS_MAX) : 0);
  }

  get open() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  wake() {
    if (this.#wantsToken || this.status === "error" || this.#timers.linger) return;
    const open = this.#socket && this.#socket.readyState <= WebSocket.OPEN;
    if (!open || Date.now() - this.#heardAt > WAKE_SILENCE_MS_MAX) this.#lose(1006, 0);
  }

  sever() {
    if (this.#socket) this.#lose(1006);
  }

  #open() {
    if (!this.#token) return;
    this.#drop();
    this.#heardAt = Date.now();
    try {
      const socket = new WebSocket(`${this.#server.replace(/^http/, "ws")}/v1/live`, "chargly.v1");
      this.#socket = socket;
      socket.onopen = () => this.#subscribe();
      socket.onmessage = ({ data }) => this.#hear(data);
      socket.onclose = ({ code }) => this.#lose(code);
      this.#expect(ANSWER_MS_MAX);
    } catch (error) {
      this.refuse({ code: "blocked", message: `The page may not open a connection to ${this.#server}: ${error.message}` });
    }
  }

  #subscribe() {
    const resume = this.state && { epoch: this.state.epoch, since: this.state.version };
    this.#socket.send(JSON.stringify({ type: "subscribe", token: this.#token.jwt, ...resume }));
    if (this.#liveAt) return; // a renewal in place: what is shown stays true, whether or not it is answered
    this.#expectsTruth = true;
    this.#expect(ANSWER_MS_MAX);
  }

  #hear(data) {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return;
    }
    this.#heardAt = Date.now();
    if (!this.#expectsTruth) this.#expect(SILENCE_MS_MAX);
    if (message.type === "heartbeat") this.#reprice(message);
    if (message.type === "wallet" && message.customer_id === this.#customer) this.#take(message);
  }

  #take({ type: _, ...state }) {
    const last = this.state;
    const sameEpoch = last?.epoch === state.epoch;
    if (sameEpoch && !this.#expectsTruth && state.version <= last.version) return;
    // A renewal asks for the entries since a version that a push on its way may already have brought.
    if (sameEpoch) state.entries = state.entries.filter((entry) => entry.version > last.version);
    this.#expectsTruth = false;
    this.#refusals = 0;
    this.#expect(SILENCE_MS_MAX);
    this.state = state;
    this.#liveAt ||= Date.now();
    this.#stop("offline");
    this.#show("live");
    this.#tell("onChange", state);
  }

  #reprice({ prices, at }) {
    if (!this.state || prices === this.state.prices) return;
    this.state = { ...this.state, prices, at, entries: [], gap: false };
    this.#tell("onChange", this.state);
  }

  #lose(code, wait) {
    const lasted = this.#liveAt && Date.now() - this.#liveAt > STABLE_MS;
    if (lasted) this.#attempt = 0;
    this.#liveAt = 0;
    this.#drop();
    if (code === 4401) return this.#renew();
    if (REFUSALS[code]) return this.refuse(REFUSALS[code]);
    if (!this.#timers.offline && this.status !== "offline") {
      this.#after("offline", OFFLINE_AFTER_MS, () => this.#show("offline"));
    }
    if (wait === undefined) wait = this.#pause(code);
    this.#reopen(wait);
  }

  #pause(code) {
    if (code === 1012 && this.#attempt++ === 0) return between(100, 2000);
    if (code === 4429) return between(30_000, 60_000);
    return backoff(this.#attempt++, BACKOFF_MS_MAX);
  }

  #renew() {
    const sources = new Set([...this.#members].map((member) => member.source).filter(Boolean));
    if (!sources.size) return this.refuse(REFUSALS[4401]);
    this.#wantsToken = true;
    const wait = this.#refusals++ ? backoff(this.#refusals + 2, BACKOFF_MS_MAX) : 0;
    this.#after("offline", OFFLINE_AFTER_MS, () => this.#show("offline"));
    this.#after("open", wait, () => sources.forEach((source) => source.refresh()));
  }

  /** Give up until a token or the page's owner changes something. */
  refuse(error) {
    if (this.status === "error") return;
    this.#drop();
    this.#stop("open");
    this.#stop("offline");
    this.#show("error");
    this.#tell("onError", error);
  }

  #reopen(ms) {
    if (this.status === "error") this.#show("connecting");
    this.#after("open", ms, () => this.#open());
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
    if (socket.readyState <= WebSocket.OPEN) socket.close();
  }

  #end() {
    this.#drop();
    Object.keys(this.#timers).forEach((name) => this.#stop(name));
    Link.all.delete(this.key);
  }

  #show(status) {
    if (status === this.status) return;
    this.status = status;
    this.#tell("onStatus", status);
  }

  #tell(hook, value) {
    for (const member of [...this.#members]) member[hook](value);
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

let listening = false;

function listenForWaking() {
  if (listening) return;
  listening = true;
  const links = (act) => [...Link.all.values()].forEach(act);
  const wake = () => {
    if (document.hidden) return;
    TokenSource.all.forEach((source) => source.wake());
    links((link) => link.wake());
  };
  addEventListener("online", wake);
  addEventListener("pageshow", wake);
  document.addEventListener("visibilitychange", wake);
  // A browser may take half a minute to notice a dead socket; it knows at once that the network is gone.
  addEventListener("offline", () => links((link) => link.sever()));
}

const tidyServer = (server) => new URL(server || HOME, document.baseURI).href.replace(/\/+$/, "");

/**
 * Watch a wallet without any element. Calls `onChange(state)` with the whole state and the new entries,
 * `onStatus("connecting" | "live" | "offline" | "error")` and `onError({code, message})`.
 * `token` on the handle is the present one, read: {jwt, customer, expires, scopes}.
 */
export function connect({ server, token, tokenUrl, onChange = ignore, onStatus = ignore, onError = ignore }) {
  let link = null;
  let closed = false;
  const base = tidyServer(server);
  const member = { onChange, onStatus, onError, use, fail, source: null };
  const handle = { server: base, token: null, renew: use, close };

  function use(jwt) {
    if (closed) return;
    const next = readToken(jwt);
    if (!next) return fail({ code: "invalid_token", message: "This is not a widget token." }, true);
    const same = link && handle.token?.customer === next.customer;
    handle.token = next;
    if (same) {
      link.offer(next);
      return onStatus(link.status); // the scopes may be others
    }
    link?.leave(member);
    link = Link.at(base, next.customer);
    link.join(member, next);
  }

  function fail(error, final) {
    if (link && final && !link.open) return link.refuse(error);
    if (final && !link) onStatus("error");
    onError(error);
  }

  function close() {
    closed = true;
    link?.leave(member);
    member.source?.leave(member);
  }

  listenForWaking();
  queueMicrotask(() => {
    if (closed) return;
    if (tokenUrl) member.source = TokenSource.at(new URL(tokenUrl, document.baseURI).href);
    if (token) use(token);
    else if (member.source) member.source.join(member);
    else fail({ code: "missing_token", message: "Give the widget a token or a token-url." }, true);
  });
  return handle;
}

/* ---------- Buying ---------- */

// Stripe's minor units; browsers round some currencies (RSD, AFN …) that Stripe counts in hundredths.
const NO_DECIMALS = "bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf";
const THREE_DECIMALS = "bhd jod kwd omr tnd";

/** "$10" of 1000 minor units; `options` go to Intl.NumberFormat. */
export function formatMoney(amount, currency, locale, options = { trailingZeroDisplay: "stripIfInteger" }) {
  const code = currency.toLowerCase();
  const decimals = NO_DECIMALS.includes(code) ? 0 : THREE_DECIMALS.includes(code) ? 3 : 2;
  const format = { style: "currency", currency, minimumFractionDigits: decimals, maximumFractionDigits: decimals };
  return new Intl.NumberFormat(locale, { ...format, ...options }).format(amount / 10 ** decimals);
}

/** One call to the server; an error answer is thrown as its {code, message}. */
export async function call({ server, token }, path, body) {
  const answer = await fetch(server + path, {
    method: body ? "POST" : "GET",
    headers: { Authorization: `Bearer ${token.jwt}`, ...(body && { "Content-Type": "application/json" }) },
    body: body && JSON.stringify(body),
    credentials: "omit",
  });
  const json = await answer.json().catch(() => ({}));
  if (!answer.ok) throw json.error ?? { code: "failed", message: text.failed };
  return json;
}

/**
 * Sell a pack: call it inside a click, since the tab has to open before the first await.
 * Where pop-ups are blocked the checkout takes this tab. Gives the checkout.
 */
export async function openCheckout(handle, pack) {
  const tab = window.open("", "_blank");
  if (tab) {
    tab.opener = null;
    tab.document.title = tab.document.body.textContent = text.opening;
  }
  try {
    const checkout = await call(handle, "/v1/checkouts", { customer_id: handle.token.customer, pack });
    if (!/^https?:$/.test(new URL(checkout.url).protocol)) throw { code: "bad_url", message: text.failed };
    if (tab) tab.location.replace(checkout.url);
    else location.assign(checkout.url);
    return checkout;
  } catch (error) {
    tab?.close();
    throw error.code && error.message && !(error instanceof Error) ? error : { code: "failed", message: text.failed };
  }
}

/* ---------- Looks ---------- */

const STYLE = `
:host { all: initial; color-scheme: inherit; display: inline-block; max-inline-size: 100%;
  font: 400 1rem/1.4 var(--chargly-font, system-ui, sans-serif);
  --_color: #1b1c1a; --_background: #fff; --_border: #e4e3de; --_muted: #686a64; --_accent: #0a7457;
  --_on-accent: #fff; --_low: #95590a; --_empty: #b3261e; --_landed: #0a7457; }
:host([hidden]) { display: none; }
@supports (color: light-dark(red, red)) { :host {
  --_color: light-dark(#1b1c1a, #f1f0ec); --_background: light-dark(#fff, #1b1c1a);
  --_border: light-dark(#e4e3de, #34352f); --_muted: light-dark(#686a64, #a0a298);
  --_accent: light-dark(#0a7457, #45c799); --_on-accent: light-dark(#fff, #06241a);
  --_low: light-dark(#95590a, #e8b04b); --_empty: light-dark(#b3261e, #ff8a80);
  --_landed: light-dark(#0a7457, #45c799); } }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
.base { display: flex; align-items: center; gap: 1em; padding: var(--chargly-padding, .75em 1em);
  color: var(--chargly-color, var(--_color)); background: var(--chargly-background, var(--_background));
  border: 1px solid var(--chargly-border, var(--_border)); border-radius: var(--chargly-radius, .75em); }
.text { flex: 1; display: grid; gap: .05em; inline-size: 10.5em; min-inline-size: 0; }
.top { display: flex; justify-content: space-between; gap: .75em; font-size: .8125em; white-space: nowrap; }
.label, .held, .status { color: var(--chargly-muted, var(--_muted)); }
.status { overflow: hidden; text-overflow: ellipsis; }
.line { display: flex; align-items: baseline; gap: .5em; white-space: nowrap; }
.balance { font-size: 1.75em; font-weight: 640; line-height: 1.2; letter-spacing: -.022em;
  font-variant-numeric: tabular-nums; transition: opacity .2s; }
.held { font-size: .8125em; font-variant-numeric: tabular-nums; }
.balance, .flash { unicode-bidi: isolate; direction: ltr; }
.flash { color: var(--chargly-landed, var(--_landed)); font-weight: 640; font-variant-numeric: tabular-nums;
  animation: land .35s ease-out; }
.connecting .balance { min-inline-size: 3.4ch; border-radius: .2em; animation: wait 1.4s ease-in-out infinite alternate;
  background: color-mix(in srgb, currentColor 12%, transparent); }
.offline .balance, .error .balance { opacity: .5; }
.low .status { color: var(--chargly-low, var(--_low)); font-weight: 560; }
.empty .status, .error .status { color: var(--chargly-empty, var(--_empty)); font-weight: 560; }
.offline .status { color: var(--chargly-muted, var(--_muted)); font-weight: 400; }
.empty .balance { color: var(--chargly-empty, var(--_empty)); }
button { font: inherit; cursor: pointer; border: 1px solid transparent; }
.button { padding: .42em .8em; font-size: .875em; font-weight: 560; white-space: nowrap;
  border-radius: calc(var(--chargly-radius, .75em) * .75); color: var(--chargly-on-accent, var(--_on-accent));
  background: var(--chargly-accent, var(--_accent)); transition: filter .15s; }
.button:hover { filter: brightness(1.08); }
:focus-visible { outline: 2px solid var(--chargly-accent, var(--_accent)); outline-offset: 2px; }
.said { position: absolute; inline-size: 1px; block-size: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.menu { position: fixed; inset: auto; z-index: 2147483000; inline-size: 17em; max-inline-size: calc(100vw - 16px);
  margin: 0; padding: .375em; overflow: auto; font-size: .9375em; color: var(--chargly-color, var(--_color));
  background: linear-gradient(0deg, var(--_menu), var(--_menu)) var(--_background); border: 1px solid color-mix(in srgb, currentColor 14%, #0000);
  --_menu: var(--chargly-menu-background, var(--chargly-background, #0000));
  border-radius: var(--chargly-radius, .75em); box-shadow: 0 1px 2px #0001, 0 12px 32px -8px #0003; animation: land .14s ease-out; }
.pack { display: flex; justify-content: space-between; align-items: center; gap: 1em; inline-size: 100%; padding: .6em .7em;
  text-align: start; color: inherit; background: none; border-radius: calc(var(--chargly-radius, .75em) * .7); }
.pack span { display: grid; line-height: 1.3; }
.pack b { font-weight: 560; }
.pack small { font-size: .85em; color: var(--chargly-muted, var(--_muted)); }
.pack:hover, .pack:focus { background: color-mix(in srgb, var(--chargly-accent, var(--_accent)) 11%, transparent); }
.pack:focus-visible { outline-offset: -2px; }
.pack[aria-disabled=true] { opacity: .5; cursor: default; }
.note { margin: 0; padding: .55em .7em; font-size: .9em; color: var(--chargly-muted, var(--_muted)); }
.note.bad { color: var(--chargly-empty, var(--_empty)); }
@keyframes land { from { opacity: 0; transform: translateY(.3em); } }
@keyframes wait { to { opacity: .45; } }
@media (prefers-reduced-motion: reduce) { * { animation: none !important; transition: none !important; } }
@media (forced-colors: active) { .button, .menu, .pack { border: 1px solid; } .pack:focus { outline: 2px solid Highlight; }
  .balance { forced-color-adjust: none; color: CanvasText !important; } }
`;

let sheet;

/** One stylesheet for all elements; needs no leave from a page's CSP. */
function styleSheet() {
  if (!sheet) (sheet = new CSSStyleSheet()).replaceSync(STYLE);
  return sheet;
}

function make(tag, part, properties = {}, children = []) {
  const node = Object.assign(document.createElement(tag), properties);
  if (part) {
    node.className = part;
    node.setAttribute("part", part);
  }
  node.append(...children);
  return node;
}

function languageOf(element) {
  for (let node = element; node; node = node.getRootNode().host) {
    const lang = node.closest("[lang]")?.lang;
    if (lang && Intl.NumberFormat.supportedLocalesOf(lang.replace("_", "-")).length) return lang.replace("_", "-");
  }
  return undefined;
}

/* ---------- Menu of packs ---------- */

class PackMenu {
  #host;
  #button;
  #handle;
  #say;
  #busy = false;
  #note = make("p", "note");
  #place = () => this.#position();
  #outside = (event) => {
    const path = event.composedPath();
    if (!path.includes(this.panel) && !path.includes(this.#button)) this.close();
  };

  constructor({ host, base, button, handle, say }) {
    this.#host = host;
    this.#button = button;
    this.#handle = handle;
    this.#say = say;
    this.panel = make("div", "menu", { hidden: true });
    this.panel.setAttribute("role", "menu");
    // The top layer keeps the menu whole inside headers that clip their overflow.
    this.panel.popover = "manual";
    this.panel.addEventListener("keydown", (event) => this.#key(event));
    this.panel.addEventListener("focusout", ({ relatedTarget }) => {
      if (relatedTarget && !this.panel.contains(relatedTarget) && relatedTarget !== button) this.close();
    });
    button.setAttribute("aria-haspopup", "menu");
    button.setAttribute("aria-expanded", "false");
    button.addEventListener("click", () => (this.panel.hidden ? this.open() : this.close()));
    button.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.close();
      if (event.key === "ArrowDown" && this.panel.hidden) {
        event.preventDefault();
        this.open();
      }
    });
    base.append(this.panel);
  }

  async open() {
    this.panel.setAttribute("aria-label", text.packs);
    this.#fill([], text.loading);
    this.panel.hidden = false;
    this.panel.showPopover?.();
    this.#button.setAttribute("aria-expanded", "true");
    document.addEventListener("pointerdown", this.#outside, true);
    addEventListener("scroll", this.#place, { capture: true, passive: true });
    addEventListener("resize", this.#place);
    this.#position();
    try {
      const { packs } = await call(this.#handle(), "/v1/packs");
      this.#fill(packs.map((pack) => this.#item(pack)), packs.length ? "" : text.noPacks);
    } catch (error) {
      this.#fill([], (error.code && error.message) || text.failed, true);
    }
    if (this.panel.hidden) return;
    this.#position();
    this.#items()[0]?.focus();
  }

  close({ refocus = false } = {}) {
    if (this.panel.hidden) return;
    this.panel.hidePopover?.();
    this.panel.hidden = true;
    this.#button.setAttribute("aria-expanded", "false");
    document.removeEventListener("pointerdown", this.#outside, true);
    removeEventListener("scroll", this.#place, { capture: true });
    removeEventListener("resize", this.#place);
    if (refocus) this.#button.focus();
  }

  #items() {
    return [...this.panel.querySelectorAll(".pack")];
  }

  #fill(items, note, bad = false) {
    this.panel.replaceChildren(...items, this.#note);
    this.#tell(note, bad);
  }

  #tell(note, bad = false) {
    this.#note.textContent = note;
    this.#note.hidden = !note;
    this.#note.className = bad ? "note bad" : "note";
    if (note) this.#say(note);
  }

  #item(pack) {
    const locale = languageOf(this.#host);
    const credits = text.credits(new Intl.NumberFormat(locale).format(pack.credits));
    const words = make("span", "", {}, [make("b", "", { textContent: credits }), make("small", "", { textContent: pack.name })]);
    const price = make("b", "", { textContent: formatMoney(pack.amount, pack.currency, locale) });
    const item = make("button", "pack", { type: "button", tabIndex: -1 }, [words, price]);
    item.setAttribute("role", "menuitem");
    item.addEventListener("click", () => this.#buy(pack));
    return item;
  }

  async #buy(pack) {
    if (this.#busy) return;
    this.#lock(true);
    this.#tell(text.opening);
    try {
      await openCheckout(this.#handle(), pack.code);
      this.#tell("");
      this.close({ refocus: true });
      this.#say(text.opened);
    } catch (error) {
      this.#tell(error.message, true);
    } finally {
      this.#lock(false);
    }
  }

  #lock(busy) {
    this.#busy = busy;
    for (const item of this.#items()) item.setAttribute("aria-disabled", String(busy));
  }

  #key(event) {
    const items = this.#items();
    const at = items.indexOf(this.panel.getRootNode().activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[event.key];
    if (event.key === "Escape" || event.key === "Tab") this.close({ refocus: true });
    else if (to !== undefined) items.at(to % items.length)?.focus();
    else return;
    if (event.key !== "Tab") event.preventDefault();
  }

  #position() {
    const gap = 6;
    const edge = 8;
    const anchor = this.#button.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = this.panel;
    const rtl = getComputedStyle(this.#host).direction === "rtl";
    const left = rtl ? anchor.left : anchor.right - width;
    const below = anchor.bottom + gap;
    const top = below + height > innerHeight - edge && anchor.top > height + gap ? anchor.top - gap - height : below;
    this.panel.style.left = `${Math.max(edge, Math.min(left, document.documentElement.clientWidth - width - edge))}px`;
    this.panel.style.top = `${top}px`;
  }
}

/* ---------- Element ---------- */

const calm = () => document.hidden || matchMedia("(prefers-reduced-motion: reduce)").matches;
const BLANK = "\u2007".repeat(4);

class CharglyBalance extends (globalThis.HTMLElement ?? class {}) {
  static observedAttributes = ["server", "token", "token-url", "label", "low"];

  #nodes;
  #states;
  #handle = null;
  #status = "connecting";
  #state = null;
  #error = "";
  #shown = null;
  #frame = 0;
  #wasLow = false;
  #wasEmpty = false;
  #lostTimer;
  #saidLost = false;
  #flashTimer;
  #menu;

  /** The last state the server sent, or null. */
  get state() {
    return this.#state;
  }

  connectedCallback() {
    this.#build();
    this.#start();
  }

  disconnectedCallback() {
    this.#stop();
  }

  attributeChangedCallback(name, before, after) {
    if (!this.isConnected || !this.#nodes || before === after) return;
    if (name === "label" || name === "low") return this.#render();
    if (name === "token" && after && this.#handle) return this.#handle.renew(after);
    this.#stop();
    this.#start();
  }

  #start() {
    try {
      this.#handle = connect({
        server: this.getAttribute("server"),
        token: this.getAttribute("token"),
        tokenUrl: this.getAttribute("token-url"),
        onChange: (state) => this.#change(state),
        onStatus: (status) => this.#connection(status),
        onError: (error) => this.#fail(error),
      });
    } catch {
      this.#connection("error");
      this.#fail({ code: "invalid_server", message: "The server attribute is no address." });
    }
  }

  #stop() {
    this.#menu.close();
    this.#handle?.close();
    this.#handle = null;
    clearTimeout(this.#lostTimer);
    clearTimeout(this.#flashTimer);
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#nodes.flash.hidden = true;
  }

  #build() {
    if (this.#nodes) return;
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [styleSheet()];
    try {
      this.#states = this.attachInternals().states;
    } catch {
      this.#states = null;
    }
    const label = make("span", "label");
    const status = make("span", "status");
    const flash = make("span", "flash", { hidden: true });
    const balance = make("span", "balance", { textContent: BLANK });
    const held = make("span", "held", { hidden: true });
    const button = make("button", "button", { type: "button", hidden: true });
    const live = make("span", "", { className: "said" });
    live.setAttribute("role", "status");
    live.setAttribute("aria-live", "polite");
    const top = make("div", "", { className: "top" }, [label, status, flash]);
    const line = make("div", "", { className: "line" }, [balance, held]);
    const base = make("div", "base", {}, [make("div", "", { className: "text" }, [top, line]), button, live]);
    base.setAttribute("role", "group");
    this.#nodes = { base, label, status, flash, balance, held, button, live };
    root.append(base);
    this.#menu = new PackMenu({ host: this, base, button, handle: () => this.#handle, say: (words) => this.#say(words) });
    this.#render();
  }

  #change(state) {
    const first = !this.#state;
    this.#state = state;
    const landed = state.entries.filter((entry) => entry.credits > 0);
    if (landed.length) this.#flash(landed);
    this.#count(first ? state.balance : this.#shown, state.balance);
    this.#render();
    this.#emit("chargly-change", { ...state });
    this.#crossings();
  }

  #crossings() {
    const { balance } = this.#state;
    const [low, empty] = [this.#isLow(), this.#isEmpty()];
    const [wasLow, wasEmpty] = [this.#wasLow, this.#wasEmpty];
    [this.#wasLow, this.#wasEmpty] = [low, empty];
    if (empty && !wasEmpty) this.#say(text.nowEmpty);
    else if (low && !wasLow) this.#say(text.nowLow(this.#number(balance)));
    if (low && !wasLow) this.#emit("chargly-low", { ...this.#state });
  }

  #isEmpty() {
    return this.#state?.available <= 0;
  }

  #isLow() {
    const line = this.getAttribute("low");
    return Boolean(this.#state?.low || this.#isEmpty() || (line && this.#state?.balance < Number(line)));
  }

  #connection(status) {
    this.#status = status;
    this.#error = status === "error" ? text.unavailable : "";
    clearTimeout(this.#lostTimer);
    if (status === "offline" && this.#state) {
      this.#lostTimer = setTimeout(() => {
        this.#saidLost = true;
        this.#say(text.lost);
      }, LOST_AFTER_MS);
    }
    if (status === "live" && this.#saidLost) {
      this.#saidLost = false;
      this.#say(text.back);
    }
    this.#render();
  }

  #fail(error) {
    if (this.#status === "error") {
      this.#error = /expired|signed_out/.test(error.code) ? text.signIn : text.unavailable;
      this.#say(this.#error);
      console.warn(`chargly-balance: ${error.message} (${error.code})`);
    }
    this.#render();
    this.#emit("chargly-error", error);
  }

  #render() {
    const { base, label, status, balance, held, button, flash } = this.#nodes;
    const state = this.#state;
    const mood = this.#isEmpty() ? "empty" : this.#isLow() ? "low" : "";
    const phase = state || this.#status === "error" ? this.#status : "connecting";
    base.className = `base ${phase} ${mood}`;
    base.setAttribute("aria-busy", String(phase === "connecting"));
    label.textContent = this.getAttribute("label") ?? text.label;
    base.setAttribute("aria-label", label.textContent);
    status.textContent = this.#statusText(mood);
    status.hidden = !flash.hidden && this.#status === "live";
    if (!state) balance.textContent = phase === "error" ? "–" : BLANK;
    held.hidden = !(state?.held > 0);
    if (state) held.textContent = text.held(this.#number(state.held));
    button.hidden = !this.#handle?.token?.scopes.includes("top_up") || this.#status === "error";
    button.textContent = text.topUp;
    for (const name of ["low", "empty", "offline", "error"]) this.#mark(name, mood === name || phase === name);
  }

  #statusText(mood) {
    if (this.#status === "error") return this.#error;
    if (this.#status === "offline") return this.#state ? text.offline : text.connecting;
    if (mood === "empty") return this.#state.balance > 0 ? text.allHeld : text.empty;
    return mood === "low" ? text.low : "";
  }

  #mark(name, on) {
    try {
      this.#states?.[on ? "add" : "delete"](name);
    } catch {
      this.#states = null; // browsers before :state() take only dashed names
    }
  }

  #count(from, to) {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    if (calm() || from === to || from === null) return this.#put(to);
    const start = performance.now();
    const step = (now) => {
      const progress = Math.min(1, Math.max(0, (now - start) / COUNT_MS));
      this.#put(Math.round(to + (from - to) * (1 - progress) ** 3));
      this.#frame = progress < 1 ? requestAnimationFrame(step) : 0;
    };
    this.#frame = requestAnimationFrame(step);
  }

  #put(value) {
    this.#shown = value;
    const shown = this.#number(value);
    if (this.#nodes.balance.textContent !== shown) this.#nodes.balance.textContent = shown;
  }

  #flash(landed) {
    const sum = (entries) => entries.reduce((total, entry) => total + entry.credits, 0);
    const bought = sum(landed.filter(({ kind }) => kind === "top_up" || kind === "grant"));
    if (bought) this.#say(text.landed(this.#number(bought), this.#number(this.#state.balance)));
    const { flash } = this.#nodes;
    flash.textContent = `+${this.#number(sum(landed))}`;
    flash.hidden = false;
    clearTimeout(this.#flashTimer);
    this.#flashTimer = setTimeout(() => {
      flash.hidden = true;
      this.#render();
    }, FLASH_MS);
  }

  #number(value) {
    return new Intl.NumberFormat(languageOf(this)).format(value);
  }

  #say(words) {
    this.#nodes.live.textContent = words;
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true }));
  }
}

if (globalThis.customElements && !customElements.get("chargly-balance")) {
  customElements.define("chargly-balance", CharglyBalance);
}
