/** Advice on prices: what it rests on, what it would change, and the decision. */

import { ask, path, query, send, wordsOf } from "./ask.js";
import { button, card, make, pill, table, tell } from "./elements.js";
import { dialog, field } from "./forms.js";
import { simulate, simulated } from "./simulation.js";
import * as words from "./words.js";

const SHOWN_MAX = 100;
const KINDS = { raise: "Raise", lower: "Lower", per_model: "Price by model", merge: "Merge" };
const STATES = { pending: ["Open", "wait"], applied: ["Applied", "good"], rejected: ["Rejected", ""], expired: ["Expired", ""] };
const CONFIDENCE = { high: "good", medium: "wait", low: "" };

export async function adviceCard(signal, again) {
  const list = (status) => ask(`/v1/pricing/recommendations${query({ status, limit: SHOWN_MAX })}`, { signal });
  const { recommendations } = await list("pending");
  const changed = (said) => {
    tell(said);
    again();
  };
  const withheld = make("div", { role: "status" });
  const target = field({ name: "target_margin_percent", label: "Target margin, %", kind: "number", min: 0, max: 99, step: 1, value: 50 });
  const days = field({ name: "days", label: "Usage of", kind: "select", value: "30", options: [["7", "7 days"], ["30", "30 days"], ["90", "90 days"], ["366", "A year"]] });
  const advise = async () => {
    target.clear();
    try {
      const made = await send("POST", "/v1/pricing/recommendations", { target_margin_percent: target.value() ?? 50, days: Number(days.value()) });
      kept.replaceChildren(...items(made.recommendations, changed));
      withheld.replaceChildren(...none(made.withheld));
      tell(made.recommendations.length ? `${words.plural(made.recommendations.length, "recommendation")}.` : "No price needs a change.");
    } catch (error) {
      error.facts?.field === "target_margin_percent" ? target.fail(wordsOf(error)) : tell(wordsOf(error), "bad");
    }
  };
  const kept = make("ul", { class: "advice" }, items(recommendations, changed));
  return card(
    "Recommendations",
    { beside: button("History", () => showHistory(), "slim"), note: "Nothing changes until you apply one." },
    make("div", { class: "asking" }, target.node, days.node, button("Advise", advise, "primary")),
    kept,
    withheld,
  );
}

function items(recommendations, changed) {
  if (!recommendations.length) return [make("li", { class: "nothing" }, "None is open. Ask for advice on the prices in force.")];
  return recommendations.map((one) => {
    const models = Object.entries(one.per_model).map(([model, credits]) => `${model} ${words.number(credits)}`);
    const lift = Number(one.estimated_lift_usd);
    return make(
      "li",
      {},
      make("header", {}, make("b", {}, `${KINDS[one.kind] ?? one.kind} ${one.event}`), make("span", { class: "marks" }, pill(`${one.confidence} confidence`, CONFIDENCE[one.confidence] ?? ""))),
      make("p", { class: "step number" }, `${words.number(one.current_credits)} → ${words.number(one.recommended_credits)} credits`, models.length > 0 && make("span", { class: "faint" }, ` · ${models.join(", ")}`)),
      make("p", {}, one.reason),
      make("p", { class: "small faint" }, `Estimated ${lift < 0 ? "loss" : "lift"} of ${words.usd(String(Math.abs(lift)))} in as much time, if volume stays. Made ${words.ago(one.created_at)}.`),
      facts(one.facts),
      make(
        "div",
        { class: "actions" },
        button("Simulate", () => showSimulation(one), "slim"),
        button("Apply", () => apply(one, changed), "slim primary"),
        button("Reject", () => reject(one, changed), "slim"),
      ),
    );
  });
}

/** What the last days would have been at the recommended price. */
async function showSimulation({ event, kind, recommended_credits: credits, per_model, facts }) {
  const events = kind === "merge" ? facts.merge : [event];
  try {
    const answer = await simulate(Object.fromEntries(events.map((name) => [name, { credits, per_model }])));
    dialog({ title: `Simulation of ${events.join(", ")}`, parts: [simulated(answer)], wide: true });
  } catch (error) {
    tell(wordsOf(error), "bad");
  }
}

/** Everything that a recommendation rests on, as it was when it was made. */
function facts(given) {
  const text = (value) => (value === null ? "–" : Array.isArray(value) ? value.map(text).join("; ") : typeof value === "object" ? Object.entries(value).map(([name, each]) => `${name.replaceAll("_", " ")} ${text(each)}`).join(", ") : String(value));
  const rows = Object.entries(given).map(([name, value]) => make("div", {}, make("dt", {}, name.replaceAll("_", " ")), make("dd", { class: "number" }, text(value))));
  return make("details", { class: "drawer" }, make("summary", {}, `Facts (${rows.length})`), make("dl", { class: "facts" }, rows));
}

function none(withheld) {
  if (!withheld.length) return [];
  return [make("h3", {}, "No advice on"), make("ul", { class: "withheld small" }, withheld.map(({ event, reason }) => make("li", {}, make("b", {}, event), " ", reason)))];
}

const apply = (one, changed) =>
  dialog({
    title: `Apply to ${one.event}?`,
    note: `${one.reason} A new version of the price comes into force at once, from ${words.number(one.current_credits)} to ${words.number(one.recommended_credits)} credits. No balance moves.`,
    submit: "Apply",
    async onSubmit() {
      const { new_version: version } = await send("POST", path("pricing", "recommendations", one.id, "apply"));
      changed(`Version ${version} of ${one.event} is in force.`);
    },
  });

const reject = (one, changed) =>
  dialog({
    title: `Reject the advice on ${one.event}?`,
    note: "The price stays. The recommendation is kept in the history, with your reason.",
    submit: "Reject",
    parts: [field({ name: "reason", label: "Reason", maxlength: 500 })],
    async onSubmit({ reason }) {
      await send("POST", path("pricing", "recommendations", one.id, "reject"), reason ? { reason } : {});
      changed("Rejected.");
    },
  });

async function showHistory() {
  try {
    const { recommendations } = await ask(`/v1/pricing/recommendations${query({ limit: SHOWN_MAX })}`);
    const rows = recommendations.map((one) => {
      const [said, kind] = STATES[one.status] ?? [one.status, ""];
      return [one.event, KINDS[one.kind] ?? one.kind, `${words.number(one.current_credits)} → ${words.number(one.recommended_credits)}`, pill(said, kind), words.time(one.created_at), one.decided_by ? `${one.decided_by}, ${words.time(one.decided_at)}` : words.time(one.decided_at), one.decided_because ?? "–"];
    });
    const columns = [{ name: "Event" }, { name: "Advice" }, { name: "Credits", number: true }, { name: "State" }, { name: "Made" }, { name: "Decided" }, { name: "Because", wide: true }];
    dialog({ title: "Recommendations so far", parts: [rows.length ? table("Recommendations", columns, rows) : make("p", { class: "nothing" }, "None was made yet.")], wide: true });
  } catch (error) {
    tell(wordsOf(error), "bad");
  }
}
