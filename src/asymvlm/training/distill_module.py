"""Distil the teacher's importance into a scorer and a budget head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torchmetrics import MetricCollection

from ..distillation.batch import DistillationBatch
from ..distillation.observer import Observer
from ..distillation.teacher import vlm_hidden_size
from ..limits import check_at_least
from ..objectives import Labels, Objective, Prediction, check_objectives
from ..scorers import BudgetHead, Scorer
from ..targets import BudgetTarget, Target
from .metrics import BudgetCoverage, BudgetError, EvidenceKept, GainNDCG, MassKept, RecallAtShare
from .scorer_module import ScorerModule
from .settings import OptimizerSettings, as_model_flags

SHARES = (0.05, 0.10, 0.25)  # at which validation looks; metrics are named by the percentage


class ImportanceModule(ScorerModule):
    """A scorer and a budget head that learn from targets; with cached ones the LLM does not run.

    Args:
        teacher: Directory or Hugging Face repository of the frozen VLM.
        target: What the scorer learns from.
        scorer: The scorer's class and arguments but its width, which is the teacher's.
        budget_target: How many tokens are enough for a sample.
        objectives: The terms of the loss by the name that logs show; weight 0 leaves one out.
        budget_hidden: Hidden size of the budget head.
        optimizer: How weights are updated.
    """

    def __init__(
        self,
        teacher: str,
        target: Target,
        scorer: Callable[[int], Scorer],
        budget_target: BudgetTarget,
        objectives: dict[str, Objective],
        budget_hidden: int = 32,
        optimizer: OptimizerSettings = OptimizerSettings(learning_rate=3e-3),  # noqa: B008 - frozen
    ) -> None:
        with as_model_flags():
            width = vlm_hidden_size(teacher)
            check_objectives(objectives, {"target", "budget"})
        check_at_least(1, {"model.budget_hidden": budget_hidden})
        # In this order: with a seed, which weights each starts from is part of the result.
        first, head = scorer(width), BudgetHead(width, budget_hidden)
        observer = Observer(teacher, target, budget_target.ladder)
        super().__init__(observer, first, head, objectives, optimizer)
        self.budget_target = budget_target
        by_share = {f"{share:.0%}".rstrip("%"): share for share in SHARES}
        self.ranking_metrics = MetricCollection(
            {
                "ndcg": GainNDCG(),
                **{f"mass@{name}": MassKept(share) for name, share in by_share.items()},
                **{f"recall@{name}": RecallAtShare(share) for name, share in by_share.items()},
            },
            prefix="val/",
        )
        self.evidence_metrics = MetricCollection(
            {f"evidence@{name}": EvidenceKept(share) for name, share in by_share.items()},
            prefix="val/",
        )
        self.budget_metrics = MetricCollection(
            {"budget_coverage": BudgetCoverage(), "budget_error": BudgetError()}, prefix="val/"
        )

    def losses(self, batch: DistillationBatch) -> tuple[dict[str, Tensor], Prediction, Labels]:
        """Compute all terms, unweighted, and what they were computed from."""
        assert self.budget_head is not None
        scores = self.scorer(batch.tokens)
        prediction = Prediction(scores, self.budget_head(batch.tokens, scores))
        mask = batch.tokens.vision_mask
        labels = Labels(
            batch.importance,
            self.budget_target(batch.importance, scores, mask, batch.dense_answer_share),
            mask,
        )
        return self.terms(prediction, labels), prediction, labels

    def training_step(self, batch: DistillationBatch, index: int) -> Tensor:
        terms, prediction, _ = self.losses(batch)
        total = self.total(terms)
        self.log_step(terms, total, prediction, len(batch))
        return total

    def validation_step(self, batch: DistillationBatch, index: int) -> None:
        terms, prediction, labels = self.losses(batch)
        sizes: dict[str, Any] = {"batch_size": len(batch), "sync_dist": True, "on_epoch": True}
        self.log("val/loss", self.total(terms), prog_bar=True, **sizes)
        self.log_dict({f"val/{name}": term for name, term in terms.items()}, **sizes)
        self.log("val/keep", prediction.keep.mean(), **sizes)
        self.ranking_metrics.update(prediction.scores, labels.importance, labels.vision_mask)
        self.evidence_metrics.update(prediction.scores, batch.evidence, labels.vision_mask)
        self.budget_metrics.update(prediction.keep, labels.keep)

    def on_validation_epoch_end(self) -> None:
        for metrics in (self.ranking_metrics, self.evidence_metrics, self.budget_metrics):
            self.log_dict(metrics.compute())
            metrics.reset()
