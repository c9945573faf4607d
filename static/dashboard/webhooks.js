/** Webhook endpoints, and what was sent to each. */

import { ask, path, query, send, wordsOf } from "./ask.js";
import { button, card, make, pill, table, tell } from "./elements.js";
import { confirm, dialog, field, reveal } from "./forms.js";
import * as words from "./words.js";

const PAGE = 25;
const ALL = "*";
const STATES = { pending: ["Waits", "wait"], delivered: ["Delivered", "good"], failed: ["Failed", "bad"] };

export async function webhooks(root, { signal, again }) {
  const { webhook_endpoints: endpoints } = await ask("/v1/webhook-endpoints", { signal });
  const changed = (said, kind) => {
    tell(said, kind);
    again();
  };
  const sent = await Promise.all(endpoints.map((endpoint) => endpointCard(endpoint, signal, changed)));
  root.append(
    make("header", { class: "top" }, make("div", {}, make("h1", { tabIndex: -1 }, "Webhooks"), make("p", { class: "faint" }, "Where your backend is told of what happens.")), make("div", { class: "actions" }, button("New endpoint", () => endpointDialog(null, changed), "primary"))),
    ...(sent.length ? sent : [card("No endpoint yet", {}, make("p", { class: "nothing" }, "Add one, and it hears of low balances, payments and price changes."))]),
  );
}

async function endpointCard(endpoint, signal, changed) {
  const address = path("webhook-endpoints", endpoint.id);
  const state = !endpoint.enabled ? pill("Disabled", "bad") : endpoint.failing_since ? pill(`Failing since ${words.time(endpoint.failing_since)}`, "wait") : pill("Enabled", "good");
  const act = async (deed, said) => {
    try {
      await deed();
      changed(said);
    } catch (error) {
      tell(wordsOf(error), "bad");
    }
  };
  const rotate = () =>
    dialog({
      title: "A new secret?",
      note: "Both sign for a day, so that your backend can change over.",
      submit: "Rotate",
      async onSubmit() {
        const { secret } = await send("POST", `${address}/rotate`);
        changed("The secret is rotated.");
        reveal("The new secret", "It is shown this once.", secret);
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
  const place = make("div", {});
  const status = make("select", { class: "input slim", "aria-label": "State of deliveries" }, [["", "All deliveries"], ["pending", "Waiting"], ["delivered", "Delivered"], ["failed", "Failed"]].map(([of, name]) => make("option", { value: of }, name)));
  let shown = [];
  const failed = (error) => signal.aborted || tell(wordsOf(error), "bad");
  const retry = async ({ id }) => {
    try {
      await send("POST", `${address}/deliveries/${encodeURIComponent(id)}/retry`);
      tell("It is sent again.");
      await read();
    } catch (error) {
      failed(error);
    }
  };
  const read = async (cursor = null) => {
    const page = await ask(`${address}/deliveries${query({ status: status.value, limit: PAGE, cursor })}`, { signal });
    shown = cursor ? [...shown, ...page.deliveries] : page.deliveries;
    const columns = [{ name: "Type" }, { name: "Customer" }, { name: "State" }, { name: "Attempts", number: true }, { name: "Answer", wide: true }, { name: "Made" }, { name: "" }];
    const rows = shown.map((one) => {
      const [said, kind] = STATES[one.status];
      return [
        make("code", {}, one.type),
        one.customer_id ?? "–",
        pill(said, kind),
        words.number(one.attempts),
        [one.answer_status, one.error, one.status === "pending" && one.next_attempt_at && `again ${words.ago(one.next_attempt_at)}`].filter(Boolean).join(" · ") || "–",
        words.time(one.created_at),
        make("span", { class: "actions" }, button("Payload", () => dialog({ title: one.type, parts: [make("pre", { class: "payload", tabIndex: 0 }, JSON.stringify(one.payload, null, 2))], wide: true }), "slim"), button("Send again", () => retry(one), "slim")),
      ];
    });
    const more = page.next_cursor && button("Older", () => read(page.next_cursor).catch(failed));
    place.replaceChildren(rows.length ? table("Deliveries", columns, rows) : make("p", { class: "nothing" }, "Nothing was sent yet."), ...(more ? [make("p", { class: "more" }, more)] : []));
  };
  status.addEventListener("change", () => read().catch(failed));
  await read();
  return make("div", { class: "deliveries" }, make("header", {}, make("h3", {}, "Deliveries"), make("div", { class: "beside" }, status, button("Read again", () => read().catch(failed), "slim"))), place);
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
      changed("The endpoint is made.");
      return reveal("The endpoint’s secret", "It signs every message, and is shown this once.", secret);
    },
  });
}
