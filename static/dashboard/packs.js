/** What customers can buy. */

import { Refused, ask, path, send } from "./ask.js";
import { button, card, make, named, nothing, table, tell } from "./elements.js";
import { confirm, dialog, field, pairs } from "./forms.js";
import * as words from "./words.js";

export async function packs(root, { signal, again }) {
  const { packs: onSale } = await ask("/v1/packs", { signal });
  const changed = (said) => {
    tell(said);
    again();
  };
  const columns = [{ name: "Pack" }, { name: "Credits", number: true }, { name: "Bonus", number: true }, { name: "Price", number: true }, { name: "A credit", number: true }, { name: "Stripe price" }, { name: "History" }, { name: "" }];
  const rows = onSale.map((pack) => [
    make("span", { class: "stacked" }, make("b", {}, pack.name), make("code", { class: "faint small" }, pack.code)),
    words.number(pack.credits),
    bonus(pack),
    price(pack),
    pack.currency === "usd" ? words.usd(String(pack.amount / 100 / pack.credits)) : "–",
    pack.stripe_price ? make("code", { class: "small" }, pack.stripe_price) : "–",
    named(button(`v${pack.version}`, () => packHistory(pack), "slim"), `History, now v${pack.version}: ${pack.name}`),
    make("span", { class: "actions" }, named(button("Edit", () => packDialog(pack, changed), "slim"), `Edit: ${pack.name}`), named(button("Take off sale", () => end(pack, changed), "slim"), `Take off sale: ${pack.name}`)),
  ]);
  root.append(
    make("header", { class: "top" }, make("div", {}, make("h1", { tabIndex: -1 }, "Packs"), make("p", { class: "faint" }, "A checkout that was begun keeps the terms that its buyer saw.")), make("div", { class: "actions" }, button("New pack", () => packDialog(null, changed, onSale), "primary"))),
    card("On sale", {}, rows.length ? table("Packs on sale", columns, rows) : nothing("No pack is on sale, so nobody can top up.")),
  );
}

const bonus = ({ bonus_credits: credits, bonus_days: days }) => (credits ? make("span", { class: "stacked" }, words.number(credits), days && make("span", { class: "faint small" }, `for ${words.plural(days, "day")}`)) : "–");

const price = (pack) =>
  make(
    "span",
    { class: "stacked" },
    words.money({ [pack.currency]: pack.amount }),
    make("span", { class: "faint small" }, Object.entries(pack.currencies).map(([currency, amount]) => words.money({ [currency]: amount })).join(", ")),
    pack.custom_amount && make("span", { class: "faint small" }, `or ${words.money({ [pack.currency]: pack.custom_amount.min })} to ${words.money({ [pack.currency]: pack.custom_amount.max })}`),
  );

async function packHistory({ code, name }) {
  const { versions } = await ask(path("packs", code, "versions"));
  const columns = [{ name: "Version" }, { name: "Name" }, { name: "Credits", number: true }, { name: "Bonus", number: true }, { name: "Price", number: true }, { name: "From" }];
  const rows = versions.map((one) => [`${one.version}`, one.archived ? "taken off sale" : one.name, words.number(one.credits), bonus(one), price(one), words.time(one.created_at)]);
  dialog({ title: `Versions of ${name}`, parts: [table("Versions", columns, rows)], wide: true });
}

const end = (pack, changed) =>
  confirm(`Take ${pack.name} off sale?`, "Checkouts that were begun can still be paid, and what was bought stays. An automatic top-up with this pack stops.", "Take off sale", async () => {
    await ask(path("packs", pack.code), { method: "DELETE" });
    changed(`${pack.name} is off sale.`);
  });

/** @param onSale the packs that there are, of which a new one is none */
function packDialog(pack, changed, onSale = []) {
  const number = (name, label, value, more = {}) => field({ name, label, kind: "number", min: 1, step: 1, value: value ?? "", ...more });
  const money = (name, label, value, more = {}) => field({ name, label, inputmode: "decimal", value: value === null || value === undefined ? "" : words.majorText(value, pack?.currency ?? "usd"), ...more });
  dialog({
    title: pack ? `Pack ${pack.name}` : "New pack",
    note: pack ? `Version ${pack.version} is on sale. Saving makes the next one.` : null,
    submit: "Save",
    wide: true,
    parts: [
      pack ? null : field({ name: "code", label: "Code", required: true, maxlength: 100, hint: "Letters, digits, _ and -; it stays." }),
      field({ name: "name", label: "Name", value: pack?.name ?? "", required: true, maxlength: 255 }),
      number("credits", "Credits", pack?.credits, { required: true }),
      money("amount", "Price", pack?.amount, { required: true, hint: "In the currency beside it, such as 10.00." }),
      field({ name: "currency", label: "Currency", value: pack?.currency ?? "usd", required: true, minlength: 3, maxlength: 3 }),
      pairs({ name: "currencies", label: "In other currencies", first: { label: "Currency", attributes: { maxLength: 3 } }, second: { label: "Price", attributes: { inputMode: "decimal" } }, rows: Object.entries(pack?.currencies ?? {}).map(([currency, amount]) => [currency, words.majorText(amount, currency)]), add: "Add a currency" }),
      field({ name: "bonus_credits", label: "Bonus credits", kind: "number", min: 0, step: 1, value: pack?.bonus_credits ?? 0, hint: "Promotional, on top." }),
      number("bonus_days", "Bonus lasts, in days", pack?.bonus_days, { hint: "Empty: for ever." }),
      money("custom_min", "Buyer may choose from", pack?.custom_amount?.min, { hint: "Both or neither." }),
      money("custom_max", "Buyer may choose up to", pack?.custom_amount?.max),
      field({ name: "stripe_price", label: "Stripe price", value: pack?.stripe_price ?? "", maxlength: 255, hint: "A subscription’s invoice over this price grants the pack." }),
      field({ name: "expires_with_period", label: "What a subscription grants ends with its period", kind: "check", value: pack?.expires_with_period ?? true }),
    ].filter(Boolean),
    async onSubmit({ code, amount, custom_min: least, custom_max: most, currencies, currency: written, bonus_credits: bonus, ...given }) {
      const currency = written?.toLowerCase() ?? "";
      if (!/^[a-z]{3}$/.test(currency)) throw refused("currency", "Three letters, such as usd.");
      if (onSale.some((known) => known.code === code)) throw refused("code", "A pack on sale has it: edit that one.");
      const minor = (text, of, name) => {
        const found = text === null ? null : /^[a-z]{3}$/.test(of) ? words.minorOf(text, of) : null;
        if (text !== null && found === null) throw refused(name, `“${text}” is no amount in ${of.toUpperCase()}.`);
        return found;
      };
      const [min, max] = [minor(least, currency, "custom_min"), minor(most, currency, "custom_max")];
      const body = {
        ...given,
        amount: minor(amount, currency, "amount"),
        currency,
        bonus_credits: bonus ?? 0,
        currencies: Object.fromEntries(currencies.map(([of, text]) => [of.toLowerCase(), minor(text, of.toLowerCase(), "currencies")])),
        custom_amount: min === null && max === null ? null : { min, max },
        expected_version: pack?.version ?? null,
      };
      await send("PUT", path("packs", pack?.code ?? code), body);
      changed(`${given.name} is on sale.`);
    },
  });
}

const refused = (field, message) => new Refused(400, { code: "invalid_request", message, field });
