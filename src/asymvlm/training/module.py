"""The main job: distil the teacher's relevance into a scorer and a budget head."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics import MetricCollection

from ..checkpoint import TrainedScorer
from ..evaluation.ranking import BudgetCoverage, BudgetError, EvidenceKept, GainNDCG, MassKept, RecallAtShare
from ..export import CONTENTS
from ..objectives import BudgetRegression, Distillation, Objective, Prediction, Ranking, Sparsity, Truth
from ..prompts import Prompter
from ..schedule import warm_up_cosine
from ..scorers import BudgetHead, Scorer
from ..targets import BudgetTarget, Target
from ..teacher import Teacher, check_is_vlm, load_prompter
from .batch import TrainingBatch
from .provenance import provenance

SHARES = (0.05, 0.10, 0.25)  # at which validation looks; metrics are named by the percentage


class ImportanceModule(L.LightningModule):
    """Scorer, budget head and objectives; the teacher stays outside the module tree.

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
        super().__init__()
        width = check_is_vlm(teacher)
        self.teacher_path = teacher
        self.target = target
        self.budget_target = budget_target
        self.learning_rate, self.weight_decay, self.warm_up = learning_rate, weight_decay, warm_up
        self.scorer = scorer(width)
        self.budget_head = BudgetHead(width, budget_hidden)
        self.objectives = nn.ModuleDict({"distillation": distillation, "ranking": ranking, "budget": budget, "sparsity": sparsity})
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

    @cached_property
    def teacher(self) -> Teacher:
        """Loaded when first needed: with a full target cache, never. Not a submodule, so no checkpoint holds it."""
        return Teacher.load(self.teacher_path, self.device)

    @cached_property
    def prompter(self) -> Prompter:
        """The teacher's processor alone."""
        return load_prompter(self.teacher_path)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A checkpoint can be exported without the config or the teacher that made it."""
        about = provenance(self.trainer, self.teacher_path, self.target)
        trained = TrainedScorer(self.scorer, self.budget_head, self.prompter.masked_ids, about)
        checkpoint[CONTENTS] = {"config": trained.config()}

    def losses(self, batch: TrainingBatch) -> tuple[dict[str, Tensor], Prediction, Truth]:
        """All terms, unweighted, and what they were computed from."""
        scores = self.scorer(batch.tokens)
        prediction = Prediction(scores, self.budget_head(batch.tokens, scores))
        mask = batch.tokens.vision_mask
        truth = Truth(batch.relevance, self.budget_target(batch.relevance, scores, mask, batch.enough), mask)
        terms = {
            name: objective(prediction, truth)
            for name, objective in self.objectives.items()
            if isinstance(objective, Objective) and objective.weight > 0
        }
        return terms, prediction, truth

    def _total(self, terms: dict[str, Tensor]) -> Tensor:
        return torch.stack([self.objectives[name].weight * term for name, term in terms.items()]).sum()  # type: ignore[operator]

    def training_step(self, batch: TrainingBatch, index: int) -> Tensor:
        terms, prediction, _ = self.losses(batch)
        total = self._total(terms)
        self.log("train/loss", total, prog_bar=True, batch_size=len(batch))
        self.log_dict({f"train/{name}": term for name, term in terms.items()}, batch_size=len(batch))
        self.log("train/keep", prediction.keep.mean(), batch_size=len(batch))
        return total

    def validation_step(self, batch: TrainingBatch, index: int) -> None:
        terms, prediction, truth = self.losses(batch)
        sizes: dict[str, Any] = {"batch_size": len(batch), "sync_dist": True, "on_epoch": True}
        self.log("val/loss", self._total(terms), prog_bar=True, **sizes)
        self.log_dict({f"val/{name}": term for name, term in terms.items()}, **sizes)
        self.log("val/keep", prediction.keep.mean(), **sizes)
        self.ranking_metrics.update(prediction.scores, truth.relevance, truth.vision_mask)
        self.evidence_metrics.update(prediction.scores, batch.evidence, truth.vision_mask)
        self.budget_metrics.update(prediction.keep, truth.keep)

    def on_validation_epoch_end(self) -> None:
        for metrics in (self.ranking_metrics, self.evidence_metrics, self.budget_metrics):
            self.log_dict(metrics.compute())
            metrics.reset()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        steps = int(self.trainer.estimated_stepping_batches)
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        warm_up = max(1, round(self.warm_up * steps))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_up_cosine(step, steps, warm_up))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
