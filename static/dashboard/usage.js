/** What was used: by event, model or customer, or within one customer by member, over time. */

import { Refused, ask, query } from "./ask.js";
import { bars, largest } from "./charts.js";
import { button, card, download, link, make, nothing, table, tell } from "./elements.js";
import { to } from "./router.js";
import { SPANS, daysOf, spanOf } from "./spans.js";
import * as words from "./words.js";

const DAYS = [1, 7, 30, 90, 365];
const DAYS_DEFAULT = 30;
const TOP = 50;
const GROUPS = new Map([
  ["event", { name: "Event", none: "Beside all events" }],
  ["model", { name: "Model", none: "Without a model" }],
  ["customer", { name: "Customer", none: "–" }],
  ["member", { name: "Member", none: "Without a member" }],
]);

export async function usage(root, { parameters, signal }) {
  const days = daysOf(parameters, DAYS, DAYS_DEFAULT);
  const customer = parameters.get("customer");
  // Two teams may each have an “ada”, so members are told apart within a customer alone.
  const groups = [...GROUPS.keys()].filter((group) => group !== (customer ? "customer" : "member"));
  const group = groups.includes(parameters.get("by")) ? parameters.get("by") : "event";
  const { name: title, none } = GROUPS.get(group);
  const { interval } = SPANS[days];
  const span = { ...spanOf(days, interval), interval };
  const asked = query({ ...span, group_by: group, customer_id: customer });
  const shown = query({ ...span, group_by: group, customer_id: customer, top: TOP });
  // The flows have every period, also those in which nothing was used.
  const [whole, flows, { prices }] = await Promise.all([ask(`/v1/usage${shown}`, { signal }), ask(`/v1/flows${query(span)}`, { signal }), ask("/v1/prices", { signal })]);
  const labels = new Map(group === "event" ? prices.map(({ event, label }) => [event, label]) : []);
  const nameOf = ({ name, others }) => (others ? "Others" : name === null ? none : (labels.get(name) ?? name));
  const at = { days, by: group, customer };
  const chosen = (name, choices, current, address) => make("nav", { class: `spans ${name === "By" ? "left" : ""}`, "aria-label": name }, choices.map(([of, said]) => make("a", { href: address(of), "aria-current": of === current ? "true" : null }, said)));
  root.append(
    make(
      "header",
      { class: "top" },
      make("div", {}, customer && make("p", { class: "small" }, link(to("wallets", [customer]), customer)), make("h1", { tabIndex: -1 }, customer ? `Usage of ${customer}` : "Usage"), make("p", { class: "faint" }, whole.complete ? "Added up to the moment; days are those of UTC." : "Older entries are still being added up: these figures will grow.")),
      chosen("Time", DAYS.map((of) => [of, SPANS[of].name]), days, (of) => to("usage", [], { ...at, days: of })),
    ),
    chosen("By", groups.map((of) => [of, `By ${GROUPS.get(of).name.toLowerCase()}`]), group, (of) => to("usage", [], { ...at, by: of })),
  );
  const found = together(whole.rows, group);
  if (!found.length) return root.append(card("Nothing was used", {}, nothing("No event was metered in this time.")));
  const periods = flows.rows.map(({ period }) => period);
  const places = new Map(periods.map((period, place) => [period, place]));
  const series = found.filter(({ credits }) => credits > 0).map((one) => {
    const values = new Array(periods.length).fill(0);
    for (const row of one.rows) values[places.get(row.period)] = Math.max(0, row.credits);
    return { name: nameOf(one), values, rest: one.others };
  });
  const heading = `Credits by ${title.toLowerCase()}`;
  const last = periods.length - 1;
  const chart = () =>
    bars({ title: heading, labels: periods.map((of) => words.period(of, interval)), names: periods.map((of, place) => `${words.periodInFull(of, interval)}${place === last ? ", so far" : ""}`), sofar: last, series: largest(series), unit: "credits", height: 260, stack: true });
  if (series.length) root.append(card(heading, {}, chart()));
  const csv = (of) => ask(`/v1/usage${of}`, { accept: "text/csv", signal });
  const save = button("CSV by period", async () => {
    const file = await csv(asked).catch((error) => {
      if (!(error instanceof Refused) || error.facts.field !== "interval") throw error;
      tell(`There are too many for one file: it has the ${TOP} largest, and all others together.`);
      return csv(shown);
    });
    download("usage.csv", file);
  }, "slim");
  root.append(card("Totals", { beside: save, note: "No margin is shown where the cost of some units is unknown." }, figuresOf(found, group, title, nameOf)));
}

/** Rows of all periods, added up by group, the largest first and all others last. */
function together(rows, group) {
  const found = new Map();
  for (const row of rows) {
    const key = JSON.stringify([row[group], row.others === true]);
    const one = found.get(key) ?? found.set(key, { name: row[group], others: row.others === true, rows: [], ...empty() }).get(key);
    one.rows.push(row);
    add(one, row);
  }
  return [...found.values()].sort((one, other) => Number(one.others) - Number(other.others) || other.credits - one.credits);
}

const empty = () => ({ count: 0, reversed: 0, credits: 0, paid: 0, quantity: 0, costed: 0, cost: null, revenue: 0, other: new Map() });

function add(one, row) {
  one.count += row.count;
  one.reversed += row.reversed;
  one.credits += row.credits;
  one.paid += row.paid_credits;
  one.quantity += row.quantity;
  one.costed += row.costed;
  one.revenue += Number(row.revenue_usd);
  if (row.cost_usd !== null) one.cost = (one.cost ?? 0) + Number(row.cost_usd);
  for (const [currency, amount] of Object.entries(row.revenue_in)) one.other.set(currency, (one.other.get(currency) ?? 0) + Number(amount));
}

function figuresOf(found, group, title, nameOf) {
  const linked = (one) => (group === "customer" && !one.others ? link(to("wallets", [one.name]), one.name) : one.name === null ? make("span", { class: "faint" }, nameOf(one)) : nameOf(one));
  const figures = ({ count, reversed, credits, paid, quantity, costed, cost, revenue, other }) => {
    const currencies = [...other].map(([currency, amount]) => `${words.number(Math.round(amount * 100) / 100)} ${currency.toUpperCase()}`);
    // What has no known cost would count as profit, so there is no margin of it.
    const known = cost !== null && costed >= quantity && !currencies.length;
    const margin = known && revenue > 0 ? Math.round(((revenue - cost) * 1000) / revenue) / 10 : null;
    return [words.number(count), words.number(reversed), words.number(credits), words.number(paid), words.usd(cost), [words.usd(revenue), ...currencies].join(" + "), make("span", { class: known && cost > revenue ? "bad" : "" }, words.percent(margin))];
  };
  const columns = [{ name: title }, ...["Events", "Reversed", "Credits", "Paid credits", "Cost", "Revenue", "Margin"].map((name) => ({ name, number: true }))];
  const all = empty();
  for (const { rows } of found) for (const row of rows) add(all, row);
  const rows = [...found.map((one) => [linked(one), ...figures(one)]), [make("b", {}, "All"), ...figures(all)]];
  return table("Totals", columns, rows);
}
