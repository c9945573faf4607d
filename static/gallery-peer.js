/** Plays a server for the gallery: sockets and calls to SERVER are answered from a script, and leave the page never. */

export const SERVER = "https://gallery.invalid";

const wallets = new Map(); // customer → how its server behaves

const realFetch = window.fetch;
const NEVER = new Promise(() => {});
const seconds = (ago) => new Date(Date.now() - ago * 1000).toISOString();
const json = (value, status = 200) => new Response(JSON.stringify(value), { status, headers: { "Content-Type": "application/json" } });
const refusal = (code, message, status) => json({ error: { code, message } }, status);

/** Takes a customer's script and gives a token for it. */
export function play(customer, script) {
  wallets.set(customer, { customer, version: 1, sockets: new Set(), ...script });
  const claims = { sub: customer, exp: Date.now() / 1000 + 86_400, scopes: script.scopes ?? ["read", "top_up"] };
  return `gallery.${btoa(JSON.stringify(claims))}.none`;
}

/** Changes a wallet by entries, oldest first: [description, credits, kind]. */
export function move(customer, ...moves) {
  const wallet = wallets.get(customer);
  for (const [description, credits, kind = "event"] of moves) {
    wallet.balance += credits;
    wallet.version += 1;
    const entry = { id: `evt_${wallet.version}`, kind, description, credits, balance: wallet.balance, version: wallet.version, member: null, created_at: seconds(0) };
    wallet.fresh = [...(wallet.fresh ?? []), entry];
  }
  for (const socket of wallet.sockets) socket.push(wallet);
  wallet.fresh = [];
}

/** The ledger that a script tells: [description, credits, kind, seconds ago], newest first. */
function ledger({ balance = 0, moves = [] }) {
  let after = balance;
  return moves.map(([description, credits, kind = "event", ago = 0], at) => {
    const entry = { id: `evt_${at}`, kind, description, credits, balance: after, version: -at, member: null, created_at: seconds(ago) };
    after -= credits;
    return entry;
  });
}

class Socket {
  readyState = 0;

  constructor() {
    setTimeout(() => {
      this.readyState = 1;
      this.onopen?.();
    });
  }

  send(text) {
    const [, claims] = JSON.parse(text).token.split(".");
    this.wallet = wallets.get(JSON.parse(atob(claims)).sub);
    const { wallet } = this;
    if (wallet.silent) return;
    if (wallet.close) return setTimeout(() => this.onclose?.({ code: wallet.close, reason: "A state of the gallery." }));
    wallet.sockets.add(this);
    setTimeout(() => this.push(wallet));
    if (wallet.cut) setTimeout(() => this.cut(), 50);
  }

  push({ customer, balance = 0, held = 0, low = false, version, overdraft = 0, fresh = [] }) {
    const numbers = { balance, held, available: balance - held + overdraft, version, low };
    const rest = { entries: fresh, gap: false, prices: 1, at: seconds(0) };
    this.onmessage?.({ data: JSON.stringify({ type: "wallet", epoch: "gallery", customer_id: customer, ...numbers, ...rest }) });
  }

  cut() {
    this.wallet.silent = true;
    this.onclose?.({ code: 1006 });
  }

  close() {
    this.readyState = 3;
    this.wallet?.sockets.delete(this);
  }
}

async function answer(path, { headers, body, signal }) {
  const [, claims] = headers.Authorization.split(".");
  const wallet = wallets.get(JSON.parse(atob(claims)).sub);
  if (wallet.slow) return NEVER;
  if (wallet.broken) return refusal("internal", "Something went wrong.", 500);
  signal?.throwIfAborted();
  if (path === "/v1/packs") return json({ packs: wallet.packs ?? [] });
  if (path === "/v1/quote") return wallet.quote ? json(wallet.quote) : refusal("unknown_event", `“${JSON.parse(await body.text()).event}” has no price. Did you mean chat.reply?`, 404);
  if (path.startsWith("/v1/checkouts/")) return json(wallet.checkout);
  if (headers.Accept === "text/csv") return new Response("id,kind\n", { headers: { "Content-Type": "text/csv" } });
  return json({ entries: ledger(wallet), next_cursor: wallet.more ? "1" : null });
}

Object.assign(Socket, { CONNECTING: 0, OPEN: 1, CLOSING: 2, CLOSED: 3 });
window.WebSocket = Socket;
window.fetch = (url, options) => (String(url).startsWith(SERVER) ? answer(String(url).slice(SERVER.length).split("?")[0], options) : realFetch(url, options));
