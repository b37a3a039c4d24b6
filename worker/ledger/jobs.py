"""What happens to a job: cancelling, and the worker's side, guarded by job id and attempt."""

from worker.ledger.cancelling import cancel_job
from worker.ledger.claiming import Checkpoint, Claim, claim, queue_depth
from worker.ledger.finishing import finish, rescue
from worker.ledger.running import Directive, heartbeat, publish, relay

__all__ = [
    "Checkpoint",
    "Claim",
    "Directive",
    "cancel_job",
    "claim",
    "finish",
    "heartbeat",
    "publish",
    "queue_depth",
    "relay",
    "rescue",
]
