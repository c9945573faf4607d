"""Who listens to which wallet, and what they are told."""
