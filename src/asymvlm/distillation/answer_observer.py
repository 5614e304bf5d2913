"""Batches for training through the frozen LLM: prompts, right answers and dense answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..documents import Sample
from ..errors import renamed_arguments
from ..targets import EncodedBatch, Target
from ..typing import Float, Int64
from .answer_logits import answer_logits
from .batch import DistillationBatch, collate
from .observer import Observer
from .sample import DistillationSample


class SwitchableAdapters(Protocol):
    """Adapters inside the teacher that can be left out for a while."""

    before_llm: bool

    def off(self) -> AbstractContextManager[None]:
        """Switch the adapters off while open."""


@dataclass
class AnswerBatch:
    """Questions as a step through the LLM takes them, on the teacher's device already.

    B samples, A tokens of the longest answer, N vision tokens, V the vocabulary.
    """

    distillation: DistillationBatch
    prompts: EncodedBatch
    dense: Float[Tensor, "B A V"] | None  # where a term or the validation compares with it
    answer_ids: Int64[Tensor, "B A"]  # -100 on padding
    distractors: Float[Tensor, "B N"] | None  # where a term avoids them
    names: list[str]

    def __len__(self) -> int:
        return len(self.distillation)

    def to(self, *args: object, **kwargs: object) -> AnswerBatch:
        """Return the batch as it is: it was made on the teacher's device."""
        return self


class AnswerObserver(Observer):
    """An observer for training through the LLM.

    Args:
        teacher: Directory or Hugging Face repository of the frozen VLM.
        target: What a part of the loss distils; None gives every token the same importance.
        distractors: What resembles the answer and is none; None does not ask for it.
        compares: Whether training needs the dense answers; validation always does.
    """

    follows_precision = True
    cacheable = False

    def __init__(
        self, teacher: str, target: Target | None, distractors: Target | None, compares: bool
    ) -> None:
        super().__init__(teacher, target)
        self.distractors, self.compares = distractors, compares
        self.adapters: SwitchableAdapters | None = None  # those that are trained, if any are

    def targets(self) -> list[Target]:
        return super().targets() + ([] if self.distractors is None else [self.distractors])

    def observe(self, samples: Sequence[Sample]) -> list[DistillationSample]:
        return self._observe(samples, self.teacher.encode_batch(samples))

    def _observe(
        self, samples: Sequence[Sample], prompts: EncodedBatch
    ) -> list[DistillationSample]:
        if self.target is None:
            counts = prompts.layout.counts()
            importances = [torch.full((n,), 1 / n, device=self.device) for n in counts]
        else:
            with self._without_adapters(samples, prompts) as plain:
                importances = self.teacher.importances(samples, plain, self.target)
        unknown = torch.full((len(importances),), torch.nan)
        return self.teacher.distillation_samples(prompts, importances, unknown)

    @torch.no_grad()
    def batch(self, samples: Sequence[Sample], training: bool) -> AnswerBatch:
        prompts = self.teacher.encode_batch(samples)
        distillation = collate(self._observe(samples, prompts))
        dense = distractors = None
        with self._without_adapters(samples, prompts) as plain:
            if self.compares or not training:
                dense = answer_logits(self.teacher.backbone, plain)
            if self.distractors is not None and training:
                with renamed_arguments({"target": "distractors"}):
                    masses = self.teacher.importances(samples, plain, self.distractors)
                distractors = pad_sequence(masses, batch_first=True)
        ids = pad_sequence(prompts.answer_ids, batch_first=True, padding_value=-100)
        names = [sample.id for sample in samples]
        return AnswerBatch(distillation, prompts, dense, ids, distractors, names)

    @contextmanager
    def _without_adapters(
        self, samples: Sequence[Sample], prompts: EncodedBatch
    ) -> Iterator[EncodedBatch]:
        """Switch adapters off while open; yields the prompts as the VLM sees them then."""
        if self.adapters is None:
            yield prompts
            return
        with self.adapters.off():
            yield self.teacher.encode_batch(samples) if self.adapters.before_llm else prompts
