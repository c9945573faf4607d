/** Uses of static/widget.d.ts that a compiler must take, and mistakes that it must find. */

import { useRef } from "react";
import { call, connect, formatMoney, openCheckout, text } from "../../../static/widget";
import type { CharglyPrice, Handle, Status, WalletState } from "../../../static/widget";

const handle: Handle = connect({
  tokenUrl: "/chargly-token",
  onChange: (state: WalletState) => state.entries.map(({ credits }) => credits.toFixed()),
  onStatus: (status: Status) => status === "live",
  onError: ({ code }) => code.toUpperCase(),
});
handle.renew("a token");
// @ts-expect-error: it is the server's to say
handle.server = "https://elsewhere.example.com";
// @ts-expect-error: no such status
connect({ onStatus: (status) => status === "asleep" });

text.low = "Wird knapp";
text.credits = { one: "{n} Credit", other: "{n} Credits" };
// @ts-expect-error: every language has other
text.credits = { one: "{n} Credit" };

export const price: string = formatMoney(1000, "usd", "de");
export const packs: Promise<{ packs: unknown[] }> = call(handle, "/v1/packs");
export const bought: Promise<string> = openCheckout(handle, "starter", { redirect: true }).then(({ status }) => status);

export const covers: number | null | undefined = document.querySelector("chargly-price")?.quote?.covers;
document.addEventListener("chargly-low", ({ detail }) => detail.balance.toFixed());
document.createElement("chargly-top-up").addEventListener("chargly-landed", ({ detail }) => detail.credits.toFixed());

export function Credits() {
  const element = useRef<CharglyPrice>(null);
  return (
    <>
      <chargly-balance token-url="/t" low={50} className="mine" onchargly-change={({ detail }) => detail.available.toFixed()} />
      <chargly-price ref={element} event="chat.reply" model="gpt-5" quantity={2} for="ask" />
      <chargly-activity rows={5} lang="de" ref={(activity) => void (activity!.labels = { left: "noch {n}" })} />
      <chargly-top-up redirect onchargly-landed={({ detail }) => detail.id.trim()} />
      {/* @ts-expect-error: what would it cost? */}
      <chargly-price token-url="/t" />
      {/* @ts-expect-error: no such label */}
      <chargly-activity ref={(activity) => void (activity!.labels = { nonsense: "" })} />
      {/* @ts-expect-error: no such event */}
      <chargly-balance onchargly-change={({ detail }) => detail.credits} />
    </>
  );
}
