"""What the API answers with; each body is read off the attributes of what the ledger shows."""
