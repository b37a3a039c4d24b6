"""kdcore as `kd run` uses it, at its defaults (B), and with the teachers' logits kept (Bcache)."""

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.speed.scene import STUDENT, Scene
from benchmarks.speed.workload import Workload
from kdcore.distill.objective import Objective, Total
from kdcore.errors import Interrupted
from kdcore.models.network import SegmentationModel
from kdcore.models.store import WEIGHTS
from kdcore.run.events import EventLog
from kdcore.run.fit import run_fit
from kdcore.spec.events import Event, Progress
from kdcore.spec.job import FitJob

_VIEWS = 1
"""Of each image in Bcache: after one epoch all are kept, and what is measured is the reading."""


class Ours:
    """A fit that runs in a thread and is held, after the asked steps, where it asks whether to stop."""

    def __init__(self, scene: Scene, device: torch.device, *, cached: bool = False) -> None:
        self.scene, self.device = scene, device
        self.job = fit_job(scene, cached=cached)
        # Arms of one scene train side by side.
        (scene.root / "runs").mkdir(exist_ok=True)
        self.run = Path(tempfile.mkdtemp(dir=scene.root / "runs"))
        (self.run / "inputs").symlink_to(scene.root / "inputs")
        self.settings: dict[str, str] = {"precision": scene.workload.precision}
        self._thread = threading.Thread(target=self._fit, daemon=True)
        self._go, self._held = threading.Event(), threading.Event()
        self._training = self._closing = False
        self._error: Exception | None = None

    def load_models(self) -> None:
        """The fit does it, and its preflight, in front of its first step."""

    def train(self, steps: int, done: Callable[[], None]) -> list[float]:
        self._left, self._done = steps, done
        self._losses: list[Tensor] = []
        self._go_on()
        return [loss.item() for loss in self._losses]

    def close(self) -> None:
        """End the fit as a signal would end it."""
        if self._thread.is_alive():
            self._closing = True
            self._go_on()
            self._thread.join()

    def gradients(self) -> dict[str, Tensor]:
        """Of the last step."""
        named = self.student.net.named_parameters()
        return {name: parameter.grad for name, parameter in named if parameter.grad is not None}

    def _go_on(self) -> None:
        self._held.clear()
        if self._thread.ident is None:
            self._threads = torch.get_num_threads()
            self._thread.start()
        else:
            self._go.set()
        self._held.wait()
        if self._error is not None:
            raise self._error

    def _fit(self) -> None:
        torch.set_num_threads(self._threads)  # each thread of the host has a number of its own
        hook = nn.modules.module.register_module_forward_hook(self._note)
        log = EventLog(self.run, self._listen)
        try:
            run_fit(
                self.run, self.job, self.scene.manifest,
                log=log, stop_requested=self._stop_requested, device=self.device,
            )  # fmt: skip
        except Interrupted:
            pass
        except Exception as error:  # noqa: BLE001  (handed to whoever waits)
            self._error = error
        finally:
            hook.remove()
            log.close()
            self._held.set()

    def _stop_requested(self) -> bool:
        """Asked after each step, and between images of the preflight."""
        if not self._training:
            return self._closing
        self._losses.append(self.total.loss.detach())
        self._done()
        self._left -= 1
        if self._left == 0:
            self._held.set()
            self._go.wait()
            self._go.clear()
        return self._closing

    def _note(self, module: nn.Module, given: tuple[object, ...], total: object) -> None:
        if isinstance(module, Objective):
            student, *_ = given
            assert isinstance(student, SegmentationModel)
            assert isinstance(total, Total)
            self.student, self.total = student, total

    def _listen(self, event: Event) -> None:
        """The first step is told before the first question after it."""
        if isinstance(event, Progress):
            self._training = event.stage == "training"
        # What the fit has settled by itself, where it tells so: precision, layout, compiling.
        self.settings.update(
            event.model_dump().get("values", {}) if event.type == "resolved" else {}
        )


def fit_job(scene: Scene, *, cached: bool) -> FitJob:
    """fp16 is the form in which recipes keep logits; `single` suits every network."""
    workload = scene.workload
    start = f"{STUDENT}/{WEIGHTS}"
    return FitJob.model_validate(
        {
            "dataset": scene.manifest.fingerprint(),
            "model": workload.student.model_copy(update={"weights": start}),
            "objective": objective_terms(workload),
            "train": scene.train_spec(views=_VIEWS if cached else None),
            "seed": workload.seed,
            "teachers": scene.teacher_inputs,
            # Random teachers know nothing.
            "preflight": {"min_teacher_miou": 0},
            "teacher_cache": {"dtype": "fp16", "forward": "single"} if cached else None,
        }
    )


def objective_terms(workload: Workload) -> list[dict[str, object]]:
    kd = {
        "kind": "kd",
        "temperature": workload.temperature,
        "weight": workload.kd_weight,
        "grid": workload.kl_grid,
    }
    return [{"kind": "ce"}, kd]
