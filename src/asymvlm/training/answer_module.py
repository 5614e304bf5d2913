"""Common parts of both trainings through the frozen LLM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..distillation.answer_logits import answer_logits
from ..distillation.answer_observer import AnswerBatch, AnswerObserver
from ..engine import attends_through_stages
from ..export import CONTENTS
from ..limits import check_named, check_share
from ..objectives import AnswerDivergence, Labels, Objective, Prediction
from ..scorers import BudgetHead, Scorer
from ..selectors import count_for, top_k
from ..targets import EncodedBatch
from ..typing import Float, Int64
from .lora import LoraAdapters
from .scorer_module import ScorerModule
from .settings import BudgetSettings, LoraSettings, OptimizerSettings


@dataclass(frozen=True)
class LLMSettings:
    """Settings of the LLM's forward passes in training and validation.

    Args:
        budget: The number of vision tokens behind the gates of a step.
        val_keeps: Keep ratios at which validation really drops tokens; `val/loss` is the mean
            divergence there and at the budget head's own.
        checkpointing: Compute the LLM's layers again in the backward pass instead of keeping what
            they computed.
        lora: Adapters to train inside the LLM; None trains none.
    """

    budget: BudgetSettings
    val_keeps: tuple[float, ...]
    checkpointing: bool
    lora: LoraSettings | None

    def __post_init__(self) -> None:
        check_named({"model.val_keeps": self.val_keeps})
        for keep in self.val_keeps:
            check_share({"model.val_keeps": keep})


class AnswerModule(ScorerModule):
    """A scorer and a budget head beside a frozen LLM, whose answers are the loss.

    Args:
        observer: The teacher and what it is asked.
        scorer: Scores vision tokens.
        budget_head: Says how many to keep; None leaves a scorer without a budget of its own.
        objectives: The terms of the loss by name.
        optimizer: How weights are updated.
        settings: How the LLM is run.
    """

    observer: AnswerObserver

    def __init__(
        self,
        observer: AnswerObserver,
        scorer: Scorer,
        budget_head: BudgetHead | None,
        objectives: Mapping[str, Objective],
        optimizer: OptimizerSettings,
        settings: LLMSettings,
    ) -> None:
        super().__init__(observer, scorer, budget_head, objectives, optimizer)
        self.settings = settings
        self.adapters: LoraAdapters | None = None
        self._while_fitting = ExitStack()

    def configure_model(self) -> None:
        if self.settings.lora is not None and self.adapters is None:
            self.adapters = LoraAdapters(self.observer.teacher.backbone, self.settings.lora)
            self.observer.adapters = self.adapters

    def on_fit_start(self) -> None:
        if not self.settings.checkpointing:
            return
        teacher = self.observer.teacher
        # Layers are computed again when the forward call's own context is closed.
        self._while_fitting.enter_context(attends_through_stages(teacher.model))
        options = {"use_reentrant": False}
        teacher.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
        for layer in teacher.backbone.decoder.layers:
            # What the layers look at; their parts stay in evaluation, without dropout.
            layer.training = True

    def on_fit_end(self) -> None:
        self._while_fitting.close()

    def predict(self, batch: AnswerBatch) -> Prediction:
        """Compute scores and keep ratios; NaN without a budget head."""
        tokens = batch.distillation.tokens
        scores = self.scorer(tokens)
        if self.budget_head is None:
            return Prediction(scores, scores.new_full((len(scores),), torch.nan))
        return Prediction(scores, self.budget_head(tokens, scores))

    def labels(self, batch: AnswerBatch) -> Labels:
        """Collect what the prediction is compared with."""
        given = batch.distillation
        return Labels(
            given.importance,
            given.dense_answer_share,
            given.tokens.vision_mask,
            batch.dense,
            batch.answer_ids,
            batch.distractors,
        )

    def prompts(self, batch: AnswerBatch) -> EncodedBatch:
        """Return the prompts, with the pictures encoded again where adapters act on them."""
        if self.adapters is None or not self.adapters.before_llm:
            return batch.prompts
        return batch.prompts.encoded_again(self.observer.teacher.backbone)

    def draw_shares(self, own: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Draw the step's keep ratios: the budget head's for some samples, random for the others.

        What is drawn is a function of seed, step and process, so that a resumed run draws the same.
        """
        seed = torch.initial_seed() + 1_000_003 * self.trainer.global_step
        generator = torch.Generator().manual_seed((seed + self.trainer.global_rank) % 2**63)
        # Right on average in small batches too.
        count = int(self.settings.budget.head_share * len(own) + torch.rand(1, generator=generator))
        low, high = self.settings.budget.keep_range
        drawn = low * (high / low) ** torch.rand(len(own) - count, generator=generator)
        return torch.cat([own[:count], drawn.to(own)])

    def best_tokens(
        self, prediction: Prediction, labels: Labels, keeps: Sequence[float | int]
    ) -> list[Int64[Tensor, "k"]]:
        """Index each sample's best tokens: a share or a count of them."""
        rows = zip(prediction.scores, labels.vision_mask, keeps, strict=True)
        return [top_k(row[mask], count_for(keep, int(mask.sum()))) for row, mask, keep in rows]

    def finish_step(self, batch: AnswerBatch, prediction: Prediction, labels: Labels) -> Tensor:
        """Compute and log the loss of a step."""
        terms = self.terms(prediction, labels)
        total = self.total(terms)
        self.log_step(terms, total, prediction, len(batch), batch.names)
        return total

    def validation_step(self, batch: AnswerBatch, index: int) -> None:
        prediction, labels = self.predict(batch), self.labels(batch)
        shares = {
            f"val/divergence@{keep:g}": [keep] * len(batch) for keep in self.settings.val_keeps
        }
        if self.budget_head is not None:
            shares["val/divergence@auto"] = prediction.keep.tolist()
        backbone = self.observer.teacher.backbone
        divergences = {}
        for name, keeps in shares.items():
            kept = self.best_tokens(prediction, labels, keeps)
            answers = answer_logits(backbone, batch.prompts, kept)
            pruned = Prediction(prediction.scores, prediction.keep, answers=answers)
            divergences[name] = AnswerDivergence()(pruned, labels)
        sizes: dict[str, Any] = {"batch_size": len(batch), "sync_dist": True, "on_epoch": True}
        keep = {} if self.budget_head is None else {"val/keep": prediction.keep.mean()}
        self.log("val/loss", torch.stack(list(divergences.values())).mean(), prog_bar=True, **sizes)
        self.log_dict({**divergences, **keep}, **sizes)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if self.adapters is not None:
            checkpoint[CONTENTS]["adapter"] = self.adapters.description()
