"""Receives Chargly's webhooks: checks the signature, acts once on each message, answers soon.

pip install standardwebhooks
WEBHOOK_SECRET=whsec_… PORT=9000 python receiver.py
"""

import os
import sqlite3
from http.server import BaseHTTPRequestHandler, HTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

webhook = Webhook(os.environ["WEBHOOK_SECRET"])
db = sqlite3.connect(os.environ.get("SEEN_DB", ":memory:"))
db.execute("CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY)")


def act(message: dict) -> None:
    """What you do with it: write to a customer, close a feature, draw a new price."""
    print(message["type"], message["data"], flush=True)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))  # the bytes as they came, before any parsing
        try:
            message = webhook.verify(body, dict(self.headers))
        except WebhookVerificationError:
            self.send_error(401)
            return
        with db:  # one transaction: a message that fails in the midst is not remembered, and comes again
            if db.execute("INSERT OR IGNORE INTO seen VALUES (?)", (self.headers["webhook-id"],)).rowcount:
                act(message)
        self.send_response(204)
        self.end_headers()


port = int(os.environ.get("PORT", "9000"))
server = HTTPServer(("127.0.0.1", port), Handler)
print(f"listens on {port}", flush=True)
server.serve_forever()
