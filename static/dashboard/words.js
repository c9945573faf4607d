/** Numbers, money and times, as words. */

import { formatMoney } from "/static/widget.js";

const LOCALE = "en";
const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;

const whole = new Intl.NumberFormat(LOCALE);
const short = new Intl.NumberFormat(LOCALE, { notation: "compact", maximumFractionDigits: 1 });
const fine = new Intl.NumberFormat(LOCALE, { style: "currency", currency: "USD", minimumFractionDigits: 2, maximumSignificantDigits: 4, roundingPriority: "morePrecision" });
const cents = new Intl.NumberFormat(LOCALE, { style: "currency", currency: "USD" });
const dayAndTime = new Intl.DateTimeFormat(LOCALE, { dateStyle: "medium", timeStyle: "short" });
const dayAlone = new Intl.DateTimeFormat(LOCALE, { day: "numeric", month: "short", timeZone: "UTC" });
const dayOfYear = new Intl.DateTimeFormat(LOCALE, { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
const hourOfDay = new Intl.DateTimeFormat(LOCALE, { weekday: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone: "UTC" });
const relative = new Intl.RelativeTimeFormat(LOCALE, { numeric: "auto" });

const minus = (text) => text.replace("-", "−");

export const number = (value) => minus(whole.format(value));
export const compact = (value) => minus((Math.abs(value) < 10_000 ? whole : short).format(value));
export const signed = (value) => (value > 0 ? `+${whole.format(value)}` : number(value));
export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

/** "37.5 %", "–" where it is not known. */
export const percent = (value) => (value === null ? "–" : `${number(value)}\u00a0%`);

/** "▲ 12 %" of a change; what was not there before has none. */
export const change = (value) => (value === null ? "not there before" : value === 0 ? "unchanged" : `${value > 0 ? "▲" : "▼"}\u00a0${whole.format(Math.abs(value))}\u00a0%`);

/** By how many percent a value lies above an earlier one, null where there was none. */
export const changeOf = (before, now) => (before > 0 ? Math.round(((now - before) * 1000) / before) / 10 : null);

/** Dollars of the server's decimal text, cents where they are many and finer where they are few. */
export function usd(text) {
  if (text === null || text === undefined) return "–";
  const value = Number(text);
  return minus((Math.abs(value) >= 1 || value === 0 ? cents : fine).format(value));
}

/** Money in minor units by currency: "$10.00 and €8.00". */
export function money(amounts) {
  const words = Object.entries(amounts).map(([currency, amount]) => minus(formatMoney(amount, currency, LOCALE)));
  return words.length ? new Intl.ListFormat(LOCALE).format(words) : formatMoney(0, "usd", LOCALE);
}

/** How many minor units one unit of a currency has, as Stripe counts them. */
function minorUnits(currency) {
  const shown = formatMoney(10 ** 9, currency, LOCALE).replace(/[^\d.]|\.(?=.*\.)/g, "");
  return Math.round(10 ** 9 / Number(shown));
}

/** "120.00" of 12000 minor units, for a field, and back; null of what is no amount. */
export const majorText = (amount, currency) => (amount / minorUnits(currency)).toFixed(Math.round(Math.log10(minorUnits(currency))));
export function minorOf(text, currency) {
  const value = /^\d+([.,]\d+)?$/.test(text) ? Number(text.replace(",", ".")) * minorUnits(currency) : NaN;
  return Number.isFinite(value) && Math.abs(value - Math.round(value)) < 1e-6 ? Math.round(value) : null;
}

/** The same without cents where there are none, for an axis. */
export const moneyOnAxis = (amount, currency) => formatMoney(amount, currency, LOCALE).replace(/\.00$/, "");

export const time = (text) => (text ? dayAndTime.format(new Date(text)) : "–");

/** A period's name for an axis, and in full. */
export const period = (text, interval) => (interval === "hour" ? hourOfDay : dayAlone).format(new Date(text));
export const periodInFull = (text, interval) =>
  interval === "hour" ? `${dayAlone.format(new Date(text))}, ${hourOfDay.format(new Date(text))} UTC` : `${interval === "week" ? "Week of " : ""}${dayOfYear.format(new Date(text))}`;

/** "3 minutes ago". */
export function ago(text) {
  if (!text) return "–";
  const minutes = Math.round((new Date(text) - Date.now()) / MINUTE_MS);
  if (Math.abs(minutes) < 60) return relative.format(minutes, "minute");
  const hours = Math.round(minutes / 60);
  return Math.abs(hours) < 48 ? relative.format(hours, "hour") : relative.format(Math.round((minutes * MINUTE_MS) / DAY_MS), "day");
}

/** Kinds of entries, for people. */
export const KINDS = {
  event: "Actions",
  reversal: "Reversed",
  grant: "Granted",
  top_up: "Bought",
  refund: "Refunded",
  dispute: "Disputed",
  dispute_reversal: "Dispute won",
  expiry: "Expired",
  adjustment: "Corrected",
  void: "Voided",
  hold: "Held",
  release: "Released",
  hold_expiry: "Hold ran out",
  settings: "Settings",
};

/** The kind of an entry as one word in its line. */
export const kindWord = (kind) => (kind === "event" ? "Action" : (KINDS[kind] ?? kind));
