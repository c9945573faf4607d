"""Chargly: the open, self-hosted credit wallet for AI products."""

__version__ = "0.1.0"
