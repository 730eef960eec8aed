"""The programme: customers, purchases, and the ledger of their points. It knows nothing of webhooks."""
