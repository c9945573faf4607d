/** Are we OK? Credits in and out, balances, margins, and what needs somebody. */

import { ask, query } from "./ask.js";
import { bands, bars, largest, spark } from "./charts.js";
import { card, link, make, pill } from "./elements.js";
import { to } from "./router.js";
import * as words from "./words.js";

const SPANS = { 7: "7 days", 30: "30 days", 90: "90 days", 365: "A year" };
const DAYS_DEFAULT = 30;
const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
const WEEKS_FROM_DAYS = 180;
const LOW_SHOWN = 6;
const EVENTS_SHOWN = 8;
const TARGET_MARGIN_PERCENT = 50;
const IN_KINDS = ["top_up", "grant", "adjustment", "reversal", "dispute_reversal", "refund"];
const OUT_KINDS = ["expiry", "refund", "dispute", "void", "adjustment"];

export async function overview(root, { parameters, signal, again }) {
  const days = Number(parameters.get("days")) in SPANS ? Number(parameters.get("days")) : DAYS_DEFAULT;
  const interval = days >= WEEKS_FROM_DAYS ? "week" : "day";
  const until = Math.ceil(Date.now() / HOUR_MS) * HOUR_MS;
  const span = (back) => ({ from: new Date(until - (back + 1) * days * DAY_MS).toISOString(), to: new Date(until - back * days * DAY_MS).toISOString() });
  const get = (address, parameters) => ask(`/v1/${address}${query(parameters)}`, { signal });
  const [now, before, flows, usage, { events }, low, advice, endpoints] = await Promise.all([
    get("overview", span(0)),
    get("overview", span(1)),
    get("flows", { ...span(0), interval }),
    get("usage", { ...span(0), interval, group_by: "event" }),
    get("usage/events", span(0)),
    get("wallets", { low: true, limit: LOW_SHOWN }),
    get("pricing/recommendations", { status: "pending", limit: 100 }),
    get("webhook-endpoints", {}),
  ]);
  const needs = attention({ now, events, advice, endpoints });
  root.append(
    make(
      "header",
      { class: "top" },
      make("div", {}, make("h1", { tabIndex: -1 }, "Overview"), make("p", { class: "faint" }, now.complete ? `As of ${words.time(new Date().toISOString())}` : "Older entries are still being added up: these figures will grow.")),
      make("nav", { class: "spans", "aria-label": "Time" }, Object.entries(SPANS).map(([of, name]) => make("a", { href: to("overview", [], { days: of }), "aria-current": Number(of) === days ? "true" : null }, name))),
    ),
    verdict(needs),
    figures(now, before, days),
    make(
      "div",
      { class: "grid" },
      creditsOut(usage, flows, interval),
      marginCard(events),
      eventsCard(events, days),
      balances(now, low),
      creditsIn(flows, interval),
      moneyCard(flows, interval),
    ),
  );
}

/* ---------- What needs somebody ---------- */

/** What is wrong or may become so: `[kind, words, address]`, the worst first. */
function attention({ now, events, advice, endpoints }) {
  const named = ({ label, event }) => (label === event ? event : `${label} (${event})`);
  const found = [];
  for (const event of events) {
    if (event.margin_percent !== null && event.margin_percent < 0) found.push(["bad", `${named(event)} loses money: it earned ${words.usd(event.revenue_usd)} and cost ${words.usd(event.cost_usd)}.`, to("prices")]);
  }
  for (const endpoint of endpoints.webhook_endpoints) {
    if (!endpoint.enabled && endpoint.disabled_reason) found.push(["bad", `The webhook endpoint ${endpoint.url} is disabled: ${endpoint.disabled_reason}`, to("webhooks")]);
    else if (endpoint.failing_since) found.push(["wait", `The webhook endpoint ${endpoint.url} has failed since ${words.time(endpoint.failing_since)}.`, to("webhooks")]);
  }
  for (const event of events) {
    const [last, week] = [event.weeks.at(-1).count, event.weeks.at(-2).count];
    if (event.is_spike) found.push(["wait", `${named(event)} spikes: ${words.number(last)} in the last seven days, ${words.number(week)} in those before.`, to("usage")]);
    if (event.is_drifting) found.push(["wait", `A unit of ${named(event)} costs ${words.percent(Math.abs(event.unit_cost_change_percent))} ${event.unit_cost_change_percent > 0 ? "more" : "less"} than before: ${words.usd(event.unit_cost_now_usd)}, from ${words.usd(event.unit_cost_before_usd)}.`, to("prices")]);
  }
  if (now.low_wallets) found.push(["wait", `${words.plural(now.low_wallets, "wallet is low", "wallets are low")}.`, to("wallets", [], { low: true })]);
  const unknown = events.filter(({ cost_usd: cost, credits }) => cost === null && credits > 0);
  if (unknown.length) found.push(["", `No cost is known of ${new Intl.ListFormat("en").format(unknown.slice(0, 3).map(named))}${unknown.length > 3 ? ` and ${unknown.length - 3} more` : ""}, so no margin is.`, to("prices")]);
  const open = advice.recommendations.length;
  if (open) found.push(["", `${words.plural(open, "recommendation on prices waits", "recommendations on prices wait")} for a decision.`, to("prices")]);
  return found;
}

function verdict(needs) {
  const bad = needs.filter(([kind]) => kind === "bad").length;
  const wait = needs.filter(([kind]) => kind === "wait").length;
  const title = bad ? `${words.plural(bad, "thing needs", "things need")} you now` : wait ? `Sound, with ${words.plural(wait, "thing", "things")} to watch` : "All is well";
  const items = needs.map(([kind, said, address]) => make("li", { class: kind }, make("a", { href: address }, said)));
  return make(
    "section",
    { class: `card verdict ${bad ? "bad" : wait ? "wait" : "good"}`, "aria-labelledby": "verdict" },
    make("h2", { id: "verdict" }, title),
    items.length ? make("ul", {}, items) : make("p", {}, "Nothing loses money, spikes, drifts or fails."),
  );
}

/* ---------- Figures ---------- */

function figures(now, before, days) {
  const against = `the ${days} days before`;
  const compared = (one, other) => `${words.change(words.changeOf(other, one))} against ${against}`;
  const currencies = Object.keys(now.top_up_revenue);
  const same = currencies.length === 1 ? compared(now.top_up_revenue[currencies[0]], before.top_up_revenue[currencies[0]] ?? 0) : "unlike currencies are not added up";
  const tiles = [
    ["Credits out", words.compact(now.credits_out), `${words.plural(now.events, "event")}; ${compared(now.credits_out, before.credits_out)}`],
    ["Credits in", words.compact(now.credits_in), Object.entries(now.credits_in_by).map(([kind, credits]) => `${words.KINDS[kind].toLowerCase()} ${words.compact(credits)}`).join(", ") || "nothing came in"],
    ["Top-up revenue", currencies.length > 1 ? currencies.map((currency) => make("span", { class: "one-of" }, words.money({ [currency]: now.top_up_revenue[currency] }))) : words.money(now.top_up_revenue), currencies.length ? same : "nobody paid"],
    ["Margin on use", words.percent(now.margin_percent), now.cost_usd === null ? "no cost is known" : `earned ${words.usd(now.revenue_usd)}, cost ${words.usd(now.cost_usd)}`, now.margin_percent !== null && now.margin_percent < 0],
    ["Wallets", words.compact(now.wallets), `${words.number(now.low_wallets)} low, ${words.number(now.balances[0].wallets)} empty`],
  ];
  return make("dl", { class: "tiles" }, tiles.map(([name, value, said, bad]) => make("div", { class: "card tile" }, make("dt", {}, name), make("dd", { class: `number figure ${bad ? "bad" : ""}` }, value), make("dd", { class: "small faint" }, said))));
}

const axis = (rows, interval) => ({ labels: rows.map(({ period }) => words.period(period, interval)), names: rows.map(({ period }) => words.periodInFull(period, interval)) });

function creditsOut(usage, flows, interval) {
  const byEvent = new Map();
  const places = new Map(flows.rows.map(({ period }, at) => [period, at]));
  for (const { period, event, credits } of usage.rows) {
    if (event === null || !places.has(period)) continue;
    const values = byEvent.get(event) ?? byEvent.set(event, new Array(flows.rows.length).fill(0)).get(event);
    values[places.get(period)] += Math.max(0, credits);
  }
  const series = largest([...byEvent].map(([name, values]) => ({ name, values })), "Other events");
  const chart = series.length ? bars({ title: "Credits out by event", ...axis(flows.rows, interval), series, unit: "credits", height: 300, stack: true }) : nothing("No event was metered in this time.");
  return card("Credits out by event", { class: "w8", beside: link(to("usage"), "Usage") }, chart);
}

function byKind(title, flows, interval, kinds, way) {
  const series = kinds.map((kind) => ({ name: words.KINDS[kind], values: flows.rows.map((row) => row[way][kind] ?? 0) })).filter(({ values }) => values.some(Boolean));
  return series.length ? bars({ title, ...axis(flows.rows, interval), series, unit: "credits", height: 190, stack: true }) : nothing("Nothing in this time.");
}

function creditsIn(flows, interval) {
  return card(
    "Credits in",
    { class: "w6" },
    byKind("Credits in by kind", flows, interval, IN_KINDS, "credits_in"),
    make("h3", {}, "Out otherwise than by use"),
    byKind("Credits out otherwise", flows, interval, OUT_KINDS, "credits_out"),
  );
}

/** Each currency by itself: unlike ones are never added up. */
function moneyCard(flows, interval) {
  const currencies = [...new Set(flows.rows.flatMap((row) => Object.keys(row.top_up_revenue)))].sort();
  const paid = currencies.map((currency) => [
    make("h3", {}, `Paid in ${currency.toUpperCase()}`),
    bars({ title: `Top-up revenue in ${currency.toUpperCase()}`, ...axis(flows.rows, interval), series: [{ name: currency.toUpperCase(), values: flows.rows.map((row) => Math.max(0, row.top_up_revenue[currency] ?? 0)) }], words: (value) => words.money({ [currency]: value }), axisWords: (value) => words.moneyOnAxis(value, currency), height: 150 }),
  ]);
  const issued = ["top_up", "grant"].map((kind) => ({ name: words.KINDS[kind], values: flows.rows.map((row) => row.credits_in[kind] ?? 0) })).filter(({ values }) => values.some(Boolean));
  return card(
    "Top-up revenue against credits issued",
    { class: "w6" },
    paid.length ? paid.flat() : nothing("Nobody paid in this time."),
    make("h3", {}, "Credits issued"),
    issued.length ? bars({ title: "Credits issued", ...axis(flows.rows, interval), series: issued, unit: "credits", height: 150, stack: true }) : nothing("None were issued in this time."),
  );
}

function balances(now, low) {
  const labels = now.balances.map(({ up_to: limit }, at) => (limit === null ? `>${words.compact(now.balances[at - 1].up_to)}` : words.compact(limit)));
  const names = now.balances.map(({ up_to: limit }, at) => (at === 0 ? "No credits" : limit === null ? `Above ${words.number(now.balances[at - 1].up_to)} credits` : `${words.number(now.balances[at - 1].up_to + 1)} to ${words.number(limit)} credits`));
  const rows = low.wallets.map((wallet) => make("li", {}, link(to("wallets", [wallet.customer_id]), wallet.name ?? wallet.customer_id), make("span", { class: "number" }, words.number(wallet.balance)), make("span", { class: "faint number" }, `below ${words.number(wallet.low_balance_threshold)}`)));
  return card(
    "Balances",
    { class: "w4", beside: link(to("wallets"), "All wallets") },
    bars({ title: "Wallets by balance", labels, names, first: "Balance", series: [{ name: "Wallets", values: now.balances.map(({ wallets }) => wallets) }], unit: "wallets", height: 190, marked: 1 }),
    make("h3", {}, "Low wallets"),
    rows.length ? make("ul", { class: "lows" }, rows) : nothing("No wallet is below its threshold."),
    now.low_wallets > rows.length && make("p", { class: "small" }, link(to("wallets", [], { low: true }), `All ${words.number(now.low_wallets)} low wallets`)),
  );
}

/* ---------- Events ---------- */

function marginCard(events) {
  const shown = events.filter(({ margin_percent: margin }) => margin !== null).slice(0, 9);
  const note = `Where each event is, and from where to where its weeks went. The line is a margin of ${TARGET_MARGIN_PERCENT} %.`;
  if (!shown.length) return card("Margin by event", { class: "w4" }, nothing("No event has both a known cost and revenue yet. Put costs on events under Prices."));
  const rows = shown.map((one) => ({ name: one.label, event: one.event, low: one.margin_low_percent, high: one.margin_high_percent, value: one.margin_percent, words: words.percent(one.margin_percent) }));
  return card("Margin by event", { class: "w4", note }, bands({ rows, target: TARGET_MARGIN_PERCENT, from: -100, to: 100, href: () => to("prices") }), make("p", { class: "scale faint" }, make("span", {}, "−100 %"), make("span", {}, "0"), make("span", {}, "100 %")));
}

function eventsCard(events, days) {
  const rows = events.slice(0, EVENTS_SHOWN).map((one) => {
    const marks = [one.is_spike && pill("Spike", "wait"), one.is_drifting && pill(`Cost ${words.change(one.unit_cost_change_percent)}`, one.unit_cost_change_percent > 0 ? "bad" : "good"), one.margin_percent !== null && one.margin_percent < 0 && pill("Loses money", "bad")].filter(Boolean);
    const unitCost = one.unit_cost_now_usd ?? one.weeks.findLast(({ unit_cost_usd: cost }) => cost !== null)?.unit_cost_usd ?? null;
    return make(
      "li",
      {},
      make("div", { class: "what" }, make("span", {}, make("b", {}, one.label), " ", make("code", { class: "faint" }, one.event)), marks.length > 0 && make("span", { class: "marks" }, marks)),
      spark(one.weeks.map(({ credits }) => credits)),
      make("div", { class: "number right" }, make("b", {}, words.compact(one.credits)), make("span", { class: "faint small" }, words.change(one.change_percent))),
      make("div", { class: "number right" }, make("span", {}, words.usd(unitCost)), make("span", { class: "faint small" }, "a unit costs")),
    );
  });
  return card("Events", { class: "w8", note: `Credits of ${days} days against those before, by week, and what a unit costs now.`, beside: link(to("usage"), "All figures") }, rows.length ? make("ul", { class: "events" }, rows) : nothing("No event was metered in this time."));
}

const nothing = (said) => make("p", { class: "nothing" }, said);
