/** Prices and costs with their versions, and the advice on them beside. */

import { adviceCard } from "./advice.js";
import { Refused, ask, path, query, send } from "./ask.js";
import { button, card, make, named, nothing, pill, table, tell } from "./elements.js";
import { confirm, dialog, field, pairs } from "./forms.js";
import { simulate, simulated } from "./simulation.js";
import { spanOf } from "./spans.js";
import * as words from "./words.js";

const FLAT_RATE = "*";
const DAYS = 30;
const PRICE_STATES = new Map([
  ["scheduled", ["Scheduled", "wait"]],
  ["in_force", ["In force", "good"]],
  ["superseded", ["Superseded", ""]],
  ["withdrawn", ["Withdrawn", ""]],
]);

export async function prices(root, { parameters, signal, again }) {
  const get = (address) => ask(address, { signal });
  // Prices can be changed also where it cannot be read how events go.
  const going = get(`/v1/usage/events${query(spanOf(DAYS, "day"))}`).catch((error) => {
    if (error instanceof Refused && error.status !== 401) return { events: [] };
    throw error;
  });
  const [{ prices: inForce, upcoming }, { costs }, { events }, advice] = await Promise.all([get("/v1/prices"), get("/v1/costs"), going, adviceCard(signal, again)]);
  const changed = (said) => {
    tell(said);
    again();
  };
  root.append(
    make("header", { class: "top" }, make("div", {}, make("h1", { tabIndex: -1 }, "Prices"), make("p", { class: "faint" }, "Each change makes a version; what was charged keeps the one that priced it.")), make("div", { class: "actions" }, button("New price", () => priceDialog(null, null, changed, [...inForce, ...upcoming]), "primary"))),
    make("div", { class: "grid" }, make("div", { class: "w7 column" }, pricesCard(inForce, upcoming, events, changed), costsCard(costs, inForce, changed)), make("div", { class: "w5 column" }, advice)),
  );
  const sought = parameters.get("event");
  if (sought !== null) queueMicrotask(() => mark(root, sought));
}

/** Shows where the event is that the address names. */
function mark(root, event) {
  const found = [...root.querySelectorAll("tr")].find((row) => row.dataset.event === event);
  found?.classList.add("sought");
  requestAnimationFrame(() => found?.scrollIntoView({ block: "center" }));
}

/* ---------- Prices ---------- */

const nameOf = (event) => (event === FLAT_RATE ? "Any other event" : event);

/** What a unit costs, in words: "8", "5, then 2 from 11 on", "8 to 20 by model". */
function rate({ credits, tiers, per_model: models, minimum }) {
  const tiered = tiers?.map(({ credits: each }, at) => (at === 0 ? words.number(each) : `${words.number(each)} from ${words.number(tiers[at - 1].up_to + 1)} on`)).join(", ");
  const byModel = Object.entries(models).map(([model, each]) => `${model} ${words.number(each)}`);
  return make("span", { class: "stacked" }, tiered ?? words.number(credits), make("span", { class: "faint small" }, [...byModel, minimum ? `at least ${words.number(minimum)}` : null].filter(Boolean).join(" · ")));
}

function pricesCard(inForce, upcoming, events, changed) {
  const going = new Map(events.map((event) => [event.event, event]));
  const columns = [{ name: "Event" }, { name: "Credits", number: true }, { name: "30 days", number: true }, { name: "Margin", number: true }, { name: "History" }, { name: "" }];
  const rows = inForce.map((price) => {
    const used = going.get(price.event);
    const next = upcoming.filter(({ event }) => event === price.event);
    const repriced = used?.repriced_at != null;
    const margin = (repriced ? used.margin_since_repriced_percent : used?.margin_percent) ?? null;
    return [
      make("span", { class: "stacked" }, make("b", {}, price.label === price.event ? nameOf(price.event) : price.label), make("code", { class: "faint small" }, price.event)),
      rate(price),
      used ? words.compact(used.credits) : "0",
      make("span", { class: "stacked" }, make("span", { class: margin !== null && margin < 0 ? "bad" : "" }, words.percent(margin)), repriced && make("span", { class: "faint small" }, used.count_since_repriced ? "at this price" : "no use at it yet")),
      make("span", { class: "stacked" }, named(button(`v${price.version}`, () => priceHistory(price, changed), "slim"), `History, now v${price.version}, of ${nameOf(price.event)}`), next.map(({ effective_at: at }) => pill(`new ${words.ago(at)}`, "wait"))),
      named(button("Edit", () => editPrice(price.event, changed), "slim"), `Edit ${nameOf(price.event)}`),
    ];
  });
  const beginning = upcoming.filter(({ event }) => !inForce.some((price) => price.event === event));
  const listed = table("Prices in force", columns, rows);
  listed.querySelectorAll("tbody tr").forEach((row, at) => (row.dataset.event = inForce[at].event));
  return card(
    "Prices in force",
    {},
    rows.length ? listed : nothing("No event has a price yet."),
    beginning.length > 0 && make("p", { class: "note" }, `To begin: ${beginning.map(({ event, effective_at: at }) => `${event} ${words.ago(at)}`).join(", ")}.`),
  );
}

/** The price that the fields name, as the server takes it. */
function priceOf({ credits, label, minimum, per_model: models, tiers, effective_at: at }) {
  const body = { credits: credits ?? 0, per_model: Object.fromEntries(models.map(([model, each]) => [model, Number(each)])), minimum: minimum ?? 0 };
  if (label) body.label = label;
  if (tiers.length) {
    body.tiers = tiers.map(([limit, each]) => ({ up_to: limit === "" ? null : Number(limit), credits: Number(each) }));
    body.credits = body.tiers[0].credits;
  }
  if (at) body.effective_at = new Date(at).toISOString();
  return body;
}

/** Edits the price as it is now; what is saved follows the newest of its versions, whatever became of that. */
async function editPrice(event, changed) {
  const { versions } = await ask(path("prices", event, "versions"));
  priceDialog(versions.find(({ status }) => status === "in_force") ?? versions[0], versions[0].version, changed);
}

/**
 * @param price the one in force, null for a new one
 * @param latest the newest version, which may be scheduled
 * @param known the prices that there are, of which a new one is none
 */
function priceDialog(price, latest, changed, known = []) {
  const result = make("div", { class: "simulated", role: "status" });
  const event = price ? null : field({ name: "event", label: "Event", required: true, maxlength: 100, hint: "Such as chat.reply; * is the flat rate of what has no price of its own." });
  const parts = [
    event,
    field({ name: "credits", label: "Credits for one unit", kind: "number", min: 0, step: 1, value: price?.credits ?? "", required: true }),
    field({ name: "label", label: "Label", value: price && price.label !== price.event ? price.label : "", maxlength: 255, hint: "What customers read." }),
    field({ name: "minimum", label: "At least, for an action", kind: "number", min: 0, step: 1, value: price?.minimum ?? 0 }),
    pairs({ name: "per_model", label: "By model", first: { label: "Model" }, second: { label: "Credits", kind: "number", attributes: { min: 0, step: 1 } }, rows: Object.entries(price?.per_model ?? {}), add: "Add a model" }),
    pairs({ name: "tiers", label: "Tiers", hint: "Units up to a number cost so much each; leave it empty in the last row. They take the place of the credits above.", first: { label: "Up to unit", kind: "number", attributes: { min: 1, step: 1 } }, second: { label: "Credits", kind: "number", attributes: { min: 0, step: 1 } }, rows: (price?.tiers ?? []).map(({ up_to: limit, credits }) => [limit ?? "", credits]), add: "Add a tier" }),
    field({ name: "effective_at", label: "From", kind: "datetime-local", hint: "In your time zone. Without it, at once." }),
    result,
  ].filter(Boolean);
  const nameOfEvent = (given) => price?.event ?? given.event;
  const opened = dialog({
    title: price ? `Price of ${nameOf(price.event)}` : "New price",
    note: price ? `Version ${price.version} is in force. Saving makes the next one.` : null,
    submit: "Save",
    wide: true,
    parts,
    more: [
      button("Simulate", async () => {
        result.replaceChildren(make("p", { class: "faint" }, "Pricing the last 30 days again…"));
        try {
          const given = opened.values();
          if (!nameOfEvent(given)) throw new Refused(400, { code: "invalid_request", message: "Name the event first.", field: "event" });
          const { label, effective_at: at, ...tried } = priceOf(given);
          result.replaceChildren(simulated(await simulate({ [nameOfEvent(given)]: tried })));
        } catch (error) {
          result.replaceChildren();
          opened.refuse(error);
        }
      }),
    ],
    async onSubmit(given) {
      const name = nameOfEvent(given);
      if (known.some((one) => one.event === name)) throw new Refused(400, { code: "invalid_request", message: "It has a price already: edit that one.", field: "event" });
      await send("PUT", path("prices", name), { ...priceOf(given), expected_version: latest });
      changed(given.effective_at ? `The price of ${nameOf(name)} is scheduled.` : `The price of ${nameOf(name)} is in force.`);
    },
  });
}

async function priceHistory({ event }, changed) {
  const { versions } = await ask(path("prices", event, "versions"));
  const columns = [{ name: "Version" }, { name: "Credits", number: true }, { name: "State" }, { name: "From" }, { name: "Made" }, { name: "" }];
  const rows = versions.map((one) => {
    const [said, kind] = PRICE_STATES.get(one.status) ?? [one.status, ""];
    const withdraw = async () => {
      try {
        await ask(path("prices", event, "versions", one.version), { method: "DELETE" });
        opened.node.close();
        changed(`Version ${one.version} is withdrawn.`);
      } catch (error) {
        opened.refuse(error);
      }
    };
    return [`${one.version}`, one.archived ? "ended" : rate(one), pill(said, kind), words.time(one.effective_at), words.time(one.created_at), one.status === "scheduled" ? button("Withdraw", withdraw, "slim") : ""];
  });
  const opened = dialog({ title: `Versions of ${nameOf(event)}`, parts: [table("Versions", columns, rows)], wide: true, more: [button("End this price", () => (opened.node.close(), endPrice({ event }, changed)))] });
}

const endPrice = ({ event }, changed) =>
  confirm(`End the price of ${nameOf(event)}?`, "From then on the flat rate covers it, or it is unknown and refused. Versions to come are withdrawn.", "End", async () => {
    await ask(path("prices", event), { method: "DELETE" });
    changed(`The price of ${nameOf(event)} has ended.`);
  });

/* ---------- Costs ---------- */

function costsCard(costs, inForce, changed) {
  const columns = [{ name: "Event" }, { name: "A unit costs", number: true }, { name: "By model", wide: true }, { name: "History" }, { name: "" }];
  const rows = costs.map((cost) => [
    nameOf(cost.event),
    words.usd(cost.cost_usd),
    byModel(cost),
    named(button(`v${cost.version}`, () => costHistory(cost.event), "slim"), `History, now v${cost.version}, of the cost of ${nameOf(cost.event)}`),
    named(button("Edit", () => costDialog(cost.event, cost, changed), "slim"), `Edit the cost of ${nameOf(cost.event)}`),
  ]);
  const without = inForce.filter(({ event }) => !costs.some((cost) => cost.event === event)).map(({ event }) => event);
  const add = button("New cost", () => costDialog(null, null, changed, without, costs), "slim");
  return card("Provider costs", { beside: add, note: "What a unit costs you where an event’s own cost_usd does not say it. Customers never see one." }, rows.length ? table("Provider costs", columns, rows) : nothing("None are known: events say their own, or have no margin."));
}

/** @param known the costs that there are, of which a new one is none */
function costDialog(event, cost, changed, without = [], known = []) {
  dialog({
    title: event ? `Cost of ${nameOf(event)}` : "New cost",
    submit: "Save",
    parts: [
      event ? null : field({ name: "event", label: "Event", required: true, maxlength: 100, hint: without.length ? `Without one: ${without.slice(0, 4).join(", ")}.` : "* is for those without a cost of their own." }),
      field({ name: "cost_usd", label: "Dollars for one unit", value: cost?.cost_usd ?? "", inputmode: "decimal", hint: "Such as 0.0042, with nine decimals at most." }),
      pairs({ name: "per_model", label: "By model", first: { label: "Model" }, second: { label: "Dollars", attributes: { inputmode: "decimal" } }, rows: Object.entries(cost?.per_model ?? {}), add: "Add a model" }),
    ].filter(Boolean),
    async onSubmit({ event: given, cost_usd, per_model: models }) {
      const name = event ?? given;
      if (known.some((one) => one.event === name)) throw new Refused(400, { code: "invalid_request", message: "It has a cost already: edit that one.", field: "event" });
      await send("PUT", path("costs", name), { cost_usd, per_model: Object.fromEntries(models), expected_version: cost?.version ?? null });
      changed(`The cost of ${nameOf(name)} is saved. Events from now on carry it.`);
    },
  });
}

async function costHistory(event) {
  const { versions } = await ask(path("costs", event, "versions"));
  const rows = versions.map((one) => [`${one.version}`, one.archived ? "ended" : words.usd(one.cost_usd), byModel(one), words.time(one.created_at)]);
  dialog({ title: `Versions of the cost of ${nameOf(event)}`, parts: [table("Versions", [{ name: "Version" }, { name: "A unit costs", number: true }, { name: "By model", wide: true }, { name: "Made" }], rows)], wide: true });
}

const byModel = ({ per_model: models }) => Object.entries(models).map(([model, each]) => `${model} ${words.usd(each)}`).join(", ") || "–";
