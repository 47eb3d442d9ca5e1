"""Signed checkpoints: what the log was at an instant, for those who keep them outside of the ledger's reach."""
