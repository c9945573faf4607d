// What `auth` of Auth.js is to a route: the session that the request's cookie names, or null.

import { AsyncLocalStorage } from "node:async_hooks";

export const cookies = new AsyncLocalStorage();
const users = new Map();

export async function auth() {
  const session = /(?:^|; )session=([\w-]+)/.exec(cookies.getStore())?.[1];
  return users.has(session) ? { user: { id: users.get(session) } } : null;
}

export function signIn(id) {
  const session = crypto.randomUUID();
  users.set(session, id);
  return session;
}
