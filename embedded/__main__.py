"""`python -m embedded up | demo`: exit 0 when done or asked to stop, 1 with the reason if not.

A demo that is interrupted ends with 130.
"""

import argparse
import sys
from pathlib import Path

from embedded.demo import demo
from embedded.errors import EmbeddedError, Stopped
from embedded.signals import INTERRUPTED
from embedded.state import ROOT
from embedded.up import up


def main() -> None:
    options = _options()
    try:
        if options.command == "up":
            up()
        else:
            demo(options.recipe, force=options.force)
    except Stopped:
        # The jobs stand in the ledger: started again they go on from their checkpoints.
        print("stillhouse: stopped", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except EmbeddedError as error:
        print(f"stillhouse: {error}", file=sys.stderr)
        sys.exit(1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m embedded", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start everything on this machine; Ctrl-C stops it")
    demo_options = commands.add_parser("demo", help="from images to a verdict, on this machine")
    demo_options.add_argument(
        "--recipe", type=Path, default=ROOT / "examples" / "nuclei" / "distil.yaml"
    )
    demo_options.add_argument(
        "--force", action="store_true", help="run again what an earlier demo already made"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
