/** What was used: by event, model, member or customer, over time. */

import { ask, query } from "./ask.js";
import { bars, largest } from "./charts.js";
import { button, card, download, make, table } from "./elements.js";
import { to } from "./router.js";
import * as words from "./words.js";

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
const SPANS = { 1: ["24 hours", "hour"], 7: ["7 days", "day"], 30: ["30 days", "day"], 90: ["90 days", "week"], 365: ["A year", "month"] };
const GROUPS = { event: "Event", model: "Model", member: "Member", customer: "Customer" };
const CHOICES = { event: "Without an event", model: "Without a model", member: "Without a member", customer: "–" };

export async function usage(root, { parameters, signal }) {
  const days = parameters.get("days") in SPANS ? parameters.get("days") : "30";
  const group = parameters.get("by") in GROUPS ? parameters.get("by") : "event";
  const customer = parameters.get("customer");
  const [, interval] = SPANS[days];
  const until = Math.ceil(Date.now() / HOUR_MS) * HOUR_MS;
  const since = until - days * DAY_MS;
  const span = { from: new Date(since).toISOString(), to: new Date(until).toISOString(), interval };
  const asked = query({ ...span, group_by: group, customer_id: customer });
  // The flows have every period, also those in which nothing was used.
  const [whole, flows] = await Promise.all([ask(`/v1/usage${asked}`, { signal }), ask(`/v1/flows${query(span)}`, { signal })]);
  const periods = flows.rows.map(({ period }) => period);
  const groups = together(whole.rows, group);
  const at = { days, by: group, customer };
  root.append(
    make(
      "header",
      { class: "top" },
      make("div", {}, make("h1", { tabIndex: -1 }, customer ? `Usage of ${customer}` : "Usage"), make("p", { class: "faint" }, whole.complete ? "Added up to the moment." : "Older entries are still being added up: these figures will grow.")),
      make("nav", { class: "spans", "aria-label": "Time" }, Object.entries(SPANS).map(([of, [name]]) => make("a", { href: to("usage", [], { ...at, days: of }), "aria-current": of === days ? "true" : null }, name))),
    ),
    make("nav", { class: "spans left", "aria-label": "By" }, Object.entries(GROUPS).map(([of, name]) => make("a", { href: to("usage", [], { ...at, by: of }), "aria-current": of === group ? "true" : null }, `By ${name.toLowerCase()}`))),
  );
  if (!groups.length) return root.append(card("Nothing was used", {}, make("p", { class: "nothing" }, "No event was metered in this time.")));
  const places = new Map(periods.map((period, place) => [period, place]));
  const series = groups.filter(({ credits }) => credits > 0).map(({ name, rows }) => {
    const values = new Array(periods.length).fill(0);
    for (const row of rows) values[places.get(row.period)] = Math.max(0, row.credits);
    return { name: name ?? CHOICES[group], values };
  });
  const title = `Credits by ${GROUPS[group].toLowerCase()}`;
  if (series.length) root.append(card(title, {}, bars({ title, labels: periods.map((of) => words.period(of, interval)), names: periods.map((of) => words.periodInFull(of, interval)), series: largest(series), unit: "credits", height: 260, stack: true })));
  const save = button("CSV by period", async () => download("usage.csv", await ask(`/v1/usage${asked}`, { accept: "text/csv" })), "slim");
  root.append(card("In all", { beside: save }, figuresOf(groups, group)));
}

/** Rows of all periods, added up by group, the largest first. */
function together(rows, group) {
  const found = new Map();
  for (const row of rows) {
    const name = row[group];
    const one = found.get(name) ?? found.set(name, { name, rows: [], count: 0, reversed: 0, credits: 0, paid: 0, cost: null, revenue: 0, other: {} }).get(name);
    one.rows.push(row);
    one.count += row.count;
    one.reversed += row.reversed;
    one.credits += row.credits;
    one.paid += row.paid_credits;
    one.revenue += Number(row.revenue_usd);
    if (row.cost_usd !== null) one.cost = (one.cost ?? 0) + Number(row.cost_usd);
    for (const [currency, amount] of Object.entries(row.revenue_in)) one.other[currency] = (one.other[currency] ?? 0) + Number(amount);
  }
  return [...found.values()].sort((one, other) => other.credits - one.credits);
}

function figuresOf(groups, group) {
  const named = (name) => (name === null ? make("span", { class: "faint" }, CHOICES[group]) : group === "customer" ? make("a", { href: to("wallets", [name]) }, name) : name);
  const columns = [{ name: GROUPS[group] }, ...["Events", "Given back", "Credits", "Of them paid", "Cost", "Revenue", "Margin"].map((name) => ({ name, number: true }))];
  const rows = groups.map(({ name, count, reversed, credits, paid, cost, revenue, other }) => {
    const currencies = Object.entries(other).map(([currency, amount]) => `${words.number(Math.round(amount * 100) / 100)} ${currency.toUpperCase()}`);
    const margin = cost === null || currencies.length || revenue <= 0 ? null : Math.round(((revenue - cost) * 1000) / revenue) / 10;
    return [named(name), words.number(count), words.number(reversed), words.number(credits), words.number(paid), words.usd(cost), [words.usd(revenue), ...currencies].join(" + "), make("span", { class: margin !== null && margin < 0 ? "bad" : "" }, words.percent(margin))];
  });
  return table("Usage in all", columns, rows);
}
