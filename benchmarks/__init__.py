"""Measurements that are kept: each is a command whose result is committed beside it."""
