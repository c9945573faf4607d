/** Spans of time that views show: whole days, weeks and months in UTC, the last of them so far. */

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
const MONDAY = 4;

/** The spans of a view, by their days. */
export const SPANS = {
  1: { name: "24 hours", interval: "hour" },
  7: { name: "7 days", interval: "day" },
  30: { name: "30 days", interval: "day" },
  90: { name: "90 days", interval: "week" },
  365: { name: "A year", interval: "month" },
};

/**
 * From when until when, by days: so many that today is the last of them. Both are on whole hours.
 *
 * @param back how many times as long before
 */
export function spanOf(days, interval, back = 0) {
  const until = Math.ceil(Date.now() / HOUR_MS) * HOUR_MS;
  const since = interval === "hour" ? until - days * DAY_MS : beginOf(until - 1 - (days - 1) * DAY_MS, interval);
  const long = until - since;
  return { from: new Date(since - back * long).toISOString(), to: new Date(until - back * long).toISOString() };
}

/** When the day, week (from Monday) or month of a time began, in UTC. */
function beginOf(at, interval) {
  const day = Math.floor(at / DAY_MS);
  if (interval === "week") return (day - ((day + MONDAY - 1) % 7)) * DAY_MS;
  if (interval === "month") {
    const date = new Date(at);
    return Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), 1);
  }
  return day * DAY_MS;
}

/** Which of the spans an address asks for. */
export const daysOf = (parameters, known, fallback) => (known.includes(Number(parameters.get("days"))) ? Number(parameters.get("days")) : fallback);
