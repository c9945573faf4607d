"""Outgoing webhooks: what is signed, which addresses are posted to, and when it is tried again."""
