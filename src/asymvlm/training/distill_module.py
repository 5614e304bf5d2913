"""The main job: distil the teacher's importance into a scorer and a budget head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torchmetrics import MetricCollection

from ..distillation.teacher import DistillationSample, vlm_hidden_size
from ..documents import Sample
from ..objectives import BudgetRegression, Distillation, Prediction, Ranking, Sparsity, Labels
from ..scorers import BudgetHead, Scorer
from ..targets import BudgetTarget, Target
from .batch import TrainingBatch, collate
from .metrics import BudgetCoverage, BudgetError, EvidenceKept, GainNDCG, MassKept, RecallAtShare
from .scorer_module import ScorerModule

SHARES = (0.05, 0.10, 0.25)  # at which validation looks; metrics are named by the percentage


class ImportanceModule(ScorerModule):
    """A scorer and a budget head that learn from targets; the LLM does not run, where these are cached.

    Args:
        teacher: Directory or Hugging Face repository of the frozen VLM.
        target: What the scorer learns from.
        scorer: The scorer's class and arguments but its width, which is the teacher's.
        budget_target: How many tokens are enough for a sample.
        distillation: KL to the target.
        ranking: Order of the best tokens.
        budget: Regression of the budget head to the budget target.
        sparsity: Pushes the mean keep ratio down.
        budget_hidden: Width of the budget head.
        learning_rate: Peak of AdamW's rate.
        weight_decay: AdamW's decay.
        warm_up: Share of all steps in which the rate rises.
    """

    def __init__(
        self,
        teacher: str,
        target: Target,
        scorer: Callable[[int], Scorer],
        budget_target: BudgetTarget,
        distillation: Distillation,
        ranking: Ranking,
        budget: BudgetRegression,
        sparsity: Sparsity,
        budget_hidden: int = 32,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.01,
        warm_up: float = 0.05,
    ) -> None:
        width = vlm_hidden_size(teacher)
        objectives = {"distillation": distillation, "ranking": ranking, "budget": budget, "sparsity": sparsity}
        # In this order: with a seed, which weights each starts from is part of the result.
        first, head = scorer(width), BudgetHead(width, budget_hidden)
        super().__init__(teacher, target, first, head, objectives, learning_rate, weight_decay, warm_up)
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
            {f"evidence@{name}": EvidenceKept(share) for name, share in by_share.items()}, prefix="val/"
        )
        self.budget_metrics = MetricCollection({"budget_coverage": BudgetCoverage(), "budget_error": BudgetError()}, prefix="val/")

    def observe(self, samples: Sequence[Sample]) -> list[DistillationSample]:
        assert self.target is not None
        return self.teacher.observe(samples, self.target, self.budget_target.ladder)

    def observed_by(self) -> dict[str, Any]:
        return super().observed_by() | {"ladder": self.budget_target.ladder}

    def batch(self, samples: Sequence[Sample]) -> TrainingBatch:
        return collate(self.observe(samples))

    def losses(self, batch: TrainingBatch) -> tuple[dict[str, Tensor], Prediction, Labels]:
        """All terms, unweighted, and what they were computed from."""
        assert self.budget_head is not None
        scores = self.scorer(batch.tokens)
        prediction = Prediction(scores, self.budget_head(batch.tokens, scores))
        mask = batch.tokens.vision_mask
        labels = Labels(batch.importance, self.budget_target(batch.importance, scores, mask, batch.dense_answer_share), mask)
        return self.terms(prediction, labels), prediction, labels

    def training_step(self, batch: TrainingBatch, index: int) -> Tensor:
        terms, prediction, _ = self.losses(batch)
        total = self.total(terms)
        self.log_step(terms, total, prediction, len(batch))
        return total

    def validation_step(self, batch: TrainingBatch, index: int) -> None:
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
