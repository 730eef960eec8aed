"""The loyalty program: customers, purchases, and the ledger of their points. It does not import webhooks or storage."""
