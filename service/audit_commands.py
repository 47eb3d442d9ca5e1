"""`credit-ledger audit` with all its commands."""

from service.auditing.command import audit
from service.checkpoints.proof_command import proof_command

__all__ = ["audit"]

audit.add_command(proof_command)
