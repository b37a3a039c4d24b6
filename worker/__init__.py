"""The queue and the execution: the ledger (all SQL), the supervisor, artefacts and tracking."""
