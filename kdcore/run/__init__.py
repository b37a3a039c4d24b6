"""A run directory from its spec to its outcome, and whole experiments without any service."""
