/** API keys: who may call this server. */

import { ask, path, send } from "./ask.js";
import { button, card, make, pill, table, tell } from "./elements.js";
import { confirm, dialog, field, reveal } from "./forms.js";
import * as words from "./words.js";

const SCOPES = [["meter", "meter: what a product’s backend needs"], ["prices", "prices: prices, packs, costs and advice"], ["admin", "admin: everything"]];

export async function keys(root, { signal, again }) {
  const { keys: all } = await ask("/v1/keys", { signal });
  const changed = (said) => {
    tell(said);
    again();
  };
  const columns = [{ name: "Name" }, { name: "Scope" }, { name: "Made" }, { name: "State" }, { name: "" }];
  const rows = [...all]
    .sort((one, other) => Number(one.revoked_at !== null) - Number(other.revoked_at !== null))
    .map((key) => [key.name, key.scope, words.time(key.created_at), key.revoked_at ? pill(`Revoked ${words.time(key.revoked_at)}`) : pill("In use", "good"), key.revoked_at ? "" : named(button("Revoke", () => revoke(key, changed), "slim"), key)]);
  root.append(
    make("header", { class: "top" }, make("div", {}, make("h1", { tabIndex: -1 }, "Keys"), make("p", { class: "faint" }, "Kept as hashes, shown once. The key in CHARGLY_API_KEY is not in this list.")), make("div", { class: "actions" }, button("New key", () => keyDialog(changed), "primary"))),
    card("API keys", {}, rows.length ? table("API keys", columns, rows) : make("p", { class: "nothing" }, "None was made yet.")),
  );
}

const named = (node, { name }) => {
  node.setAttribute("aria-label", `Revoke ${name}`);
  return node;
};

const revoke = (key, changed) =>
  confirm(`Revoke ${key.name}?`, "Whoever calls with it is refused within five seconds. It cannot be undone.", "Revoke", async () => {
    await ask(path("keys", key.id), { method: "DELETE" });
    changed(`${key.name} is revoked.`);
  });

function keyDialog(changed) {
  dialog({
    title: "New key",
    submit: "Make it",
    parts: [field({ name: "name", label: "Name", required: true, maxlength: 255, hint: "Who calls with it, such as backend." }), field({ name: "scope", label: "Scope", kind: "select", value: "meter", options: SCOPES })],
    async onSubmit(given) {
      const { key } = await send("POST", "/v1/keys", given);
      changed("The key is made.");
      reveal(`The key ${given.name}`, "It is shown this once: keep it where your backend’s secrets are.", key);
    },
  });
}
