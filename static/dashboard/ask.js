/** Asks the server with the operator's key, which stays in this tab. */

const KEPT_AS = "chargly-dashboard-key";
const ANSWER_MS_MAX = 60_000;
const KEY_BYTES = 16;

let key = sessionStorage.getItem(KEPT_AS);
/** Counts sessions: what was asked for in one that has ended is of no use any more. */
let session = 0;

/** What the server refused: its sentence, its code, and its facts (`field`, `version`, …). */
export class Refused extends Error {
  constructor(status, { code, message, ...facts }) {
    super(message);
    Object.assign(this, { status, code, facts });
  }
}

/** No answer came: a deed may have been done all the same. */
export class Unanswered extends Error {}

/** The session that asked has ended meanwhile. */
export class Ended extends Error {}

export const isSignedIn = () => key !== null;

/** Takes a key for this tab; `keep` is for when it is loaded again. */
export function signIn(given, keep) {
  key = given;
  if (keep) sessionStorage.setItem(KEPT_AS, given);
}

export function signOut() {
  key = null;
  session += 1;
  sessionStorage.removeItem(KEPT_AS);
}

const random = () => Array.from(crypto.getRandomValues(new Uint8Array(KEY_BYTES)), (byte) => byte.toString(16).padStart(2, "0")).join("");

const keys = new Map();

/**
 * Does something at most once: `does` gets an idempotency key, which stays the same for this deed until its answer is
 * known. So it can be sent again after a lost answer, also from a form that is opened anew.
 *
 * @param deed what is done to what, such as `grant ada`
 */
export async function once(deed, does) {
  const mine = keys.get(deed) ?? random();
  keys.set(deed, mine);
  try {
    const answer = await does(mine);
    keys.delete(deed);
    return answer;
  } catch (error) {
    if (error instanceof Refused && error.status < 500) keys.delete(deed);
    if (error.code === "idempotency_conflict") throw new Refused(error.status, { code: error.code, message: "The one before, of which no answer came, was done. Look at the ledger; to do this as well, send it again." });
    throw error;
  }
}

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
 * @throws {Unanswered} it cannot be reached, or took too long
 * @throws {Ended} the session ended, or `signal` gave up
 */
export async function ask(address, { method = "GET", body, signal, accept = "application/json" } = {}) {
  const mine = session;
  let answer;
  let content;
  try {
    answer = await fetch(address, {
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
    content = answer.status === 204 ? null : answer.ok && accept === "text/csv" ? await answer.blob() : await answer.json();
  } catch {
    if (signal?.aborted || mine !== session) throw new Ended("Left.");
    const asked = "The server can’t be reached just now.";
    throw new Unanswered(method === "GET" ? asked : `${asked} It may have been done all the same: send it again from here, and it happens once.`);
  }
  if (mine !== session || signal?.aborted) throw new Ended("Left.");
  if (answer.ok) return content;
  const refused = new Refused(answer.status, content?.error ?? { code: "failed", message: `The server answered ${answer.status}.` });
  if (answer.status === 401) window.dispatchEvent(new CustomEvent("signed-out", { detail: refused.message }));
  throw refused;
}

export const send = (method, address, body = {}) => ask(address, { method, body });

/** What to say of anything that was thrown. */
export const wordsOf = (error) => (error instanceof Refused || error instanceof Unanswered ? error.message : `The page failed: ${error.message}`);
