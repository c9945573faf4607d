/** API keys: who may call this server. */

import { Unanswered, ask, path, query, send } from "./ask.js";
import { addRows, button, card, make, named, nothing, pill, table, tell } from "./elements.js";
import { confirm, dialog, field, reveal } from "./forms.js";
import * as words from "./words.js";

const PAGE = 50;
const COLUMNS = [{ name: "Name" }, { name: "Scope" }, { name: "Made" }, { name: "State" }, { name: "" }];
const SCOPES = [["meter", "meter: what a product’s backend needs"], ["prices", "prices: prices, packs, costs and advice"], ["admin", "admin: everything"]];

export async function keys(root, { signal, again }) {
  const changed = (said) => {
    tell(said);
    again();
  };
  const row = (key) => [key.name, key.scope, words.time(key.created_at), key.revoked_at ? pill(`Revoked ${words.time(key.revoked_at)}`) : pill("In use", "good"), key.revoked_at ? "" : named(button("Revoke", () => revoke(key, changed), "slim"), `Revoke ${key.name}`)];
  const place = make("div", { class: "list" });
  const read = async (cursor = null) => {
    const page = await ask(`/v1/keys${query({ limit: PAGE, cursor })}`, { signal });
    const rows = page.keys.map(row);
    const more = page.next_cursor ? make("p", { class: "more" }, button("More", () => read(page.next_cursor))) : "";
    if (!cursor) return place.replaceChildren(rows.length ? table("API keys", COLUMNS, rows) : nothing("None was made yet."), more);
    place.querySelector(".more").replaceWith(more);
    addRows(place, COLUMNS, rows);
  };
  await read();
  root.append(
    make("header", { class: "top" }, make("div", {}, make("h1", { tabIndex: -1 }, "Keys"), make("p", { class: "faint" }, "Kept as hashes, shown once. The key in CHARGLY_API_KEY is not in this list.")), make("div", { class: "actions" }, button("New key", () => keyDialog(changed), "primary"))),
    card("API keys", {}, place),
  );
}

const revoke = (key, changed) =>
  confirm(`Revoke ${key.name}?`, "Whoever calls with it is refused within five seconds, this page too if it is the one that you are signed in with. It cannot be undone.", "Revoke", async () => {
    await ask(path("keys", key.id), { method: "DELETE" });
    changed(`${key.name} is revoked.`);
  });

function keyDialog(changed) {
  dialog({
    title: "New key",
    submit: "Make it",
    parts: [field({ name: "name", label: "Name", required: true, maxlength: 255, hint: "Who calls with it, such as backend." }), field({ name: "scope", label: "Scope", kind: "select", value: "meter", options: SCOPES })],
    async onSubmit(given) {
      try {
        const { key } = await send("POST", "/v1/keys", given);
        reveal(`The key ${given.name}`, "It is shown this once: keep it where your backend’s secrets are.", key, () => changed(`The key ${given.name} is made.`));
      } catch (error) {
        if (error instanceof Unanswered) throw new Unanswered("No answer came. If the key is in the list now, nobody has its secret: revoke it, and make another.");
        throw error;
      }
    },
  });
}
