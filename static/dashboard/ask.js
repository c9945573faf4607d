/** Asks the server with the operator's key, which stays in this tab. */

const KEPT_AS = "chargly-dashboard-key";
const ANSWER_MS_MAX = 60_000;
const KEY_BYTES = 16;

let key = sessionStorage.getItem(KEPT_AS);

/** What the server refused: its sentence, its code, and its facts (`field`, `version`, …). */
export class Refused extends Error {
  constructor(status, { code, message, ...facts }) {
    super(message);
    Object.assign(this, { status, code, facts });
  }
}

export const isSignedIn = () => key !== null;

/** Takes a key for this tab; `keep` is for when it is loaded again. */
export function signIn(given, keep) {
  key = given;
  if (keep) sessionStorage.setItem(KEPT_AS, given);
}

export function signOut() {
  key = null;
  sessionStorage.removeItem(KEPT_AS);
}

/** A fresh idempotency key: one for each form that is opened, so that what is sent twice happens once. */
export const freshKey = () => Array.from(crypto.getRandomValues(new Uint8Array(KEY_BYTES)), (byte) => byte.toString(16).padStart(2, "0")).join("");

/** `/v1/wallets/…` of parts that may have any character. */
export const path = (...parts) => `/v1/${parts.map(encodeURIComponent).join("/")}`;

/** `?a=1&b=2` of what is not null. */
export function query(parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

/**
 * The server's answer, null where it has none.
 *
 * @throws {Refused} by the server; a key that it does not take ends the session, which `window` hears as `signed-out`
 * @throws {TypeError|DOMException} it cannot be reached, or `signal` gave up
 */
export async function ask(address, { method = "GET", body, signal, accept = "application/json" } = {}) {
  const answer = await fetch(address, {
    method,
    headers: {
      Accept: accept,
      Authorization: `Bearer ${key}`,
      ...(body === undefined ? {} : { "Content-Type": "application/json" }),
    },
    body: body === undefined ? undefined : JSON.stringify(body),
    cache: "no-store",
    signal: AbortSignal.any([AbortSignal.timeout(ANSWER_MS_MAX), ...(signal ? [signal] : [])]),
  });
  if (answer.ok) return answer.status === 204 ? null : accept === "text/csv" ? answer.blob() : answer.json();
  const refused = new Refused(answer.status, (await answer.json().catch(() => ({}))).error ?? { code: "failed", message: `The server answered ${answer.status}.` });
  if (answer.status === 401) window.dispatchEvent(new CustomEvent("signed-out", { detail: refused.message }));
  throw refused;
}

export const send = (method, address, body = {}) => ask(address, { method, body });

/** What to say of anything that was thrown. */
export function wordsOf(error) {
  if (error instanceof Refused) return error.message;
  if (error.name === "TimeoutError") return "The server took too long to answer. Try again in a moment.";
  if (error instanceof TypeError && /fetch|network|load/i.test(error.message)) return "The server can’t be reached. Nothing is known to have changed.";
  return `The page failed: ${error.message}`;
}
