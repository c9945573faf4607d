"""The HTTP and live contract: parse, call, answer. No SQL, no rules."""
