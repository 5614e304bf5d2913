"""Common parts of all trainings of a scorer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from ..checkpoint.scorer import TrainedScorer
from ..distillation.observer import Observer
from ..errors import DataError
from ..export import CONTENTS
from ..objectives import Labels, Objective, Prediction
from ..scorers import BudgetHead, Scorer
from ..typing import Float
from .lr_schedule import warm_up_cosine
from .provenance import provenance
from .settings import OptimizerSettings


class ScorerModule(L.LightningModule):
    """A scorer, its budget head and the objectives.

    Args:
        observer: The teacher and what it is asked; the data module asks it. It stays outside the
            module tree, so that no checkpoint and no DDP wrapper holds the teacher.
        scorer: What is trained.
        budget_head: What is trained beside it; None leaves a scorer without a budget of its own.
        objectives: The terms of the loss by the name that logs show; weight 0 leaves one out.
        optimizer: How weights are updated.
    """

    # For Lightning's ThroughputMonitor, which asks every module: not counted.
    flops_per_batch: int | None = None

    def __init__(
        self,
        observer: Observer,
        scorer: Scorer,
        budget_head: BudgetHead | None,
        objectives: Mapping[str, Objective],
        optimizer: OptimizerSettings,
    ) -> None:
        super().__init__()
        self.observer, self.optimizer_settings = observer, optimizer
        self.scorer, self.budget_head = scorer, budget_head
        weighted = {name: term for name, term in objectives.items() if term.weight > 0}
        self.objectives = nn.ModuleDict(weighted)
        self._newest = ""  # what the newest step read, and its terms

    def terms(self, prediction: Prediction, labels: Labels) -> dict[str, Tensor]:
        """Compute all terms of the loss, unweighted."""
        return {name: term(prediction, labels) for name, term in self.objectives.items()}

    def total(self, terms: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """Sum the terms with their weights at this step."""
        objectives: Any = self.objectives
        weights = {name: objectives[name].weight_at(self.progress) for name in terms}
        return torch.stack([weights[name] * term for name, term in terms.items()]).sum()

    @property
    def progress(self) -> float:
        """The share of all steps that is done, in [0, 1]."""
        return min(
            1.0, self.trainer.global_step / max(1, int(self.trainer.estimated_stepping_batches))
        )

    def log_step(
        self,
        terms: Mapping[str, Tensor],
        total: Tensor,
        prediction: Prediction,
        size: int,
        names: Sequence[str] = (),
    ) -> None:
        """Log a training step.

        Raises DataError for a loss that is no number, before it reaches the weights.

        `names` are the batch's samples, where they are known.
        """
        self._newest = f", samples {', '.join(names)}" if names else ""
        self._newest += (
            f" ({', '.join(f'{name} {float(term.detach()):.4g}' for name, term in terms.items())})"
        )
        if not bool(total.isfinite()):
            self._stop(f"loss is {float(total.detach())}")
        self.log("train/loss", total, prog_bar=True, batch_size=size)
        self.log_dict({f"train/{name}": term for name, term in terms.items()}, batch_size=size)
        if self.budget_head is not None:
            self.log("train/keep", prediction.keep.mean(), batch_size=size)

    def _stop(self, why: str) -> None:
        newest = getattr(self.trainer.checkpoint_callback, "last_model_path", "")
        raise DataError(
            f"{why} in epoch {self.current_epoch}, step {self.global_step}{self._newest}; "
            + (f"the newest good checkpoint is {newest}; " if newest else "")
            + "lower model.optimizer.learning_rate, or look at these samples"
        )

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Raise DataError for gradients that are no numbers.

        In fp16 the scaler skips such steps.
        """
        if getattr(self.trainer.precision_plugin, "scaler", None) is not None:
            return
        lost = [
            name
            for name, parameter in self.named_parameters()
            if parameter.grad is not None and not bool(parameter.grad.isfinite().all())
        ]
        if lost:
            self._stop(f"the gradient of {lost[0]} is no number")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what an export needs, without the config or the teacher."""
        about = provenance(
            self.trainer,
            self.observer.teacher_weights(),
            self.observer.target,
        )
        trained = TrainedScorer(
            self.scorer, self.budget_head, self.observer.prompter.masked_ids, about
        )
        checkpoint[CONTENTS] = {"config": trained.config()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raise DataError for a checkpoint of a module with other parts."""
        own, stored = self.state_dict(), checkpoint["state_dict"]
        misfits = [
            name
            for name in sorted(own.keys() | stored.keys())
            if name not in own or name not in stored or own[name].shape != stored[name].shape
        ]
        if misfits:
            raise DataError(
                f"ckpt_path: {self.trainer.ckpt_path} does not fit the model's settings: "
                f"{len(misfits)} tensors differ, the first is {misfits[0]}; take the settings that "
                "it was trained with, or start anew without --ckpt_path"
            )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        settings = self.optimizer_settings
        steps = int(self.trainer.estimated_stepping_batches)
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        warm_up = max(1, round(settings.warm_up * steps))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: warm_up_cosine(step, steps, warm_up)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
