"""How a request travels. Knows nothing of manifests and the ledger."""
