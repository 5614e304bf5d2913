"""Train LoRA adapters inside the VLM beside a frozen scorer, with tokens really dropped."""

from __future__ import annotations

from torch import Tensor

from ..distillation.answer_logits import answer_logits
from ..distillation.answer_observer import AnswerBatch, AnswerObserver
from ..distillation.teacher import vlm_hidden_size
from ..gates import at_least_one
from ..objectives import Objective, check_objectives, needs
from .answer_module import AnswerModule, LLMSettings
from .settings import BudgetSettings, LoraSettings, OptimizerSettings, as_model_flags
from .start import load_start


class LoraModule(AnswerModule):
    """Adapters that learn to answer from the tokens that an exported scorer keeps.

    They learn the right answer, or what the VLM answers without adapters and without pruning.

    Args:
        teacher: Directory or Hugging Face repository of the frozen VLM.
        start: Directory or repository of the scorer, which stays as it is.
        objectives: The terms of the loss by the name that logs show; weight 0 leaves one out.
        lora: What the adapters are.
        budget: How many vision tokens a step keeps.
        checkpointing: Compute the LLM's layers again in the backward pass instead of keeping what
            they computed.
        val_keeps: Keep ratios at which validation really drops tokens.
        optimizer: How weights are updated.
    """

    def __init__(
        self,
        teacher: str,
        start: str,
        objectives: dict[str, Objective],
        lora: LoraSettings = LoraSettings(),  # noqa: B008 - frozen
        budget: BudgetSettings = BudgetSettings(),  # noqa: B008 - frozen
        checkpointing: bool = False,
        val_keeps: tuple[float, ...] = (0.0625, 0.25),
        optimizer: OptimizerSettings = OptimizerSettings(),  # noqa: B008 - frozen
    ) -> None:
        with as_model_flags():
            check_objectives(objectives, {"answers", "dense_answers"})
            hidden_size = vlm_hidden_size(teacher)
        trained = load_start(start, teacher, hidden_size)
        head = trained.budget
        if budget.head_share == 0:
            head = None
        elif head is None:
            raise ValueError(
                f"model.start: the scorer of {start} has no budget head; set "
                "model.budget.head_share to 0"
            )
        trained.scorer.requires_grad_(False)
        if head is not None:
            head.requires_grad_(False)
        compares = "dense_answers" in needs(objectives)
        observer = AnswerObserver(teacher, None, None, compares)
        settings = LLMSettings(budget, val_keeps, checkpointing, lora)
        super().__init__(observer, trained.scorer, head, objectives, optimizer, settings)

    def training_step(self, batch: AnswerBatch, index: int) -> Tensor:
        prediction, labels = self.predict(batch), self.labels(batch)
        shares = self.draw_shares(prediction.keep)
        prediction.counts = at_least_one(shares * labels.vision_mask.sum(-1))
        counts = (prediction.counts + 0.5).int().tolist()
        kept = self.best_tokens(prediction, labels, counts)
        backbone = self.observer.teacher.backbone
        prediction.answers = answer_logits(backbone, self.prompts(batch), kept)
        return self.finish_step(batch, prediction, labels)
