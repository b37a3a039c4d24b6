"""``python -m worker.tracking lag`` says how far the MLflow server is behind, as JSON.

``python -m worker.tracking anew`` is for a server that has lost what it had: the workers bring all
of it again. On a server that still has it everything but runs that were deleted stays as it is.
"""

import argparse
import json
import os
import sys
from dataclasses import asdict
from uuid import UUID

from worker.ledger.forgetting import forget_jobs, forget_the_rest
from worker.ledger.projection import lag
from worker.ledger.session import Ledger


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m worker.tracking", description=__doc__)
    parser.add_argument("command", choices=["lag", "anew"])
    command = parser.parse_args().command
    ledger = Ledger(os.environ["KD_DATABASE_URL"])
    if command == "anew":
        _forget(ledger)
    with ledger.unit_of_work() as session:
        print(json.dumps(asdict(lag(session))))  # noqa: T201 (it is the answer)
    ledger.close()
    return 0


def _forget(ledger: Ledger) -> None:
    # Jobs last: their runs are made below those of experiments, which must be new ones by then.
    with ledger.unit_of_work() as session:
        forget_the_rest(session)
    after: UUID | None = None
    while True:
        with ledger.unit_of_work() as session:
            after = forget_jobs(session, after=after)
        if after is None:
            return


if __name__ == "__main__":
    sys.exit(main())
