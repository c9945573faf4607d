/** Which view the address names: `#/wallets/ada?low=true` is `wallets`, `["ada"]` and its parameters. */

/** The view's name, the parts after it, and its parameters. */
export function route() {
  const [way, parameters = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...parts] = way.split("/").map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  return { name: name || "overview", parts, parameters: new URLSearchParams(parameters) };
}

/** The address of a view. */
export function to(name, parts = [], parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== "" && value !== false);
  return `#/${[name, ...parts].map(encodeURIComponent).join("/")}${given.length ? `?${new URLSearchParams(given)}` : ""}`;
}

export const go = (...where) => (location.hash = to(...where));
