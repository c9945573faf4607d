/** What the last days would have cost at other prices. */

import { send } from "./ask.js";
import { make, table } from "./elements.js";
import * as words from "./words.js";

const DAYS = 30;

export const simulate = (prices) => send("POST", "/v1/prices/simulate", { prices, days: DAYS });

/** Now against then, by event and model. */
export function simulated(answer) {
  if (!answer.count) return make("p", { class: "note" }, `Nothing of this was used in the last ${DAYS} days, so there is nothing to price again.`);
  const line = (name, { count, credits_now, credits_then, revenue_usd_now, revenue_usd_then, margin_percent_now, margin_percent_then }) => [name, words.number(count), `${words.compact(credits_now)} → ${words.compact(credits_then)}`, `${words.usd(revenue_usd_now)} → ${words.usd(revenue_usd_then)}`, `${words.percent(margin_percent_now)} → ${words.percent(margin_percent_then)}`];
  const rows = answer.rows.flatMap((row) => [line(row.event, row), ...(row.models.length > 1 ? row.models.map((one) => line(one.model ?? "without a model", one)) : [])]);
  const short = answer.wallets_short_then;
  return make(
    "div",
    {},
    table("Simulation", [{ name: "Event" }, ...["Events", "Credits", "Revenue", "Margin"].map((name) => ({ name, number: true }))], rows, { plain: true }),
    make("p", { class: "note" }, `The last ${DAYS} days, if as much had been asked for. ${short ? `${words.plural(short, "wallet")} would have run dry.` : "No wallet would have run dry."}`),
  );
}
