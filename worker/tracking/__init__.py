"""The copy of the ledger's metrics on an MLflow server. Training never waits for it."""
