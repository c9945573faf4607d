/**
 * Types of widget.js: four elements and a headless connection, for one customer's credits.
 *
 * Copy this file beside your code, as `widget.d.ts` next to wherever you import the module from; React's JSX is in
 * `widget.react.d.ts`. Credits are whole numbers; times are RFC 3339 in UTC.
 */

/* ---------- What the server sends ---------- */

/** One line of the customer's ledger that moved credits. */
export interface Entry {
  id: string;
  kind: "event" | "reversal" | "grant" | "top_up" | "refund" | "dispute" | "dispute_reversal" | "expiry" | "adjustment" | "void";
  /** Plain words, as one would say it to the customer. */
  description: string;
  /** Below zero they were spent. */
  credits: number;
  /** After this entry. */
  balance: number;
  held: number;
  available: number;
  /** Rises by entry within one epoch. */
  version: number;
  created_at: string;
  event: string | null;
  model: string | null;
  member: string | null;
  quantity: number | null;
}

/** A wallet as it stands, whole in every message. */
export interface WalletState {
  customer_id: string;
  /** What the customer owns. Show this large. */
  balance: number;
  /** Set apart by agents that are still at work. */
  held: number;
  /** What can be spent: the balance without what is held, with any overdraft. */
  available: number;
  version: number;
  /** Names the ledger: another one means that the database was restored or replaced. */
  epoch: string;
  /** Below the wallet's own threshold. */
  low: boolean;
  /** Those since the message before, oldest first, 20 at most. */
  entries: Entry[];
  /** There were more than 20; the newest are here. */
  gap: boolean;
  /** Rises with every change of a price. */
  prices: number;
  /** The time of the wallet's last entry, or of the heartbeat that brought new prices. */
  at: string;
}

/** What an action would cost now. */
export interface Quote {
  credits: number;
  allowed: boolean;
  reason: "insufficient_credits" | "spend_limit_reached" | "wallet_frozen" | null;
  balance: number;
  available: number;
  /** How many such actions the wallet and its limits cover; null for any number. */
  covers: number | null;
}

export interface Checkout {
  id: string;
  url: string;
  credits: number;
  /** In minor units of the currency. */
  amount: number;
  currency: string;
  status: "open" | "processing" | "paid" | "expired" | "failed" | "partially_refunded" | "refunded" | "disputed";
}

/**
 * What went wrong. Codes of the widget's own: `invalid_address`, `missing_token`, `invalid_token`, `token_unavailable`,
 * `signed_out`, `token_expired`, `origin_not_allowed`, `bad_message`, `blocked`, `unreachable`, `failed`; others are
 * the server's.
 */
export interface WalletError {
  code: string;
  message: string;
}

/* ---------- Without any element ---------- */

/** `connecting` until the first state; `offline` while it tries to come back; `error` until a token or the page changes. */
export type Status = "connecting" | "live" | "offline" | "error";

export interface ConnectOptions {
  /** Where Chargly runs; by default the origin that widget.js came from. */
  server?: string | null;
  /** A widget token. */
  token?: string | null;
  /** GET here answers `{"token": "…"}`; asked for the first token and, before one ends, for the next. */
  tokenUrl?: string | null;
  onChange?(state: WalletState): void;
  onStatus?(status: Status): void;
  onError?(error: WalletError): void;
  /** The page is seen again, or has its network back. */
  onWake?(): void;
}

export interface Handle {
  /** The server's address, empty where it was none. */
  readonly server: string;
  readonly token: { jwt: string; customer: string; expires: number; scopes: string[] | string } | null;
  /** Takes another token: in place for the same customer, and for another one with that wallet. */
  renew(token: string): void;
  close(): void;
}

/**
 * Watches a wallet. All who name the same server and token URL, or give tokens of the same customer, share a socket,
 * elements included. It does not throw: what is wrong comes by `onError`.
 */
export function connect(options: ConnectOptions): Handle;

/**
 * Asks the server with a handle's token, which must be there.
 *
 * @param path such as `/v1/packs`
 * @param body makes it a POST
 * @throws {WalletError} a refusal of the server
 */
export function call<T = unknown>(handle: Handle, path: string, body?: unknown): Promise<T>;

/**
 * Sells a pack in a new tab. Call it inside a click, or the browser blocks the tab.
 *
 * @param pack its code
 * @param options.redirect take this tab instead, and come back to this page
 * @throws {WalletError}
 */
export function openCheckout(handle: Handle, pack: string, options?: { redirect?: boolean }): Promise<Checkout>;

/**
 * "$10.00" of 1000 cents.
 *
 * @param amount in Stripe's minor units of the currency
 */
export function formatMoney(amount: number, currency: string, locale?: string | string[]): string;

/* ---------- Words ---------- */

/** Words with places such as `{n}`, or one of them for each plural form that the language has. */
export type Words = string | ({ other: string } & Partial<Record<Intl.LDMLPluralRule, string>>);

export type Label =
  | "balance" | "activity" | "topUp" // captions
  | "credits" | "free" | "left" | "missing" | "limit" | "frozen" // prices; {n}
  | "held" | "low" | "empty" | "allHeld" | "connecting" | "offline" | "signIn" | "unavailable" // states; held has {n}
  | "landed" // what came in; {n}
  | "loading" | "noPacks" | "opening" | "waiting" | "stop" | "processing" | "unpaid" | "failed" | "retry" // buying
  | "noEntries" | "times" | "more" | "csv"; // activity; {words} and {n}

/** The words of all elements. Assign to it before the elements are shown, or give one element `labels`. */
export const text: Record<Label, Words>;

/* ---------- Elements ---------- */

/** What all four share. Numbers and dates follow the nearest `lang`. */
export interface CharglyElement extends HTMLElement {
  /** The last state the server sent; null where no customer is signed in. */
  readonly state?: WalletState | null;
  /** Words of this element's own, before those of `text`. */
  labels: Partial<Record<Label, Words>>;
}

/** The balance, and packs under a button where the token has the scope `top_up`. */
export interface CharglyBalance extends CharglyElement {}

/** What the next action costs, and how many more the wallet covers. */
export interface CharglyPrice extends CharglyElement {
  /** The last answer of the server; null where there is no price, undefined before there is an answer. */
  readonly quote?: Quote | null;
}

/** The customer's ledger. Actions of one kind within a minute of each other make one row. */
export interface CharglyActivity extends CharglyElement {}

/** Packs to buy, and what becomes of the payment. */
export interface CharglyTopUp extends CharglyElement {}

export interface CharglyAttributes {
  server?: string;
  token?: string;
  "token-url"?: string;
  /** The caption. */
  label?: string;
}

/** The attributes of each element. */
export interface CharglyElements {
  /** `low`: a balance below this number is low, besides what the wallet itself calls low. */
  "chargly-balance": CharglyAttributes & { low?: number | string };
  /** `event`: what a click meters. `for`: the id of a button that is disabled while the wallet does not cover it. */
  "chargly-price": CharglyAttributes & { event: string; model?: string; quantity?: number | string; for?: string };
  /** `rows`: how many are shown at first, and how many more at a time; 10 by default. */
  "chargly-activity": CharglyAttributes & { rows?: number | string };
  /** `redirect`: the checkout takes this tab and comes back to it. */
  "chargly-top-up": CharglyAttributes & { redirect?: boolean | "" };
}

/** They bubble and leave shadow trees. */
export interface CharglyEvents {
  "chargly-change": CustomEvent<WalletState>;
  /** Once for each fall below the line, and at load when it is there already. */
  "chargly-low": CustomEvent<WalletState>;
  /** Each answer about a price. */
  "chargly-price": CustomEvent<Quote>;
  /** A payment that this page waited for has arrived. */
  "chargly-landed": CustomEvent<{ id: string; credits: number }>;
  "chargly-error": CustomEvent<WalletError>;
}

declare global {
  interface HTMLElementTagNameMap {
    "chargly-balance": CharglyBalance;
    "chargly-price": CharglyPrice;
    "chargly-activity": CharglyActivity;
    "chargly-top-up": CharglyTopUp;
  }
  interface HTMLElementEventMap extends CharglyEvents {}
  interface DocumentEventMap extends CharglyEvents {}
}
