"""Train a scorer through the frozen LLM, behind differentiable gates before its vision tokens."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..distillation.answer_logits import GATE_MODES, gated_answer_logits
from ..distillation.answer_observer import AnswerBatch, AnswerObserver
from ..distillation.teacher import vlm_hidden_size
from ..gates import Gate, at_least_one
from ..objectives import Objective, check_objectives, needs
from ..scorers import BudgetHead, Scorer
from ..targets import Target
from .answer_module import AnswerModule, LLMSettings
from .settings import BudgetSettings, LoraSettings, OptimizerSettings, as_model_flags
from .start import load_start


class GateModule(AnswerModule):
    """A scorer and a budget head that learn from what the frozen LLM answers behind gates.

    With `lora`, adapters inside the LLM learn beside the scorer to answer from what is left. For
    adapters beside a scorer that does not learn, see `LoraModule`.

    Args:
        teacher: Directory or Hugging Face repository of the frozen VLM.
        objectives: The terms of the loss by the name that logs show; weight 0 leaves one out.
        gate: From scores and a count to gates.
        start: Directory or repository of an exported scorer to go on from, with its budget head.
        scorer: The scorer's class and arguments but its width, to start anew instead.
        target: What terms like `Distillation` learn from; only asked where one has a weight.
        distractors: What `Distraction` pushes down; only asked where it has a weight.
        gate_mode: "mask" or "scale": what the gates act on (`distillation.answer_logits`).
        budget: The number of vision tokens behind the gates of a step.
        lora: Adapters to train too.
        checkpointing: Compute the LLM's layers again in the backward pass instead of keeping what
            they computed.
        val_keeps: Keep ratios at which validation really drops tokens.
        optimizer: How weights are updated.
    """

    def __init__(
        self,
        teacher: str,
        objectives: dict[str, Objective],
        gate: Gate,
        start: str | None = None,
        scorer: Callable[[int], Scorer] | None = None,
        target: Target | None = None,
        distractors: Target | None = None,
        gate_mode: str = "mask",
        budget: BudgetSettings = BudgetSettings(),  # noqa: B008 - frozen
        lora: LoraSettings | None = None,
        checkpointing: bool = False,
        val_keeps: tuple[float, ...] = (0.0625, 0.25),
        optimizer: OptimizerSettings = OptimizerSettings(),  # noqa: B008 - frozen
    ) -> None:
        _check_gate(gate, gate_mode, lora)
        given = {"answers", "gates", "dense_answers"}
        given |= {"budget"} if budget.head_share > 0 else set()
        given |= {"target"} if target is not None else set()
        given |= {"distractors"} if distractors is not None else set()
        with as_model_flags():
            hidden_size = vlm_hidden_size(teacher)
            check_objectives(objectives, given)
        first, head = _begin(teacher, hidden_size, start, scorer, budget)
        needed = needs(objectives)
        observer = AnswerObserver(
            teacher,
            target if "target" in needed else None,
            distractors if "distractors" in needed else None,
            compares="dense_answers" in needed,
        )
        settings = LLMSettings(budget, val_keeps, checkpointing, lora)
        super().__init__(observer, first, head, objectives, optimizer, settings)
        self.gate, self.gate_mode = gate, gate_mode

    def training_step(self, batch: AnswerBatch, index: int) -> Tensor:
        prediction, labels = self.predict(batch), self.labels(batch)
        mask = labels.vision_mask
        prediction.counts = at_least_one(self.draw_shares(prediction.keep) * mask.sum(-1))
        prediction.log_gates = self.gate(prediction.scores, mask, prediction.counts, self.progress)
        gates = [row[real] for row, real in zip(prediction.log_gates, mask, strict=True)]
        with as_model_flags():
            prediction.answers = gated_answer_logits(
                self.observer.teacher.backbone, self.prompts(batch), gates, self.gate_mode
            )
        return self.finish_step(batch, prediction, labels)


def _check_gate(gate: Gate, gate_mode: str, lora: LoraSettings | None) -> None:
    if gate_mode not in GATE_MODES:
        raise ValueError(f"model.gate_mode: {gate_mode!r} is not one of {', '.join(GATE_MODES)}")
    if lora is not None and not (gate.removes and gate_mode == "mask"):
        raise ValueError(
            f"model.gate: {type(gate).__name__} with model.gate_mode {gate_mode} leaves a little "
            "of every token, and adapters are to give back what is gone; take StraightThrough "
            "and model.gate_mode mask, or train adapters alone with LoraModule"
        )


def _begin(
    teacher: str,
    hidden_size: int,
    start: str | None,
    scorer: Callable[[int], Scorer] | None,
    budget: BudgetSettings,
) -> tuple[Scorer, BudgetHead | None]:
    """Load or build the scorer and the budget head to train."""
    if (start is None) == (scorer is None):
        raise ValueError(
            "model.start, model.scorer: give one of them, an exported scorer to go on from or one "
            "to start anew"
        )
    head = None
    if start is not None:
        trained = load_start(start, teacher, hidden_size)
        first, head = trained.scorer, trained.budget
    else:
        assert scorer is not None
        first = scorer(hidden_size)
    if budget.head_share == 0:
        return first, None
    return first, head or BudgetHead(hidden_size, budget.hidden)
