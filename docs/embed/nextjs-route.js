// app/chargly-token/route.js
import { auth } from "@/auth";

export const dynamic = "force-dynamic";

/** Yours: the id of whoever is signed in, by your own session (here Auth.js), and never by what the browser sends. */
async function signedIn() {
  const session = await auth();
  return session?.user?.id;
}

const answer = (body, status) => Response.json(body, { status, headers: { "Cache-Control": "no-store" } });

export async function GET() {
  const customer = await signedIn();
  if (!customer) return answer({ error: "Sign in first." }, 401);
  try {
    const made = await fetch(`${process.env.CHARGLY_URL}/v1/wallets/${encodeURIComponent(customer)}/tokens`, {
      method: "POST",
      headers: { Authorization: `Bearer ${process.env.CHARGLY_API_KEY}` },
      cache: "no-store",
      signal: AbortSignal.timeout(5_000),
    });
    if (!made.ok) throw new Error(`Chargly answered ${made.status}: ${await made.text()}`);
    const { token } = await made.json();
    return answer({ token }, 200);
  } catch (error) {
    console.error(error);
    return answer({ error: "Credits are away for a moment." }, 502);
  }
}
