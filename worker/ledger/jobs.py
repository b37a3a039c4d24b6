"""What happens to a job: its owner's moves, and the worker's side, guarded by job id and attempt."""

from worker.ledger.cancelling import cancel_job
from worker.ledger.checkpoints import Checkpoint
from worker.ledger.claiming import Claim, claim, queue_depth
from worker.ledger.deadlines import expire
from worker.ledger.finishing import finish, rescue
from worker.ledger.pausing import pause_job, resume_job
from worker.ledger.resources import Offer
from worker.ledger.retrying import retry_job
from worker.ledger.running import Directive, heartbeat, publish, relay

__all__ = [
    "Checkpoint",
    "Claim",
    "Directive",
    "Offer",
    "cancel_job",
    "claim",
    "expire",
    "finish",
    "heartbeat",
    "pause_job",
    "publish",
    "queue_depth",
    "relay",
    "rescue",
    "resume_job",
    "retry_job",
]
