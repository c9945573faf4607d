// Answers as Next.js would with the route, on the socket that is handed down as a file descriptor.

import { createServer } from "node:http";

import { cookies, signIn } from "@/auth";
import * as route from "../../../docs/embed/nextjs-route.js";

async function answerTo({ pathname, searchParams }) {
  if (pathname === "/chargly-token") return route.GET();
  const session = signIn(searchParams.get("customer"));
  return new Response(null, { status: 204, headers: { "Set-Cookie": `session=${session}; Path=/; HttpOnly` } });
}

createServer(async ({ url, headers }, response) => {
  const asked = new URL(url, "http://localhost");
  const answer = await cookies.run(headers.cookie ?? "", () => answerTo(asked));
  response.writeHead(answer.status, Object.fromEntries(answer.headers));
  response.end(await answer.text());
}).listen({ fd: Number(process.argv[2]) });
