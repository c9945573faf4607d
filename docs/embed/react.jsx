"use client"; // for Next.js; nothing else minds

import { useEffect, useState } from "react";

const WIDGET = "https://credits.example.com/static/widget.js";
const TOKEN_URL = "/chargly-token";

// In effects alone: never on the server, and once for the page, however many components ask for it.
const loadWidget = () => import(/* webpackIgnore: true */ /* @vite-ignore */ WIDGET);

/** The wallet of whoever is signed in: `state` is null until the first balance comes. */
export function useWallet() {
  const [wallet, setWallet] = useState({ state: null, status: "connecting" });
  useEffect(() => {
    const set = (part) => setWallet((last) => ({ ...last, ...part }));
    let handle;
    let gone = false;
    const start = ({ connect }) => {
      if (gone) return;
      handle = connect({
        tokenUrl: TOKEN_URL,
        onChange: (state) => set({ state }),
        onStatus: (status) => set({ status }),
      });
    };
    loadWidget().then(start, () => set({ status: "error" }));
    return () => {
      gone = true;
      handle?.close();
    };
  }, []);
  return wallet;
}

export function GenerateButton({ credits, onClick }) {
  const { state } = useWallet();
  const covered = state !== null && state.available >= credits;
  return <button disabled={!covered} onClick={onClick}>{`Generate (${credits} credits)`}</button>;
}

export function Wallet() {
  const [available, setAvailable] = useState(null);
  useEffect(() => void loadWidget().catch(console.error), []);
  return (
    <>
      <chargly-balance token-url={TOKEN_URL} onchargly-change={({ detail }) => setAvailable(detail.available)} />
      <p role="status">{available !== null && available < 50 && `Only ${available} credits left.`}</p>
    </>
  );
}
