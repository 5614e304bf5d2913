"""What the ways of training a scorer share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from ..backbone.prompt import Prompter
from ..checkpoint.scorer import TrainedScorer
from ..distillation.teacher import DistillationSample, Teacher, load_prompter
from ..documents import Sample
from ..errors import DataError
from ..export import CONTENTS
from ..objectives import Objective, Prediction, Labels
from ..scorers import BudgetHead, Scorer
from ..storage.fingerprint import describe, describe_teacher
from ..storage.weights_fingerprint import weights_fingerprint
from ..targets import Target
from ..typing import Float
from .lr_schedule import warm_up_cosine
from .provenance import provenance


class ScorerModule(L.LightningModule, ABC):
    """A scorer, its budget head and the objectives. The teacher stays outside the module tree: no checkpoint and no DDP wrapper holds it.

    Args:
        teacher: Directory or Hugging Face repository of the frozen VLM.
        target: What the scorer learns from, if from a target.
        scorer: What is trained.
        budget_head: What is trained beside it; None leaves a scorer without a budget of its own.
        objectives: The terms of the loss by the name that logs show; those of weight 0 are left out.
        learning_rate: Peak of AdamW's rate.
        weight_decay: AdamW's decay.
        warm_up: Share of all steps in which the rate rises.
    """

    def __init__(
        self,
        teacher: str,
        target: Target | None,
        scorer: Scorer,
        budget_head: BudgetHead | None,
        objectives: Mapping[str, Objective],
        learning_rate: float,
        weight_decay: float,
        warm_up: float,
    ) -> None:
        super().__init__()
        self.teacher_path, self.target = teacher, target
        self.scorer, self.budget_head = scorer, budget_head
        self.objectives = nn.ModuleDict({name: term for name, term in objectives.items() if term.weight > 0})
        self.learning_rate, self.weight_decay, self.warm_up = learning_rate, weight_decay, warm_up
        self._newest = ""  # what the newest step read, and its terms

    @cached_property
    def teacher(self) -> Teacher:
        """Loaded when first needed: with a full target cache, never. That may be before the trainer has moved this module."""
        device = self.device if self._trainer is None else self._trainer.strategy.root_device
        return Teacher.load(self.teacher_path, device)

    @cached_property
    def prompter(self) -> Prompter:
        """The teacher's processor alone."""
        return load_prompter(self.teacher_path)

    def targets(self) -> list[Target]:
        """All that it asks the teacher for."""
        return [] if self.target is None else [self.target]

    @abstractmethod
    def observe(self, samples: Sequence[Sample]) -> list[DistillationSample]:
        """What the scorer sees of samples, and what it may learn from; asks the live teacher."""

    def observed_by(self) -> dict[str, Any]:
        """Everything that observations depend on beside the pages; equal values may share a cache."""
        device = torch.device("cpu") if self._trainer is None else self._trainer.strategy.root_device
        return {
            "teacher": describe_teacher(self.teacher_path, self.prompter.processor),
            "target": describe(self.target),
            "computed_in": "float32" if device.type == "cpu" else "the type of the weights",
        }

    @abstractmethod
    def batch(self, samples: Sequence[Sample]) -> Any:
        """What a step takes, from samples, by the live teacher."""

    def terms(self, prediction: Prediction, labels: Labels) -> dict[str, Tensor]:
        """All terms of the loss, unweighted."""
        return {name: term(prediction, labels) for name, term in self.objectives.items()}

    def total(self, terms: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """Their weighted sum, as things stand at this step."""
        weights = {name: self.objectives[name].weight_at(self.progress) for name in terms}  # type: ignore[operator]
        return torch.stack([weights[name] * term for name, term in terms.items()]).sum()

    @property
    def progress(self) -> float:
        """The share of all steps that is done, in [0, 1]."""
        return min(1.0, self.trainer.global_step / max(1, int(self.trainer.estimated_stepping_batches)))

    def log_step(self, terms: Mapping[str, Tensor], total: Tensor, prediction: Prediction, size: int, names: Sequence[str] = ()) -> None:
        """What every training step logs. Raises DataError for a loss that is no number, before it reaches the weights.

        `names` are the batch's samples, where they are known.
        """
        self._newest = f", samples {', '.join(names)}" if names else ""
        self._newest += f" ({', '.join(f'{name} {float(term.detach()):.4g}' for name, term in terms.items())})"
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
            + "lower model.learning_rate, or look at these samples"
        )

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Raises DataError for gradients that are no numbers; in fp16 the scaler leaves such steps out by itself."""
        if getattr(self.trainer.precision_plugin, "scaler", None) is not None:
            return
        lost = [name for name, one in self.named_parameters() if one.grad is not None and not bool(one.grad.isfinite().all())]
        if lost:
            self._stop(f"the gradient of {lost[0]} is no number")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A checkpoint can be exported without the config or the teacher that made it."""
        about = provenance(self.trainer, {"name": self.teacher_path, "weights": weights_fingerprint(self.teacher_path)}, self.target)
        trained = TrainedScorer(self.scorer, self.budget_head, self.prompter.masked_ids, about)
        checkpoint[CONTENTS] = {"config": trained.config()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raises DataError for a checkpoint of a module with other parts."""
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
        steps = int(self.trainer.estimated_stepping_batches)
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        warm_up = max(1, round(self.warm_up * steps))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_up_cosine(step, steps, warm_up))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
