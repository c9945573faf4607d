/** The operator's dashboard: signs in, and shows the view that the address names. */

import { Ended, Refused, ask, isSignedIn, signIn, signOut, wordsOf } from "./ask.js";
import { button, hush, make, tell } from "./elements.js";
import { closeDialogs } from "./forms.js";
import { keys } from "./keys.js";
import { overview } from "./overview.js";
import { packs } from "./packs.js";
import { prices } from "./prices.js";
import { route } from "./router.js";
import { usage } from "./usage.js";
import { wallet } from "./wallet.js";
import { wallets } from "./wallets.js";
import { webhooks } from "./webhooks.js";

const VIEWS = new Map([
  ["overview", ["Overview", overview]],
  ["usage", ["Usage", usage]],
  ["wallets", ["Wallets", (root, at) => (at.parts.length ? wallet : wallets)(root, at)]],
  ["prices", ["Prices", prices]],
  ["packs", ["Packs", packs]],
  ["webhooks", ["Webhooks", webhooks]],
  ["keys", ["Keys", keys]],
]);
const REFRESH_MS = 60_000;
const KEY = /^sk_[\x21-\x7e]{1,250}$/;
const $ = (id) => document.getElementById(id);

/** What the view that is shown has under way, and what one that is being read has. */
let shown = new AbortController();
let coming = new AbortController();
/** The address that is shown; null before any is. */
let address = null;

/**
 * Shows the view that the address names. A view is `async (root, at)`: it fills `root`, and gives up when
 * `at.signal` does; `at.again()` reads it once more. Its heading takes the focus where another view was before.
 */
async function show({ quietly = false, anew = false } = {}) {
  if (!isSignedIn()) return;
  if (shown.signal.aborted) quietly = false; // there is nothing that could stay meanwhile
  if (coming !== shown) coming.abort();
  coming = new AbortController();
  const mine = coming;
  if (!quietly) shown.abort();
  const at = route();
  const name = VIEWS.has(at.name) ? at.name : "overview";
  const [title, view] = VIEWS.get(name);
  const moved = anew || (address !== null && address !== location.hash);
  address = location.hash;
  for (const anchor of document.querySelectorAll("#nav a")) {
    if (anchor.hash === `#/${name}`) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
  document.title = `${title} · Chargly`;
  const root = make("div", { class: "view" });
  if (!quietly) $("view").replaceChildren(make("p", { class: "loading", role: "status" }, make("span", { class: "spinner", "aria-hidden": "true" }), `Reading ${title.toLowerCase()}…`));
  try {
    await view(root, { ...at, signal: mine.signal, again: () => show({ quietly: true }) });
    if (mine.signal.aborted) return;
    shown.abort();
    shown = mine;
    if (quietly) replace(root);
    else {
      $("view").replaceChildren(root);
      if (moved && !document.querySelector("dialog")) root.querySelector("h1")?.focus();
    }
  } catch (error) {
    if (mine.signal.aborted || error instanceof Ended || (error instanceof Refused && error.status === 401)) return;
    if (quietly) tell(`What is shown may be old: ${wordsOf(error)}`, "bad");
    else fail(title, error);
  }
}

/** Puts a view that was read again in the place of the one before; who was at a control is at the same one again. */
function replace(root) {
  const before = $("view");
  const held = document.activeElement;
  const name = (node) => `${node.tagName} ${node.getAttribute("aria-label") ?? node.textContent}`;
  const alike = (within) => [...within.querySelectorAll("a, button, input, select, summary, [tabindex]")].filter((node) => held && name(node) === name(held));
  const place = before.contains(held) ? alike(before).indexOf(held) : -1;
  const lost = held === document.body && !document.querySelector("dialog");
  const from = scrollY;
  before.replaceChildren(root);
  scrollTo(0, from);
  if (place >= 0) (alike(root)[place] ?? alike(root)[0] ?? root.querySelector("h1"))?.focus({ preventScroll: true });
  else if (lost && acted) root.querySelector("h1")?.focus({ preventScroll: true });
}

/** Whether somebody acts here by keys or clicks, whose focus is to go on where it was. */
let acted = false;
for (const type of ["keydown", "pointerdown"]) addEventListener(type, () => (acted = true), true);

function fail(title, error) {
  const again = button("Try again", () => show(), "primary");
  $("view").replaceChildren(make("div", { class: "view" }, make("h1", { tabIndex: -1 }, title), make("section", { class: "card panel", role: "alert" }, make("h2", {}, "This could not be read"), make("p", {}, wordsOf(error)), again)));
}

/* ---------- Signing in ---------- */

function showSignIn(words = "") {
  shown.abort();
  coming.abort();
  address = null;
  closeDialogs({ all: true });
  hush();
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
  if (!KEY.test(given)) return refuse(given ? "A key begins with sk_ and has no spaces or quotes in it." : "Enter an admin key: CHARGLY_API_KEY, or one of chargly keys create.");
  go.setAttribute("aria-disabled", "true");
  signIn(given, false);
  try {
    await ask("/v1/keys?limit=1");
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
  $("key").value = "";
  $("key").removeAttribute("aria-invalid");
  $("sign-in-error").textContent = "";
  show({ anew });
}

function leave(words) {
  signOut();
  showSignIn(words);
}

/** Tabs that were opened from this one have its key too. */
const tabs = new BroadcastChannel("chargly-dashboard");
tabs.addEventListener("message", () => isSignedIn() && leave("Signed out in another tab."));

$("sign-in").addEventListener("submit", tryKey);
$("sign-out").addEventListener("click", () => {
  tabs.postMessage("signed out");
  leave("");
});
window.addEventListener("signed-out", ({ detail }) => {
  if (!$("app").hidden) leave(detail);
});
$("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names the view
  $("view").focus();
});
window.addEventListener("hashchange", () => {
  closeDialogs();
  hush();
  show();
});
setInterval(() => {
  const idle = document.activeElement === document.body || document.activeElement?.tagName === "H1";
  const isLookedInto = document.querySelector("dialog, .as-table:not([hidden])") !== null;
  if (document.visibilityState === "visible" && idle && !isLookedInto && route().name === "overview") show({ quietly: true });
}, REFRESH_MS);

isSignedIn() ? open(false) : showSignIn();
