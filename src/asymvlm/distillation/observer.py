"""A frozen teacher and what it is asked: from questions to batches that a scorer learns from.

The data module owns an observer, and training modules are given what it makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch

from ..backbone.prompt import Prompter
from ..cli.configs import find_model
from ..documents import Sample
from ..errors import renamed_arguments
from ..storage.fingerprint import describe, describe_teacher
from ..storage.weight_sketch import sketch_of_files, sketch_of_model
from ..storage.weights_fingerprint import weights_fingerprint
from ..targets import Target
from .batch import collate
from .sample import DistillationSample
from .teacher import Teacher, load_prompter


class Observer:
    """A teacher, a target, and the keep ratios at which the dense answer is looked for.

    No nn.Module, so that no checkpoint and no DDP wrapper ever holds the teacher.

    Args:
        teacher: Directory or Hugging Face repository of the frozen VLM.
        target: What the scorer learns from; None for observers that can do without.
        ladder: Keep ratios at which the teacher answers, ascending; None does not ask it.
    """

    # Whether it computes in the trainer's precision; else in that of the teacher's weights.
    follows_precision = False
    # Whether samples are a function of `description` and the pages.
    cacheable = True

    def __init__(
        self, teacher: str, target: Target | None, ladder: Sequence[float] | None = None
    ) -> None:
        self.name, self.path, self.target = teacher, find_model(teacher), target
        self.ladder = None if ladder is None else list(ladder)
        self.device = torch.device("cpu")

    def place(self, device: torch.device) -> None:
        """Set the device on which the teacher computes."""
        self.device = device
        if "teacher" in vars(self):
            self.teacher.model.to(device)  # type: ignore[arg-type]

    @cached_property
    def teacher(self) -> Teacher:
        """Loaded when first needed: with a full cache of targets, never."""
        return Teacher.load(self.path, self.device)

    @cached_property
    def prompter(self) -> Prompter:
        """The teacher's processor alone."""
        with renamed_arguments({"path": "teacher"}):
            return load_prompter(self.path)

    def targets(self) -> list[Target]:
        """List all targets that the teacher is asked for."""
        return [] if self.target is None else [self.target]

    def observe(self, samples: Sequence[Sample]) -> list[DistillationSample]:
        """Ask the live teacher about some questions."""
        assert self.target is not None
        return self.teacher.observe(samples, self.target, self.ladder)

    def teacher_weights(self) -> dict[str, str]:
        """Return the teacher's name, and fingerprint and sketch of its weights."""
        sketch = sketch_of_files(self.path)
        if not sketch and "teacher" in vars(self):
            sketch = sketch_of_model(self.teacher.model)
        return {"name": self.name, "weights": weights_fingerprint(self.path), "sketch": sketch}

    def description(self) -> dict[str, Any]:
        """Describe everything that samples depend on beside the pages.

        Equal ones may share a cache.
        """
        in_fp32 = self.device.type == "cpu"
        return {
            "teacher": describe_teacher(self.path, self.prompter.processor),
            "target": describe(self.target),
            "computed_in": "float32" if in_fp32 else "the type of the weights",
            "ladder": self.ladder,
        }

    def batch(self, samples: Sequence[Sample], training: bool) -> Any:
        """Make what a training step takes, with the live teacher."""
        return collate(self.observe(samples))
