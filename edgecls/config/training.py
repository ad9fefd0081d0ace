"""Defaults and range checks of training, as a frozen dataclass.

A run stores the resolved values in run.json.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from edgecls.config.augmentation import AugmentConfig
from edgecls.config.choices import (
    ALL_STEPS,
    ARCHS,
    BLOCKS,
    CLASSIFIER_LEARNING_RATE,
    CLASSIFIER_STEPS,
    EFFORTS,
    FINE_LEARNING_RATE,
    HEADS,
    MIN_BATCH_NORM_BATCH,
    MIN_IMAGE_SIZE,
    MIN_SMALL_IMAGE_SIZE,
    NETWORK_LEARNING_RATE,
    SCHEDULES,
    SOLVERS,
    USUAL_SCHEDULE,
)
from edgecls.config.data import DataConfig
from edgecls.limits import MAX_IMAGE_SIZE
from edgecls.limits import check_setting as _check


@dataclass(frozen=True)
class TrainConfig(DataConfig):
    """Settings of one training run; those of the images are in `DataConfig`.

    Attributes:
        preset: name in `presets.PRESETS` that the run began from, or "".
        arch: one of `ARCHS`.
        image_size: side of the square network input in pixels.
        alpha: width multiplier of MobileNetV2.
        blocks: how many inverted residual blocks of MobileNetV2 are kept, from the first. Of the last of them, the head
            reads the 3x3 convolution; the 1x1 convolution after it, which would narrow its channels to a sixth, is
            left out. None keeps all blocks and the 1x1 convolution to 1280 channels that follows them, or leaves it to
            `choose_blocks`.
        choose_blocks: True to let training choose `blocks` where it is None, see `training.depth`.
        head: of mobilenet_v2: "gap" (global average pooling) or "flatten" (Flatten + Dense 32, as in the lecture).
        gray_to_rgb: "copy" (the backbone sees at step 0 what it was trained on) or "random" (as in the lecture).
        weights: one of `WEIGHT_SOURCES` or the path of a weights file.
        filters: of cnn: outputs of each convolution; max pooling follows each.
        kernel: of cnn: side of each convolution.
        conv_dropout: of cnn: fraction of values dropped after each convolution.
        hidden: units of each dense layer before the scores, or None for the usual ones (`hidden_units`).
        hidden_dropout: of mlp: fraction of units dropped after each hidden layer.
        batch_norm: True for batch normalization before the classifier.
        solver: of a linear classifier on the frozen backbone: "lbfgs" (its optimum, at once) or "sgd" (in steps, by
            Adam), or None for the default (`classifier_solver`).
        refit: True to solve a solved classifier again at the end, with the validation images among those that it learns
            from. Without test images it is not, as then the validation images are held out.
        epochs: maximum passes over the training images; early stopping may end sooner.
        batch_size: images in each step.
        dropout: fraction of features dropped before the classifier.
        augment: random changes, or None for none.
        augmented_copies: cached augmented copies of each training image, half of the examples of the "augmented" phase.
        learning_rate: Adam's initial learning rate, or None for the default (`main_learning_rate`).
        schedule: one of `SCHEDULES`, or None for the default (`main_schedule`).
        warmup_epochs: epochs in which the learning rate rises from near zero.
        weight_decay: decoupled decay of kernels a step (AdamW, Loshchilov and Hutter, arXiv:1711.05101); 0 is off.
        l2: factor of the sum of squared kernels added to the loss; 0 is off.
        label_smoothing: fraction of the target spread over all classes (Szegedy et al., arXiv:1512.00567); 0 is off.
        balance: True to weight each class by the inverse of its number of images.
        clip_norm: largest norm of all gradients together (Pascanu et al., arXiv:1211.5063); 0 is off.
        patience: epochs without a better validation loss before a phase stops.
        joint: True to train gray_to_rgb and the classifier together, through the frozen backbone, after the classifier.
        effort: how long to fine-tune: "quick" (not at all), "normal" (its last 6 blocks)
            or "best" (then the whole backbone too), or None for the default (`main_effort`).
        unfreeze: how many of the last inverted residual blocks are fine-tuned; None leaves it to the effort.
        fine_epochs: maximum epochs of the "joint" and "fine-tuning" phases.
        fine_learning_rate: initial learning rate of both, or None for the default (`tuning_learning_rate`).
        good_class: the class that is no defect, whose missed defects and false alarms are reported; "" is none.
        time_budget_s: seconds after which training stops with the best so far, or None for no limit.
        seed: of the split, the initial weights, the augmentation and the order of images.
    """

    preset: str = ""
    arch: str = "mobilenet_v2"
    image_size: int = 224
    alpha: float = 1.0
    blocks: int | None = None
    choose_blocks: bool = True
    head: str = "gap"
    gray_to_rgb: str = "copy"
    weights: str = "auto"
    filters: tuple[int, ...] = (16, 32, 64)
    kernel: int = 3
    conv_dropout: float = 0.1
    hidden: tuple[int, ...] | None = None
    hidden_dropout: float = 0.2
    batch_norm: bool = False
    solver: str | None = None
    refit: bool = True
    epochs: int = 60
    batch_size: int = 32
    dropout: float = 0.2
    augment: AugmentConfig | None = field(default_factory=AugmentConfig)
    augmented_copies: int = 3
    learning_rate: float | None = None
    schedule: str | None = None
    warmup_epochs: int = 0
    weight_decay: float = 0.0
    l2: float = 0.0
    label_smoothing: float = 0.0
    balance: bool = False
    clip_norm: float = 0.0
    patience: int = 15
    joint: bool = False
    effort: str | None = None
    unfreeze: int | None = None
    fine_epochs: int = 10
    fine_learning_rate: float | None = None
    good_class: str = ""
    time_budget_s: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ConfigError for a value out of range, or two that contradict each other."""
        self._check_data()
        self._check_network()
        self._check_recipe()
        size = self.image_size
        least = MIN_IMAGE_SIZE if self.arch == "mobilenet_v2" else MIN_SMALL_IMAGE_SIZE
        _check(least <= size <= MAX_IMAGE_SIZE, "image size", size, f"{least} to {MAX_IMAGE_SIZE} for {self.arch}")
        if self.arch != "mobilenet_v2":
            for name in ("joint", "unfreeze", "blocks", "effort"):
                _check(not getattr(self, name), name, getattr(self, name), f"left out: {self.arch} has no backbone")
        self._check_solver()
        _check(self.effort in (None, *EFFORTS), "effort", self.effort, f"one of {', '.join(EFFORTS)}")
        own = self.unfreeze is not None or self.joint or self.gray_to_rgb == "random"
        _check(
            self.effort in (None, "quick") or not own,
            "effort",
            self.effort,
            "left out with --unfreeze, --joint and random input layers: these say themselves what is fine-tuned",
        )
        _check(
            not self.batch_norm or self.batch_size >= MIN_BATCH_NORM_BATCH,
            "batch size",
            self.batch_size,
            f"at least {MIN_BATCH_NORM_BATCH} with batch normalization: the mean of fewer images is too noisy to "
            "normalize by; use larger batches or leave out --batch-norm",
        )

    def _check_solver(self) -> None:
        _check(self.solver in (None, *SOLVERS), "solver", self.solver, f"one of {', '.join(SOLVERS)}")
        if self.solver != "lbfgs":
            return
        _check(self._is_linear, "solver", "lbfgs", "sgd for this network: lbfgs solves a linear classifier alone")
        # Fine-tuning after it learns in steps and has the other settings.
        tunes = self.unfreeze or self.joint or self.main_effort != "quick"
        idle = CLASSIFIER_STEPS if tunes else (*CLASSIFIER_STEPS, *ALL_STEPS)
        changed = ", ".join(name.replace("_", " ") for name in self._changed(idle))
        _check(not changed, "solver", "lbfgs", f"sgd with {changed}, which lbfgs does not have")

    def _changed(self, names: Iterable[str]) -> list[str]:
        """Return the settings among `names` that are not the defaults."""
        return [name for name in names if getattr(self, name) != getattr(type(self), name)]

    def _check_network(self) -> None:
        _check(self.arch in ARCHS, "arch", self.arch, f"one of {', '.join(ARCHS)}")
        _check(0.1 <= self.alpha <= 2, "alpha", self.alpha, "0.1 to 2.0")
        _check(self.blocks is None or 1 <= self.blocks <= BLOCKS, "blocks", self.blocks, f"1 to {BLOCKS}")
        _check(self.head in HEADS, "head", self.head, f"one of {', '.join(HEADS)}")
        _check(self.gray_to_rgb in ("copy", "random"), "gray_to_rgb", self.gray_to_rgb, "copy or random")
        _check(1 <= self.kernel <= 7, "kernel", self.kernel, "1 to 7")
        for name, sizes in (("filters", self.filters), ("hidden", self.hidden_units)):
            _check(all(1 <= size <= 4096 for size in sizes), name, sizes, "each 1 to 4096")
        # A convolution without padding takes kernel - 1 pixels away, pooling halves the picture.
        side, deepest = self.image_size, 0
        while (side := (side - self.kernel + 1) // 2) > 0:
            deepest += 1
        _check(
            self.arch != "cnn" or 1 <= len(self.filters) <= deepest,
            "filters",
            self.filters,
            f"1 to {deepest} numbers for {self.image_size} pixels and kernel {self.kernel}",
        )
        for name in ("dropout", "conv_dropout", "hidden_dropout"):
            _check(0 <= getattr(self, name) < 1, name.replace("_", " "), getattr(self, name), "at least 0 and below 1")

    def _check_recipe(self) -> None:
        for name in ("epochs", "fine_epochs", "batch_size", "patience"):
            _check(getattr(self, name) >= 1, name.replace("_", " "), getattr(self, name), "at least 1")
        _check(0 <= self.augmented_copies <= 100, "augmented copies", self.augmented_copies, "0 to 100")
        for name in ("learning_rate", "fine_learning_rate"):
            value = getattr(self, name)
            _check(value is None or 0 < value < 1, name.replace("_", " "), value, "above 0 and below 1")
        _check(self.schedule in (None, *SCHEDULES), "schedule", self.schedule, f"one of {', '.join(SCHEDULES)}")
        _check(self.warmup_epochs >= 0, "warmup epochs", self.warmup_epochs, "at least 0")
        # An infinite norm would scale the gradients by infinity times zero.
        _check(0 <= self.clip_norm < math.inf, "clip norm", self.clip_norm, "at least 0 and finite")
        for name in ("weight_decay", "l2", "label_smoothing"):
            _check(0 <= getattr(self, name) < 1, name.replace("_", " "), getattr(self, name), "at least 0 and below 1")
        blocks = BLOCKS if self.blocks is None else self.blocks
        _check(
            0 <= (self.unfreeze or 0) <= blocks, "unfreeze", self.unfreeze, f"0 to {blocks}, the blocks that there are"
        )
        budget = self.time_budget_s
        _check(budget is None or 0 < budget < math.inf, "time budget", budget, "above 0 seconds and finite")
        _check(0 <= self.seed < 2**32, "seed", self.seed, "0 to 4294967295")

    @property
    def hidden_units(self) -> tuple[int, ...]:
        """Return the units of each dense layer before the scores."""
        if self.hidden is not None:
            return self.hidden
        if self.arch == "mobilenet_v2":
            return (32,) if self.head == "flatten" else ()
        return (64,) if self.arch == "cnn" else (128, 64, 32)

    @property
    def uses_backbone(self) -> bool:
        """Return whether the network contains MobileNetV2, and so may begin from pretrained weights."""
        return self.arch == "mobilenet_v2"

    @property
    def leaves_blocks_open(self) -> bool:
        """Return whether training chooses `blocks`: by averages over the feature map, so for the head "gap" alone."""
        open_here = self.choose_blocks and self.blocks is None
        return open_here and self.uses_backbone and self.head == "gap" and self.gray_to_rgb == "copy"

    @property
    def main_effort(self) -> str:
        """Return the effort: "normal" by default, "quick" if there is no backbone or `unfreeze` or `joint` is given."""
        if not self._trains_classifier_alone or self.unfreeze is not None or self.joint:
            return "quick"
        return self.effort or "normal"

    @property
    def classifier_solver(self) -> str:
        """Return how a classifier on frozen features learns: "lbfgs" if it is linear and no step setting is changed."""
        if self.solver is not None:
            return self.solver
        return "lbfgs" if self._is_linear and not self._changed((*CLASSIFIER_STEPS, *ALL_STEPS)) else "sgd"

    @property
    def main_learning_rate(self) -> float:
        """Return the initial learning rate of the main phases."""
        if self.learning_rate is not None:
            return self.learning_rate
        return CLASSIFIER_LEARNING_RATE if self._trains_classifier_alone else NETWORK_LEARNING_RATE

    @property
    def tuning_learning_rate(self) -> float:
        """Return the initial learning rate of the phases "joint" and "fine-tuning"."""
        return FINE_LEARNING_RATE if self.fine_learning_rate is None else self.fine_learning_rate

    @property
    def main_schedule(self) -> str:
        """Return the schedule of the main phases.

        For a classifier alone the number of epochs is hard to know beforehand: the full learning rate helps for dozens
        of epochs with few images and for three with thousands. So it falls when the validation loss stops falling.
        """
        return self.schedule or ("plateau" if self._trains_classifier_alone else USUAL_SCHEDULE)

    @property
    def fine_schedule(self) -> str:
        """Return the schedule of the phases "joint" and "fine-tuning"."""
        return self.schedule or USUAL_SCHEDULE

    @property
    def _is_linear(self) -> bool:
        return self._trains_classifier_alone and not (self.hidden_units or self.batch_norm)

    @property
    def _trains_classifier_alone(self) -> bool:
        return self.arch == "mobilenet_v2" and self.gray_to_rgb == "copy"
