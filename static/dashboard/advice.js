/** Advice on prices: what it rests on, what it would change, and the decision. */

import { Refused, ask, path, query, send, wordsOf } from "./ask.js";
import { button, card, make, named, nothing, pill, table, tell } from "./elements.js";
import { dialog, field } from "./forms.js";
import { simulate, simulated } from "./simulation.js";
import * as words from "./words.js";

const SHOWN_MAX = 100;
const TARGET_DEFAULT = 50;
const KINDS = new Map([["raise", "Raise"], ["lower", "Lower"], ["per_model", "Price by model"], ["merge", "Merge"]]);
const STATES = new Map([["pending", ["Open", "wait"]], ["applied", ["Applied", "good"]], ["rejected", ["Rejected", ""]], ["expired", ["Expired", ""]]]);
const CONFIDENCE = new Map([["high", "good"], ["medium", "wait"], ["low", ""]]);
const DAY_MS = 86_400_000;

/** What was asked for last, and what there was no advice on. */
let asked = null;

export async function adviceCard(signal, again) {
  const { recommendations } = await ask(`/v1/pricing/recommendations${query({ status: "pending", limit: SHOWN_MAX })}`, { signal });
  const changed = (said) => {
    tell(said);
    again();
  };
  const withheld = make("div", { role: "status" }, none(asked?.withheld ?? []));
  const rested = recommendations[0]?.facts;
  const target = field({ name: "target_margin_percent", label: "Target margin, %", kind: "number", min: 0, max: 99, step: 1, value: asked?.target ?? rested?.target_margin_percent ?? TARGET_DEFAULT });
  const days = field({ name: "days", label: "Usage of", kind: "select", value: String(asked?.days ?? 30), options: [["7", "7 days"], ["30", "30 days"], ["90", "90 days"], ["366", "A year"]] });
  const advise = async () => {
    target.clear();
    const wanted = { target: target.value() ?? TARGET_DEFAULT, days: Number(days.value()) };
    try {
      const made = await send("POST", "/v1/pricing/recommendations", { target_margin_percent: wanted.target, days: wanted.days });
      asked = { ...wanted, withheld: made.withheld };
      kept.replaceChildren(...items(made.recommendations, changed));
      withheld.replaceChildren(...none(made.withheld));
      tell(made.recommendations.length ? `${words.plural(made.recommendations.length, "recommendation")}.` : "No price needs a change.");
    } catch (error) {
      if (!(error instanceof Refused) || error.facts.field !== "target_margin_percent") throw error;
      target.fail(wordsOf(error).replace(/^target_margin_percent: /, ""));
    }
  };
  const kept = make("ul", { class: "advice" }, items(recommendations, changed));
  return card(
    "Recommendations",
    { beside: named(button("History", showHistory, "slim"), "History of recommendations"), note: "Nothing changes until you apply one. They go by what a paid credit earns; the margins in the table also carry what promotional credits cost." },
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
      make("header", {}, make("b", {}, `${KINDS.get(one.kind) ?? one.kind} ${one.event}`), make("span", { class: "marks" }, pill(`${one.confidence} confidence`, CONFIDENCE.get(one.confidence) ?? ""))),
      make("p", { class: "step number" }, `${words.number(one.current_credits)} → ${words.number(one.recommended_credits)} credits`, models.length > 0 && make("span", { class: "faint" }, ` · ${models.join(", ")}`)),
      make("p", {}, one.reason),
      make("p", { class: "small faint" }, `Estimated ${lift < 0 ? "loss" : "lift"} of ${words.usd(String(Math.abs(lift)))} in as much time, if volume stays. Made ${words.ago(one.created_at)}.`),
      facts(one.facts),
      make(
        "div",
        { class: "actions" },
        named(button("Simulate", () => showSimulation(one), "slim"), `Simulate the advice on ${one.event}`),
        named(button("Apply", () => apply(one, changed), "slim primary"), `Apply the advice on ${one.event}`),
        named(button("Reject", () => reject(one, changed), "slim"), `Reject the advice on ${one.event}`),
      ),
    );
  });
}

/** The events whose prices a recommendation changes. */
const eventsOf = ({ event, kind, facts }) => (kind === "merge" ? facts.merge : [event]);

const simulationOf = ({ recommended_credits: credits, per_model, ...one }) => simulate(Object.fromEntries(eventsOf(one).map((event) => [event, { credits, per_model }])));

/** What the last days would have been at the recommended price. */
async function showSimulation(one) {
  dialog({ title: `Simulation of ${eventsOf(one).join(", ")}`, parts: [simulated(await simulationOf(one))], wide: true });
}

/** Everything that a recommendation rests on, as it was when it was made. */
function facts(given) {
  const say = (name, value) => (value === null ? "–" : name.endsWith("_day") && Number.isInteger(value) ? words.periodInFull(new Date(value * DAY_MS).toISOString(), "day") : typeof value === "object" && !Array.isArray(value) ? Object.entries(value).map(([of, each]) => `${of} ${each}`).join(", ") : Array.isArray(value) ? value.join(", ") : String(value));
  const plain = Object.entries(given).filter(([, value]) => !(Array.isArray(value) && value.some((one) => typeof one === "object")));
  const rows = plain.map(([name, value]) => make("div", {}, make("dt", {}, inWords(name)), make("dd", { class: "number" }, say(name, value))));
  const lists = Object.entries(given).filter(([name]) => !plain.some(([known]) => known === name)).map(([name, parts]) => tableOf(name, parts));
  return make("details", { class: "drawer" }, make("summary", {}, `Facts (${Object.keys(given).length})`), make("dl", { class: "facts" }, rows), ...lists);
}

const inWords = (name) => name.replaceAll("_", " ").replace(/\busd\b/, "in USD").replace(/\bpercent\b/, "%");

const PARTS = new Map([["all", "All units"], ["mix", "The mix of all"], ["merge", "Together"]]);

/** A fact that is a list, such as what each model costs: a column for each, a row for what they have. */
function tableOf(name, parts) {
  const named = ({ model, event, of }) => model ?? event ?? PARTS.get(of) ?? of;
  const facts = [...new Set(parts.flatMap((part) => Object.keys(part)))].filter((fact) => !["model", "event", "of"].includes(fact));
  const rows = facts.map((fact) => [inWords(fact), ...parts.map((part) => String(part[fact] ?? "–"))]);
  return table(inWords(name), [{ name: inWords(name) }, ...parts.map((part) => ({ name: named(part), number: true }))], rows, { plain: true });
}

function none(withheld) {
  if (!withheld.length) return [];
  return [make("h3", {}, "No advice on"), make("ul", { class: "withheld small" }, withheld.map(({ event, reason }) => make("li", {}, make("b", {}, event), " ", reason)))];
}

/** Shows what each price becomes, and what that would have done, before it is applied. */
async function apply(one, changed) {
  const events = eventsOf(one);
  const { prices } = await ask("/v1/prices");
  const rows = events.flatMap((event) => {
    const now = prices.find((price) => price.event === event) ?? prices.find((price) => price.event === "*");
    const models = [...new Set([...Object.keys(now?.per_model ?? {}), ...Object.keys(one.per_model)])];
    return [
      [event, now ? words.number(now.credits) : "–", words.number(one.recommended_credits)],
      ...models.map((model) => [`${event}, ${model}`, words.number(now?.per_model[model] ?? now?.credits ?? 0), words.number(one.per_model[model] ?? one.recommended_credits)]),
    ];
  });
  const seen = await simulationOf(one).then(simulated, (error) => nothing(wordsOf(error)));
  dialog({
    title: `Apply to ${events.join(", ")}?`,
    note: `A new version of ${events.length > 1 ? "each price" : "the price"} comes into force at once. No balance moves.`,
    submit: "Apply",
    wide: true,
    parts: [table("Prices", [{ name: "Price" }, { name: "Now", number: true }, { name: "Then", number: true }], rows, { plain: true }), seen],
    async onSubmit() {
      const { new_version: version } = await send("POST", path("pricing", "recommendations", one.id, "apply"));
      changed(events.length > 1 ? `The prices of ${events.join(", ")} are in force.` : `Version ${version} of ${one.event} is in force.`);
    },
  });
}

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
  const { recommendations } = await ask(`/v1/pricing/recommendations${query({ limit: SHOWN_MAX })}`);
  const rows = recommendations.map((one) => {
    const [said, kind] = STATES.get(one.status) ?? [one.status, ""];
    const decided = one.decided_at && `${one.decided_by ?? "by itself"}, ${words.time(one.decided_at)}`;
    return [one.event, KINDS.get(one.kind) ?? one.kind, `${words.number(one.current_credits)} → ${words.number(one.recommended_credits)}`, make("span", { class: "stacked" }, pill(said, kind), decided && make("span", { class: "faint small" }, decided)), one.decided_because ?? "–", words.time(one.created_at)];
  });
  const columns = [{ name: "Event" }, { name: "Advice" }, { name: "Credits", number: true }, { name: "Decided" }, { name: "Because", wide: true }, { name: "Made" }];
  dialog({ title: "Recommendations so far", parts: [rows.length ? table("Recommendations", columns, rows) : nothing("None was made yet.")], wide: true });
}
