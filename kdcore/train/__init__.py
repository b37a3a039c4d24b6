"""The training loop and what it stands on: optimizer, averaged weights, checkpoints, evaluation."""
