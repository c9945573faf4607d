/** Are we OK? Credits in and out, balances, margins, and what needs somebody. */

import { Ended, Refused, ask, query, wordsOf } from "./ask.js";
import { bands, bars, largest, spark } from "./charts.js";
import { card, link, make, nothing, pill } from "./elements.js";
import { to } from "./router.js";
import { SPANS, daysOf, spanOf } from "./spans.js";
import * as words from "./words.js";

const DAYS = [7, 30, 90, 365];
const DAYS_DEFAULT = 30;
const INTERVALS = { 7: "day", 30: "day", 90: "day", 365: "week" };
const LOW_SHOWN = 6;
const EVENTS_SHOWN = 8;
const MARGINS_SHOWN = 8;
const TOP = 40;
const TARGET_MARGIN_PERCENT = 50;
const IN_KINDS = ["top_up", "grant", "adjustment", "reversal", "dispute_reversal", "refund"];
const OUT_KINDS = ["expiry", "refund", "dispute", "void", "adjustment"];

export async function overview(root, { parameters, signal }) {
  const days = daysOf(parameters, DAYS, DAYS_DEFAULT);
  const interval = INTERVALS[days];
  const span = (back) => spanOf(days, interval, back);
  const get = (address, parameters) => ask(`/v1/${address}${query(parameters)}`, { signal });
  /** One that cannot be read leaves the others as they are. */
  const part = (address, parameters) =>
    get(address, parameters).catch((error) => {
      if (error instanceof Ended || (error instanceof Refused && error.status === 401)) throw error;
      return { failed: error };
    });
  // What needs somebody is always that of the last 30 days, whatever is looked at.
  const lately = spanOf(DAYS_DEFAULT, INTERVALS[DAYS_DEFAULT]);
  const [now, before, flows, usage, events, low, advice, endpoints, recent] = await Promise.all([
    get("overview", span(0)),
    part("overview", span(1)),
    part("flows", { ...span(0), interval }),
    part("usage", { ...span(0), interval, group_by: "event", top: TOP }),
    part("usage/events", span(0)),
    part("wallets", { state: "low", limit: LOW_SHOWN }),
    part("pricing/recommendations", { status: "pending", limit: 100 }),
    part("webhook-endpoints", {}),
    days === DAYS_DEFAULT ? null : part("usage/events", lately),
  ]);
  const labels = new Map((events.events ?? []).map(({ event, label }) => [event, label]));
  const whole = (title, className, parts, draw) => {
    const failed = parts.find((one) => one.failed);
    return failed ? card(title, { class: className }, nothing(wordsOf(failed.failed))) : draw();
  };
  root.append(
    make(
      "header",
      { class: "top" },
      make("div", {}, make("h1", { tabIndex: -1 }, "Overview"), make("p", { class: "faint" }, now.complete ? `As of ${words.time(new Date().toISOString())}; days are those of UTC.` : "Older entries are still being added up: these figures will grow.")),
      make("nav", { class: "spans", "aria-label": "Time" }, DAYS.map((of) => make("a", { href: to("overview", [], { days: of }), "aria-current": of === days ? "true" : null }, SPANS[of].name))),
    ),
    verdict({ now, events: (recent ?? events).events, advice, endpoints }),
    figures(now, before.failed ? null : before),
    make(
      "div",
      { class: "grid" },
      whole("Credits out by event", "w8", [usage, flows], () => creditsOut(usage, flows, interval, labels)),
      whole("Margin by event", "w4", [events], () => marginCard(events.events)),
      whole("Events", "w8", [events], () => eventsCard(events, days)),
      whole("Balances", "w4", [low], () => balances(now, low)),
      whole("Credits in", "w6", [flows], () => creditsIn(flows, interval)),
      whole("Top-up revenue against credits issued", "w6", [flows], () => moneyCard(flows, interval)),
    ),
  );
}

/* ---------- What needs somebody ---------- */

const named = ({ label, event }) => (label === event ? event : `${label} (${event})`);
const priceOf = ({ event }) => to("prices", [], { event });

/** What is wrong or may become so: `[kind, words, address]`, the worst first. */
function attention({ now, events, advice, endpoints }) {
  const found = [];
  const losing = (events ?? []).filter(({ loss_usd: loss }) => Number(loss) > 0).sort((one, other) => Number(other.loss_usd) - Number(one.loss_usd));
  for (const event of losing) {
    const since = event.repriced_at !== null && event.count_since_repriced !== null;
    const said = since ? `it cost ${words.usd(event.loss_usd)} more than it earned since its price was changed` : `it earned ${words.usd(event.revenue_usd)} and cost ${words.usd(event.cost_usd)} in 30 days`;
    found.push([event.is_large_loss ? "bad" : "wait", `${named(event)} loses money: ${said}.`, priceOf(event)]);
  }
  if (now.in_debt_wallets) found.push(["bad", `${words.plural(now.in_debt_wallets, "wallet is in debt and owes", "wallets are in debt and owe")} ${words.plural(now.credits_owed, "credit")}.`, to("wallets", [], { state: "in_debt" })]);
  for (const endpoint of endpoints.webhook_endpoints ?? []) {
    if (!endpoint.enabled && endpoint.disabled_reason) found.push(["bad", `The webhook endpoint ${endpoint.url} is disabled: ${endpoint.disabled_reason}`, to("webhooks")]);
    else if (endpoint.failing_since) found.push(["wait", `The webhook endpoint ${endpoint.url} has failed since ${words.time(endpoint.failing_since)}.`, to("webhooks")]);
  }
  for (const event of events ?? []) {
    const [last, week] = [event.weeks.at(-1).count, event.weeks.at(-2).count];
    if (event.is_spike) found.push(["wait", `${named(event)} spikes: ${words.number(last)} in the last seven days, ${words.number(week)} in those before.`, to("usage")]);
    if (event.is_drifting) found.push(["wait", `A unit of ${named(event)} costs ${words.percent(Math.abs(event.unit_cost_change_percent))} ${event.unit_cost_change_percent > 0 ? "more" : "less"} than before: ${words.usd(event.unit_cost_now_usd)}, from ${words.usd(event.unit_cost_before_usd)}.`, priceOf(event)]);
  }
  if (now.low_wallets) found.push(["wait", `${words.plural(now.low_wallets, "wallet is low", "wallets are low")}.`, to("wallets", [], { state: "low" })]);
  if (now.frozen_wallets) found.push(["", `${words.plural(now.frozen_wallets, "wallet is frozen", "wallets are frozen")}.`, to("wallets", [], { state: "frozen" })]);
  for (const event of (events ?? []).filter(({ count_since_repriced: count }) => count === 0)) found.push(["", `${named(event)} has a new price since ${words.time(event.repriced_at)}, and no whole hour of use at it yet.`, priceOf(event)]);
  const unknown = (events ?? []).filter(({ cost_usd: cost, credits }) => cost === null && credits > 0);
  if (unknown.length) found.push(["", `The cost of ${new Intl.ListFormat("en").format(unknown.slice(0, 3).map(named))}${unknown.length > 3 ? ` and ${unknown.length - 3} more` : ""} is unknown, and so is the margin.`, to("prices")]);
  const open = advice.recommendations?.length;
  if (open) found.push(["", `${words.plural(open, "recommendation on prices waits", "recommendations on prices wait")} for a decision.`, to("prices")]);
  for (const one of [advice, endpoints]) if (one.failed) found.push(["wait", wordsOf(one.failed), to("overview")]);
  if (!events) found.push(["wait", "How events go could not be read.", to("overview")]);
  return found;
}

function verdict(known) {
  const needs = attention(known);
  const count = (kind) => needs.filter(([of]) => of === kind).length;
  const [bad, wait] = [count("bad"), count("wait")];
  const rest = needs.length - bad;
  const title = bad ? `${words.plural(bad, "thing needs", "things need")} you now${rest ? `, ${words.number(rest)} more to look at` : ""}` : wait ? `Sound, with ${words.plural(rest, "thing")} to look at` : "All is well";
  const order = ["bad", "wait", ""];
  const items = [...needs].sort(([one], [other]) => order.indexOf(one) - order.indexOf(other)).map(([kind, said, address]) => make("li", { class: kind }, make("a", { href: address }, said)));
  return make(
    "section",
    { class: `card verdict ${bad ? "bad" : wait ? "wait" : "good"}`, "aria-labelledby": "verdict" },
    make("h2", { id: "verdict" }, title),
    items.length ? make("ul", {}, items) : make("p", {}, "Nothing loses money, spikes, drifts, fails or owes."),
  );
}

/* ---------- Figures ---------- */

function figures(now, before) {
  const against = (one, other) => (other ? `${words.change(words.changeOf(other, one))} against as long before` : "nothing as long before");
  const compared = (name) => (before ? against(now[name], before[name]) : "");
  const revenue = Object.entries(now.top_up_revenue);
  const [empty, owing] = [now.balances.find(({ up_to: limit }) => limit === 0).wallets, now.in_debt_wallets];
  const paid = revenue.map(([currency, amount]) => [make("span", { class: revenue.length > 1 ? "one-of" : "" }, words.money({ [currency]: amount })), make("span", { class: "small faint change" }, before ? against(amount, before.top_up_revenue[currency] ?? 0) : "")]);
  const margin = now.margin_percent === null ? (now.cost_usd === null ? "no cost is known" : `earned ${words.usd(now.revenue_usd)}, cost ${words.usd(now.cost_usd)}`) : `earned ${words.usd(now.revenue_usd)}, cost ${words.usd(now.cost_usd)}${now.margin_covers_percent < 100 ? `; of ${words.percent(now.margin_covers_percent)} of what was earned` : ""}${before?.margin_percent === null || !before ? "" : `; ${words.percent(before.margin_percent)} as long before`}`;
  const tiles = [
    ["Credits out", words.compact(now.credits_out), `${words.plural(now.events, "event")}; ${compared("credits_out")}`],
    ["Credits in", words.compact(now.credits_in), Object.entries(now.credits_in_by).map(([kind, credits]) => `${words.KINDS[kind].toLowerCase()} ${words.compact(credits)}`).join(", ") || "nothing came in"],
    ["Top-up revenue", revenue.length ? paid.flat() : words.money({}), revenue.length > 1 ? "unlike currencies are not added up" : revenue.length ? "" : "nobody paid"],
    ["Margin on use", words.percent(now.margin_percent), margin, now.margin_percent !== null && now.margin_percent < 0],
    ["Wallets", words.compact(now.wallets), [`${words.number(now.low_wallets)} low`, `${words.number(empty)} empty`, owing && `${words.number(owing)} in debt`, now.frozen_wallets && `${words.number(now.frozen_wallets)} frozen`].filter(Boolean).join(", ")],
  ];
  return make("dl", { class: "tiles" }, tiles.map(([name, value, said, bad]) => make("div", { class: "card tile" }, make("dt", {}, name), make("dd", { class: `number figure ${bad ? "bad" : ""}` }, value), said && make("dd", { class: "small faint" }, said))));
}

function axis(rows, interval) {
  const last = rows.length - 1;
  return { labels: rows.map(({ period }) => words.period(period, interval)), names: rows.map(({ period }, at) => `${words.periodInFull(period, interval)}${at === last ? ", so far" : ""}`), sofar: last };
}

function creditsOut(usage, flows, interval, labels) {
  const byEvent = new Map();
  const places = new Map(flows.rows.map(({ period }, at) => [period, at]));
  for (const { period, event, credits, others } of usage.rows) {
    if ((event === null && !others) || !places.has(period)) continue;
    const name = others ? null : event;
    const values = byEvent.get(name) ?? byEvent.set(name, new Array(flows.rows.length).fill(0)).get(name);
    values[places.get(period)] += Math.max(0, credits);
  }
  const series = largest([...byEvent].map(([name, values]) => ({ name: name === null ? "Others" : (labels.get(name) ?? name), values, rest: name === null })), "Other events");
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
    bars({ title: `Top-up revenue in ${currency.toUpperCase()}`, ...axis(flows.rows, interval), series: [{ name: currency.toUpperCase(), color: 1, values: flows.rows.map((row) => Math.max(0, row.top_up_revenue[currency] ?? 0)) }], words: (value) => words.money({ [currency]: value }), axisWords: (value) => words.moneyOnAxis(value, currency), height: 150 }),
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
  const limits = now.balances.map(({ up_to: limit }) => limit);
  const labels = limits.map((limit, at) => (limit === null ? `>${words.compact(limits[at - 1])}` : limit < 0 ? "debt" : words.compact(limit)));
  const names = limits.map((limit, at) => (limit === null ? `Above ${words.number(limits[at - 1])} credits` : limit < 0 ? "In debt" : limit === 0 ? "No credits" : `${words.number(limits[at - 1] + 1)} to ${words.number(limit)} credits`));
  const rows = low.wallets.map((wallet) => make("li", {}, link(to("wallets", [wallet.customer_id]), wallet.name ?? wallet.customer_id), make("span", { class: "number" }, words.number(wallet.balance)), make("span", { class: "faint number" }, `below ${words.number(wallet.low_balance_threshold)}`)));
  return card(
    "Balances",
    { class: "w4", beside: link(to("wallets"), "All wallets") },
    bars({ title: "Wallets by balance", labels, names, first: "Balance", series: [{ name: "Wallets", color: 1, values: now.balances.map(({ wallets }) => wallets) }], unit: "wallets", height: 190, marked: 2 }),
    make("h3", {}, "Low wallets"),
    rows.length ? make("ul", { class: "lows" }, rows) : nothing("No wallet is below its threshold."),
    now.low_wallets > rows.length && make("p", { class: "small" }, link(to("wallets", [], { state: "low" }), `All ${words.number(now.low_wallets)} low wallets`)),
  );
}

/* ---------- Events ---------- */

function marginCard(events) {
  const shown = events.filter(({ margin_percent: margin }) => margin !== null).slice(0, MARGINS_SHOWN);
  const note = `Where each event is, from where to where its weeks went, and from the first of them to the last. The line is a margin of ${TARGET_MARGIN_PERCENT} %.`;
  if (!shown.length) return card("Margin by event", { class: "w4" }, nothing("No event has both a known cost and revenue yet. Put costs on events under Prices."));
  const rows = shown.map((one) => {
    const weeks = one.weeks.map(({ margin_percent: margin }) => margin).filter((margin) => margin !== null);
    const way = weeks.length > 1 ? `${words.percent(weeks[0])} → ${words.percent(weeks.at(-1))}` : "";
    return { name: one.label, event: one.event, low: one.margin_low_percent, high: one.margin_high_percent, value: one.margin_percent, words: words.percent(one.margin_percent), way };
  });
  return card("Margin by event", { class: "w4", note }, bands({ rows, target: TARGET_MARGIN_PERCENT, from: -100, to: 100, href: (event) => priceOf({ event }) }), make("p", { class: "scale faint" }, make("span", {}, "−100 %"), make("span", {}, "0"), make("span", {}, "100 %")));
}

function eventsCard({ events, credits_of_others: others }, days) {
  const rows = events.slice(0, EVENTS_SHOWN).map((one) => {
    const loses = Number(one.loss_usd) > 0;
    const marks = [one.is_spike && pill("Spike", "wait"), one.is_drifting && pill(`Cost ${words.change(one.unit_cost_change_percent)}`, one.unit_cost_change_percent > 0 ? "bad" : "good"), loses && pill("Loses money", "bad")].filter(Boolean);
    const unitCost = one.unit_cost_now_usd ?? one.weeks.findLast(({ unit_cost_usd: cost }) => cost !== null)?.unit_cost_usd ?? null;
    return make(
      "li",
      {},
      make("div", {}, make("span", {}, make("a", { href: priceOf(one) }, make("b", {}, one.label)), " ", make("code", { class: "faint" }, one.event)), marks.length > 0 && make("span", { class: "marks" }, marks)),
      spark(one.weeks.map(({ credits }) => credits)),
      make("div", { class: "number right" }, make("b", {}, words.compact(one.credits)), make("span", { class: "faint small" }, words.change(one.change_percent))),
      make("div", { class: "number right" }, make("span", {}, words.usd(unitCost)), make("span", { class: "faint small" }, "a unit costs")),
    );
  });
  return card("Events", { class: "w8", note: `Credits of ${days} days against as long before, by week, and what a unit costs now.`, beside: link(to("usage"), "All figures") }, rows.length ? make("ul", { class: "events" }, rows) : nothing("No event was metered in this time."), others > 0 && make("p", { class: "note" }, `${words.compact(others)} credits of other events are not looked at one by one.`));
}
