/** The operator's dashboard: signs in, and shows the view that the address names. */

import { Refused, ask, isSignedIn, signIn, signOut, wordsOf } from "./ask.js";
import { button, make } from "./elements.js";
import { keys } from "./keys.js";
import { overview } from "./overview.js";
import { packs } from "./packs.js";
import { prices } from "./prices.js";
import { route } from "./router.js";
import { usage } from "./usage.js";
import { wallet } from "./wallet.js";
import { wallets } from "./wallets.js";
import { webhooks } from "./webhooks.js";

const VIEWS = {
  overview: ["Overview", overview],
  usage: ["Usage", usage],
  wallets: ["Wallets", (root, at) => (at.parts.length ? wallet : wallets)(root, at)],
  prices: ["Prices", prices],
  packs: ["Packs", packs],
  webhooks: ["Webhooks", webhooks],
  keys: ["Keys", keys],
};
const REFRESH_MS = 60_000;
const $ = (id) => document.getElementById(id);

let leaving = new AbortController();
/** The address that is shown; null before any is. */
let shown = null;

/**
 * Shows the view that the address names. A view is `async (root, at)`: it fills `root`, and gives up when
 * `at.signal` does; `at.again()` reads it once more. Its heading takes the focus where another view was before.
 */
async function show({ quietly = false, anew = false } = {}) {
  if (!isSignedIn()) return;
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const at = route();
  const [title, view] = VIEWS[at.name] ?? VIEWS.overview;
  const moved = anew || (shown !== null && shown !== location.hash);
  shown = location.hash;
  for (const anchor of document.querySelectorAll("#nav a")) {
    if (anchor.hash === `#/${at.name in VIEWS ? at.name : "overview"}`) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
  document.title = `${title} · Chargly`;
  const root = make("div", { class: "view" });
  if (!quietly) $("view").replaceChildren(make("p", { class: "loading", role: "status" }, make("span", { class: "spinner", "aria-hidden": "true" }), `Reading ${title.toLowerCase()}…`));
  try {
    await view(root, { ...at, signal, again: () => show({ quietly: true }) });
    if (signal.aborted) return;
    const from = scrollY;
    $("view").replaceChildren(root);
    if (quietly) scrollTo(0, from);
    else if (moved && document.activeElement?.closest("dialog") === null) root.querySelector("h1")?.focus({ preventScroll: false });
  } catch (error) {
    if (signal.aborted || (error instanceof Refused && error.status === 401)) return;
    if (!(error instanceof Refused) && error.name !== "TimeoutError" && !(error instanceof TypeError)) throw error;
    if (!quietly) fail(title, error);
  }
}

function fail(title, error) {
  const again = button("Try again", () => show(), "primary");
  $("view").replaceChildren(make("div", { class: "view" }, make("h1", { tabIndex: -1 }, title), make("section", { class: "card panel failed", role: "alert" }, make("h2", {}, "This could not be read"), make("p", {}, wordsOf(error)), again)));
}

/* ---------- Signing in ---------- */

function showSignIn(words = "") {
  leaving.abort();
  document.querySelectorAll("dialog").forEach((dialog) => dialog.close());
  $("view").replaceChildren();
  $("app").hidden = true;
  $("door").hidden = false;
  $("sign-in-error").textContent = words;
  document.title = "Sign in · Chargly";
  $("key").value = "";
  $("key").focus();
}

async function tryKey(event) {
  event.preventDefault();
  const go = $("sign-in-go");
  if (go.getAttribute("aria-disabled") === "true") return;
  const given = $("key").value.trim();
  if (!given) return refuse("Enter an admin key, as CHARGLY_API_KEY or one of chargly keys create.");
  go.setAttribute("aria-disabled", "true");
  signIn(given, false);
  try {
    await ask("/v1/keys");
    signIn(given, $("keep").checked);
    open(true);
  } catch (error) {
    signOut();
    refuse(error instanceof Refused && error.status === 403 ? "This key is good, but the dashboard takes one with the scope admin." : wordsOf(error));
  }
  go.setAttribute("aria-disabled", "false");
}

function refuse(words) {
  $("sign-in-error").textContent = words;
  $("key").setAttribute("aria-invalid", "true");
  $("key").focus();
}

function open(anew) {
  $("door").hidden = true;
  $("app").hidden = false;
  $("key").removeAttribute("aria-invalid");
  $("sign-in-error").textContent = "";
  show({ anew });
}

$("sign-in").addEventListener("submit", tryKey);
$("sign-out").addEventListener("click", () => {
  signOut();
  showSignIn();
});
window.addEventListener("signed-out", ({ detail }) => {
  if (!$("app").hidden) {
    signOut();
    showSignIn(detail);
  }
});
$("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names the view
  $("view").focus();
});
window.addEventListener("hashchange", () => show());
setInterval(() => {
  const idle = document.activeElement === document.body || document.activeElement?.tagName === "H1";
  if (document.visibilityState === "visible" && idle && !document.querySelector("dialog") && route().name === "overview") show({ quietly: true });
}, REFRESH_MS);

isSignedIn() ? open(false) : showSignIn();
