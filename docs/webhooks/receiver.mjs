// Receives Chargly's webhooks: checks the signature, acts once on each message, answers soon.
// WEBHOOK_SECRET=whsec_… PORT=9000 node receiver.mjs
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const key = Buffer.from(process.env.WEBHOOK_SECRET.replace(/^whsec_/, ""), "base64");
const seen = new Set(); // in your product: a table with the id as its key, in the transaction that acts

function verified(headers, body) {
  const { "webhook-id": id, "webhook-timestamp": at, "webhook-signature": signatures } = headers;
  if (!id || !/^\d+$/.test(at ?? "") || Math.abs(Date.now() / 1000 - at) > 300) return false;
  const expected = createHmac("sha256", key).update(`${id}.${at}.`).update(body).digest();
  return (signatures ?? "").split(" ").some((signature) => {
    const [version, sent] = signature.split(",");
    const bytes = Buffer.from(sent ?? "", "base64");
    return version === "v1" && bytes.length === expected.length && timingSafeEqual(bytes, expected);
  });
}

function act(message) {
  console.log(message.type, JSON.stringify(message.data));
}

const server = createServer(async (request, response) => {
  const parts = [];
  for await (const part of request) parts.push(part);
  const body = Buffer.concat(parts); // the bytes as they came, before any parsing
  if (!verified(request.headers, body)) return response.writeHead(401).end();
  const id = request.headers["webhook-id"];
  if (!seen.has(id)) {
    act(JSON.parse(body));
    seen.add(id);
  }
  response.writeHead(204).end();
});
const port = Number(process.env.PORT ?? 9000);
server.listen(port, "127.0.0.1", () => console.log(`listens on ${port}`));
