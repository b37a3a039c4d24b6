"""The names inside a run directory: the whole contract between a trainer and who started it.

::

    RUN/spec.json                      the job (`kdcore.spec.job.Job`), written first
    RUN/inputs/dataset/manifest.json   `DatasetManifest`; its files stand beside it at their paths
    RUN/inputs/models/NAME/            model folders: model.safetensors + model.json
    RUN/checkpoints/step-00000100/     state.pt, then manifest.json with the sha256 of every file
    RUN/events.jsonl                   `kdcore.spec.events.Event`, one a line
    RUN/cache/                         what may be removed at any time; the machine's, where it has one
    RUN/profile/                       where the time of a step goes (`kd run --profile`)
    RUN/log.txt                        standard output and error of the trainer
    RUN/model/  RUN/report/            what a fit and a comparison make
    RUN/outcome.json                   `kdcore.spec.outcome.Outcome`, written last
"""

from typing import Final

SPEC: Final = "spec.json"
DATASET: Final = "inputs/dataset"
DATASET_MANIFEST: Final = "inputs/dataset/manifest.json"
MODEL_INPUTS: Final = "inputs/models"
CHECKPOINTS: Final = "checkpoints"
CHECKPOINT_MANIFEST: Final = "manifest.json"
CACHE: Final = "cache"
PROFILE: Final = "profile"
EVENTS: Final = "events.jsonl"
LOG: Final = "log.txt"
OUTCOME: Final = "outcome.json"
MODEL: Final = "model"
MODEL_WEIGHTS: Final = "model/model.safetensors"
MODEL_CARD: Final = "model/model.json"
REPORT: Final = "report"
VERDICT: Final = "report/verdict.json"


def checkpoint_folder(step: int) -> str:
    """Run-directory path of the checkpoint after ``step`` optimizer steps."""
    return f"{CHECKPOINTS}/step-{step:08d}"
