/** Webhook endpoints, and what was sent to each. */

import { Ended, ask, path, query, send, wordsOf } from "./ask.js";
import { addRows, button, card, make, nothing, pill, table, tell } from "./elements.js";
import { confirm, dialog, field, reveal } from "./forms.js";
import * as words from "./words.js";

const PAGE = 25;
const ALL = "*";
const STATES = new Map([["pending", ["Waits", "wait"]], ["delivered", ["Delivered", "good"]], ["failed", ["Failed", "bad"]]]);
const COLUMNS = [{ name: "Type" }, { name: "Customer" }, { name: "State" }, { name: "Attempts", number: true }, { name: "Answer", wide: true }, { name: "Made" }, { name: "" }];

export async function webhooks(root, { signal, again }) {
  const { webhook_endpoints: endpoints } = await ask("/v1/webhook-endpoints", { signal });
  const changed = (said) => {
    tell(said);
    again();
  };
  const sent = await Promise.all(endpoints.map((endpoint) => endpointCard(endpoint, signal, changed)));
  root.append(
    make("header", { class: "top" }, make("div", {}, make("h1", { tabIndex: -1 }, "Webhooks"), make("p", { class: "faint" }, "Where your backend is told of what happens.")), make("div", { class: "actions" }, button("New endpoint", () => endpointDialog(null, changed), "primary"))),
    ...(sent.length ? sent : [card("No endpoint yet", {}, nothing("Add one, and it hears of low balances, payments and price changes."))]),
  );
}

async function endpointCard(endpoint, signal, changed) {
  const address = path("webhook-endpoints", endpoint.id);
  const state = !endpoint.enabled ? pill("Disabled", "bad") : endpoint.failing_since ? pill(`Failing since ${words.time(endpoint.failing_since)}`, "wait") : pill("Enabled", "good");
  const act = async (deed, said) => {
    await deed();
    changed(said);
  };
  const rotate = () =>
    dialog({
      title: "A new secret?",
      note: "Both sign for a day, so that your backend can change over.",
      submit: "Rotate",
      async onSubmit() {
        const { secret } = await send("POST", `${address}/rotate`);
        reveal("The new secret", "It is shown this once.", secret, () => changed("The secret is rotated."));
      },
    });
  const remove = () =>
    confirm("Delete this endpoint?", "Its deliveries go with it. What is under way may still arrive.", "Delete", async () => {
      await ask(address, { method: "DELETE" });
      changed("The endpoint is deleted.");
    });
  const controls = make(
    "div",
    { class: "actions" },
    button("Send a test", () => act(() => send("POST", `${address}/test`), "A test is on its way."), "slim"),
    button("Edit", () => endpointDialog(endpoint, changed), "slim"),
    button(endpoint.enabled ? "Disable" : "Enable", () => act(() => send("PATCH", address, { enabled: !endpoint.enabled }), endpoint.enabled ? "Disabled." : "Enabled."), "slim"),
    button("Rotate the secret", rotate, "slim"),
    button("Delete", remove, "slim"),
  );
  const deliveries = await deliveriesOf(address, signal);
  return card(
    endpoint.url,
    { beside: state, class: "endpoint", note: [endpoint.description, endpoint.events[0] === ALL ? "Hears everything." : `Hears ${endpoint.events.join(", ")}.`].filter(Boolean).join(" · ") },
    endpoint.disabled_reason && make("p", { class: "error" }, endpoint.disabled_reason),
    controls,
    deliveries,
  );
}

async function deliveriesOf(address, signal) {
  const place = make("div", { class: "list" });
  const status = make("select", { class: "input slim", "aria-label": "State of deliveries" }, [["", "All deliveries"], ["pending", "Waiting"], ["delivered", "Delivered"], ["failed", "Failed"]].map(([of, name]) => make("option", { value: of }, name)));
  let asked = 0;
  const retry = async ({ id }) => {
    await send("POST", `${address}/deliveries/${encodeURIComponent(id)}/retry`);
    tell("It is sent again.");
    await read();
  };
  const row = (one) => {
    const [said, kind] = STATES.get(one.status) ?? [one.status, ""];
    const payload = () => dialog({ title: one.type, parts: [make("pre", { class: "payload", tabIndex: 0 }, JSON.stringify(one.payload, null, 2))], wide: true });
    return [
      make("code", {}, one.type),
      one.customer_id ?? "–",
      pill(said, kind),
      words.number(one.attempts),
      [one.answer_status, one.error, one.status === "pending" && one.next_attempt_at && `again ${words.ago(one.next_attempt_at)}`].filter(Boolean).join(" · ") || "–",
      words.time(one.created_at),
      make("span", { class: "actions" }, button("Payload", payload, "slim"), button("Send again", () => retry(one), "slim")),
    ];
  };
  const read = async (cursor = null) => {
    const mine = (asked += 1);
    const page = await ask(`${address}/deliveries${query({ status: status.value, limit: PAGE, cursor })}`, { signal });
    if (mine !== asked) return; // another state was chosen meanwhile
    const rows = page.deliveries.map(row);
    const more = page.next_cursor ? make("p", { class: "more" }, button("Older", () => read(page.next_cursor))) : "";
    if (!cursor) return place.replaceChildren(rows.length ? table("Deliveries", COLUMNS, rows) : nothing("Nothing was sent yet."), more);
    place.querySelector(".more").replaceWith(more);
    addRows(place, COLUMNS, rows);
  };
  status.addEventListener("change", () => read().catch((error) => error instanceof Ended || tell(wordsOf(error), "bad")));
  await read();
  return make("div", { class: "deliveries" }, make("header", {}, make("h3", {}, "Deliveries"), make("div", { class: "beside" }, status, button("Read again", () => read(), "slim"))), place);
}

function endpointDialog(endpoint, changed) {
  dialog({
    title: endpoint ? "Endpoint" : "New endpoint",
    submit: "Save",
    parts: [
      field({ name: "url", label: "Address", kind: "url", value: endpoint?.url ?? "", required: true, maxlength: 2000, placeholder: "https://" }),
      field({ name: "events", label: "Types", value: (endpoint?.events ?? [ALL]).join(", "), required: true, hint: "Such as wallet.low, payment.landed; * is all of them." }),
      field({ name: "description", label: "Your note", value: endpoint?.description ?? "", maxlength: 500 }),
    ],
    async onSubmit({ url, events, description }) {
      const body = { url, events: events.split(",").map((type) => type.trim()).filter(Boolean), description };
      if (endpoint) {
        await send("PATCH", path("webhook-endpoints", endpoint.id), body);
        return changed("Saved.");
      }
      const { secret } = await send("POST", "/v1/webhook-endpoints", body);
      return reveal("The endpoint’s secret", "It signs every message, and is shown this once.", secret, () => changed("The endpoint is made."));
    },
  });
}
