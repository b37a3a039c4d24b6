"""What a process tells of itself while it runs: metrics and traces. Logs are in `worker.log`."""
