"""The whole service on one machine from one command: `python -m embedded up` and `demo`."""
