"""Money in: checkouts, Stripe's signed events, and the credits that land. The only importer of `stripe`."""
