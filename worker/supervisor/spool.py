"""Checkpoints on their way to the store.

Hard links where the file system has them: they take no room, and a checkpoint that the trainer
removes, or a run directory that goes, stays here until it was brought.
"""

import os
import shutil
from contextlib import suppress
from itertools import count
from pathlib import Path


class Spool:
    """Of one attempt, in a folder of its own. Two checkpoints at most lie in it for long.

    One may be on its way; of those that wait only the newest is worth bringing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names = (str(number) for number in count())
        self._busy: Path | None = None

    def take(self, checkpoint: Path) -> Path:
        """A folder with the files of a complete checkpoint. Raises OSError."""
        taken = self.folder / next(self._names)
        taken.mkdir(parents=True)
        for file in checkpoint.iterdir():
            if file.is_file() and not file.is_symlink():
                _link(file, taken / file.name)
        for other in self.folder.iterdir():
            if other not in (taken, self._busy):
                shutil.rmtree(other, ignore_errors=True)
        return taken

    def begin(self, taken: Path) -> None:
        """It is being brought: a newer one must not push it out."""
        self._busy = taken

    def end(self, taken: Path) -> None:
        """It was brought, or cannot be."""
        shutil.rmtree(taken, ignore_errors=True)
        self._busy = None

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            self.folder.parent.rmdir()  # refused while another attempt's is in it, or without one


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)
