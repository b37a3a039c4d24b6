"""How a network is trained; the unit of time is the optimizer step, never the epoch."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from kdcore.spec.base import Spec
from kdcore.spec.ramp import Fraction, Positive

Side = Annotated[int, Field(ge=16, le=8192)]
Size = tuple[Side, Side]
Decay = Annotated[float, Field(ge=0, lt=1)]


def _switch(value: Any) -> Any:
    """YAML reads a bare `on` and `off` as truth values."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


Switch = Annotated[Literal["auto", "off", "on"], BeforeValidator(_switch)]


class AdamW(Spec):
    kind: Literal["adamw"] = "adamw"
    lr: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    betas: tuple[Decay, Decay] = (0.9, 0.999)


class Sgd(Spec):
    kind: Literal["sgd"] = "sgd"
    lr: Positive = 0.01
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    momentum: Decay = 0.9
    nesterov: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: needs a momentum above 0")
        return self


Optimizer = Annotated[AdamW | Sgd, Field(discriminator="kind")]


class WarmupStableCosine(Spec):
    """The rate goes up in a line, stays, and comes down along a cosine; shares of all steps.

    The defaults are those of the IDD system: a tenth of the rate, all of it, a tenth again.
    """

    kind: Literal["warmup_stable_cosine"] = "warmup_stable_cosine"
    start: Fraction = Field(default=0.1, description="Factor on the rate at the first step")
    warmup: Fraction = Field(default=0.16, description="Share of the steps on the way up")
    stable: Fraction = Field(default=0.06, description="Share of the steps at the full rate")
    end: Fraction = Field(default=0.1, description="Factor on the rate at the last step")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.warmup + self.stable >= 1:
            raise ValueError("stable: warmup and stable leave no steps for the cosine")
        return self


class Augment(Spec):
    """Random resize, crop, rotation (both padded with the ignore value), flips and colour jitter."""

    scale: tuple[Positive, Positive] = Field(default=(0.75, 1.5), description="Range of the resize")
    horizontal_flip: bool = True
    vertical_flip: bool = Field(default=False, description="Not for scenes with a sky")
    quarter_turns: bool = Field(default=False, description="Not for scenes with a sky")
    rotate: Annotated[float, Field(ge=0, le=180)] = Field(
        default=0.0, description="Degrees at most, to either side"
    )
    jitter: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.2, description="Brightness, contrast and saturation"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.scale[0] > self.scale[1]:
            raise ValueError("scale: the lower bound is above the upper one")
        return self


class EarlyStop(Spec):
    """Stop after `patience` evaluations without a better val mIoU."""

    patience: Annotated[int, Field(ge=1)] = 10


class TrainSpec(Spec):
    size: Size = Field(default=(256, 256), description="Crop, height and width in pixels")
    batch: Annotated[int, Field(ge=1, le=4096)] = 8
    steps: Annotated[int, Field(ge=1, le=10_000_000)] = 1000
    optimizer: Optimizer = AdamW()
    head_lr_factor: Positive = Field(
        default=1.0, description="Learning rate of what is not encoder"
    )
    schedule: Literal["poly", "cosine", "constant"] | WarmupStableCosine = Field(
        default="poly", description="poly is (1 - t)^0.9"
    )
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    clip_norm: Positive | None = Field(default=None, description="Global gradient norm bound")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto",
        description="auto: bf16 on a GPU that has it, on a CPU that has it for networks of a million "
        "parameters or more; fp32 elsewhere",
    )
    memory_format: Literal["auto", "contiguous", "channels_last"] = Field(
        default="auto",
        description="Order of maps and weights in memory; auto: channels_last for convolutional "
        "encoders; for each network its own",
    )
    compile: Switch = Field(
        default="auto", description="torch.compile in training; auto: off for now"
    )
    ema: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="Decay of the averaged weights; both are evaluated, the better is kept",
    )
    augment: Augment = Augment()
    views: Annotated[int, Field(ge=1, le=64)] | None = Field(
        default=None,
        description="Views of each image, which come again in turn; default: a fresh one each time",
    )
    view_seed: Literal["run"] | Annotated[int, Field(ge=0, le=2**31 - 1)] = Field(
        default=0, description="What draws the `views`: one number for all seeds, or each its own"
    )
    evaluate_every: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        default="auto", description="steps; auto: ten times in a training"
    )
    checkpoint_every: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        default="auto", description="steps; auto: as evaluate_every"
    )
    early_stop: EarlyStop | None = None
    gpus: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="Of one machine; each takes its share of every batch"
    )
    sync_batchnorm: bool = Field(
        default=True, description="With several GPUs: batch norm over the whole batch"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.batch % self.gpus:
            raise ValueError(f"batch: {self.gpus} GPUs need a multiple of {self.gpus}")
        if self.warmup_steps >= self.steps:
            raise ValueError("warmup_steps: must be below steps")
        if self.warmup_steps and isinstance(self.schedule, WarmupStableCosine):
            raise ValueError("warmup_steps: the schedule has a warm-up of its own; leave it out")
        return self

    def resolved(self) -> "TrainSpec":
        """The same with every `auto` that depends on the spec alone made a number."""
        evaluate = self.evaluate_every
        evaluate = max(1, self.steps // 10) if evaluate == "auto" else evaluate
        checkpoint = evaluate if self.checkpoint_every == "auto" else self.checkpoint_every
        return self.model_copy(update={"evaluate_every": evaluate, "checkpoint_every": checkpoint})
