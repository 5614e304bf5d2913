"""Training through the frozen LLM: what pruning does to the answer is the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..backbone.gated import gating
from ..checkpoint.scorer import load_scorer
from ..distillation.answer_logits import GATE_MODES, answer_logits, gated_answer_logits
from ..distillation.teacher import DistillationSample, vlm_hidden_size
from ..documents import Sample
from ..export import CONTENTS
from ..gates import Gate, at_least_one
from ..objectives import (
    AnswerCrossEntropy,
    AnswerDivergence,
    Distillation,
    Distraction,
    Hardening,
    Prediction,
    Sparsity,
    Labels,
)
from ..scorers import BudgetHead, Scorer
from ..selectors import count_for, top_k
from ..storage.weights_fingerprint import weights_fingerprint
from ..targets import Target, EncodedBatch
from ..typing import Float, Int64
from .batch import TrainingBatch, collate
from .lora import LoraAdapters, LoraSettings
from .scorer_module import ScorerModule


@dataclass
class ReadingBatch:
    """Samples as a step through the LLM takes them; where the teacher is already."""

    observed: TrainingBatch
    prompts: EncodedBatch
    dense: Float[Tensor, "B A V"] | None  # where a term or the validation compares with it
    answer_ids: Int64[Tensor, "B A"]  # -100 on padding
    distractors: Float[Tensor, "B N"] | None  # where a term avoids them
    names: list[str]

    def __len__(self) -> int:
        return len(self.observed)

    def to(self, *args: object, **kwargs: object) -> ReadingBatch:
        """Itself: the teacher made it on its own device."""
        return self


def _differ(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether two teachers are known to be different: by their weights, or by name where both are repositories."""
    marks = one.get("weights", ""), other.get("weights", "")
    if all(marks):
        return marks[0] != marks[1]
    return not any(marks) and one.get("name", other["name"]) != other["name"]


class ThroughLLM(ScorerModule):
    """A scorer and a budget head that learn from what the frozen LLM answers with gates before its vision tokens.

    With `recovery`, adapters inside the LLM learn to answer from the tokens that are left, rightly or as it does without adapters and
    without pruning: beside a frozen scorer with tokens really removed, beside a scorer that learns behind gates that hide all but the
    best (`StraightThrough`).

    Args:
        teacher: Directory or Hugging Face repository of the frozen VLM.
        gate: From scores and a count to gates.
        divergence: KL of the answer to the dense one.
        cross_entropy: Cross-entropy of the answer to the right one.
        hardening: Pull of the gates to a hard choice.
        distillation: What is left of the distillation from `target`.
        distraction: Pushes what `distractors` names below the average token.
        sparsity: Pushes the budget head's mean keep ratio down.
        start: Directory or repository of an exported scorer to go on from, its budget head included.
        scorer: The scorer's class and arguments but its width, to start anew instead.
        target: What the distillation is from; may be left out where its weight is 0.
        distractors: What resembles the answer and is none; likewise.
        gate_mode: "mask" or "scale": what the gates act on (`asymvlm.distillation.answer_logits`).
        keep_range: Smallest and largest share of tokens let through; every sample draws its own between them, uniform in the logarithm.
        own_budget: Share of a step's samples whose count is the budget head's instead, which is how that learns; 0 leaves the head out.
        recovery: "lora" trains adapters too.
        lora: What they are.
        frozen_scorer: Train adapters alone; terms that only the scorer could follow are left out.
        checkpointing: Compute the LLM's layers again in the backward pass instead of keeping what they made.
        val_keeps: Shares at which validation really removes tokens; `val/loss` is the mean divergence there and at the head's own budget.
        learning_rate: Peak of AdamW's rate.
        weight_decay: AdamW's decay.
        warm_up: Share of all steps in which the rate rises.
        budget_hidden: Width of a budget head that starts anew.
    """

    def __init__(
        self,
        teacher: str,
        gate: Gate,
        divergence: AnswerDivergence,
        cross_entropy: AnswerCrossEntropy,
        hardening: Hardening,
        distillation: Distillation,
        distraction: Distraction,
        sparsity: Sparsity,
        start: str | None = None,
        scorer: Callable[[int], Scorer] | None = None,
        target: Target | None = None,
        distractors: Target | None = None,
        gate_mode: str = "mask",
        keep_range: tuple[float, float] = (0.03125, 0.5),
        own_budget: float = 0.25,
        recovery: Literal["none", "lora"] = "none",
        lora: LoraSettings | None = None,
        frozen_scorer: bool = False,
        checkpointing: bool = False,
        val_keeps: tuple[float, ...] = (0.0625, 0.25),
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        warm_up: float = 0.05,
        budget_hidden: int = 32,
    ) -> None:
        width = vlm_hidden_size(teacher)
        if (start is None) == (scorer is None):
            raise ValueError("model.start, model.scorer: give one of them, an exported scorer to go on from or one to start anew")
        if gate_mode not in GATE_MODES:
            raise ValueError(f"model.gate_mode: {gate_mode!r} is not one of {', '.join(GATE_MODES)}")
        if not 0 < keep_range[0] <= keep_range[1] <= 1:
            raise ValueError(f"model.keep_range: {list(keep_range)} must be a smaller and a larger share, both in (0, 1]")
        if not 0 <= own_budget <= 1:
            raise ValueError(f"model.own_budget: {own_budget} must lie in [0, 1]")
        if lora is not None and recovery == "none":
            raise ValueError("model.lora: describes adapters that nothing trains; give model.recovery lora")
        if frozen_scorer and (recovery == "none" or start is None):
            raise ValueError("model.frozen_scorer: nothing useful is left to train; give model.start and model.recovery lora")
        if recovery == "lora" and not frozen_scorer and not (gate.removes and gate_mode == "mask"):
            raise ValueError(
                f"model.gate: {type(gate).__name__} with model.gate_mode {gate_mode} leaves a little of every token, and adapters are to give back what is "
                "gone; take asymvlm.gates.StraightThrough and model.gate_mode mask, or model.frozen_scorer true"
            )
        if frozen_scorer and divergence.weight == cross_entropy.weight == 0:
            raise ValueError("model.divergence.weight, model.cross_entropy.weight: both are 0, and adapters learn from nothing else")
        if distillation.weight > 0 and target is None:
            raise ValueError("model.target: distillation has a weight, so name a target, or set model.distillation.weight to 0")
        if distraction.weight > 0 and distractors is None:
            raise ValueError("model.distractors: distraction has a weight, so name a target, or set model.distraction.weight to 0")
        objectives = {
            "divergence": divergence,
            "cross_entropy": cross_entropy,
            "hardening": hardening,
            "distillation": distillation,
            "distraction": distraction,
            "sparsity": sparsity,
        }
        if start is not None:
            trained = load_scorer(start)
            if trained.width != width:
                raise ValueError(f"model.start: the scorer of {start} is for a width of {trained.width}, {teacher} has {width}")
            if trained.adapter is not None:
                raise ValueError(f"model.start: {start} has an adapter, which would be lost; start from the scorer it was trained beside")
            learned_from = trained.about.get("teacher", {})
            if _differ(learned_from, {"name": teacher, "weights": weights_fingerprint(teacher)}):
                raise ValueError(
                    f"model.start: the scorer of {start} was trained on other weights ({learned_from['name']}) than those of {teacher}; "
                    "train one on this teacher first"
                )
            first, head = trained.scorer, trained.budget
        else:
            assert scorer is not None
            first, head = scorer(width), None
        if own_budget == 0:
            head, objectives = None, {name: term for name, term in objectives.items() if name != "sparsity"}
        elif head is None:
            head = BudgetHead(width, budget_hidden)
        if frozen_scorer:
            first.requires_grad_(False)
            head = None if head is None else head.requires_grad_(False)
            objectives = {name: objectives[name] for name in ("divergence", "cross_entropy")}
        if "distillation" not in objectives or distillation.weight == 0:
            target = None  # it costs a pass of the LLM
        super().__init__(teacher, target, first, head, objectives, learning_rate, weight_decay, warm_up)
        self.distractors = distractors if "distraction" in self.objectives else None  # they cost a pass of the LLM, too
        self.gate, self.gate_mode, self.keep_range, self.own_budget = gate, gate_mode, keep_range, own_budget
        self.checkpointing, self.val_keeps = checkpointing, val_keeps
        self.frozen_scorer, self.lora = frozen_scorer, (lora or LoraSettings()) if recovery == "lora" else None
        self.adapters: LoraAdapters | None = None
        self._while_fitting = ExitStack()

    def targets(self) -> list[Target]:
        return super().targets() + ([] if self.distractors is None else [self.distractors])

    def observed_by(self) -> dict[str, Any]:
        """Asked where a cache is to be read or written."""
        raise ValueError("data.cache: true keeps targets alone; training through the LLM asks the live teacher, set it to false")

    def configure_model(self) -> None:
        if self.lora is not None and self.adapters is None:
            self.adapters = LoraAdapters(self.teacher.backbone, self.lora)

    def on_fit_start(self) -> None:
        if self.checkpointing:
            model = self.teacher.model
            self._while_fitting.enter_context(gating(model))  # layers are computed again when the forward call's own is closed
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            for layer in self.teacher.backbone.decoder.layers:
                layer.training = True  # what the layers look at; their parts stay in evaluation, without dropout

    def on_fit_end(self) -> None:
        self._while_fitting.close()

    def observe(self, samples: Sequence[Sample]) -> list[DistillationSample]:
        return self._observed(samples, self.teacher.encode_batch(samples))

    def _observed(self, samples: Sequence[Sample], prompts: EncodedBatch) -> list[DistillationSample]:
        if self.target is None:
            importances = [torch.full((count,), 1 / count, device=self.device) for count in prompts.layout.counts()]
        else:
            with self._as_it_came(samples, prompts) as plain:
                importances = self.teacher.importances(samples, plain, self.target)
        return self.teacher.observations(prompts, importances, torch.full((len(importances),), torch.nan))

    @torch.no_grad()
    def batch(self, samples: Sequence[Sample]) -> ReadingBatch:
        with self.trainer.precision_plugin.forward_context():  # the trainer opens it for steps alone
            prompts = self.teacher.encode_batch(samples)
            observed = collate(self._observed(samples, prompts))
            compared = "divergence" in self.objectives or not self.trainer.training
            with self._as_it_came(samples, prompts) as plain:
                dense = answer_logits(self.teacher.backbone, plain) if compared else None
                avoided = self.distractors if self.trainer.training else None
                found = None if avoided is None else pad_sequence(self.teacher.importances(samples, plain, avoided), batch_first=True)
        ids = pad_sequence(prompts.answer_ids, batch_first=True, padding_value=-100)
        return ReadingBatch(observed, prompts, dense, ids, found, [sample.id for sample in samples])

    @contextmanager
    def _as_it_came(self, samples: Sequence[Sample], prompts: EncodedBatch) -> Iterator[EncodedBatch]:
        """While open, the VLM has no adapters; yields the prompts as it sees them then."""
        if self.adapters is None:
            yield prompts
            return
        with self.adapters.off():
            yield self.teacher.encode_batch(samples) if self.adapters.before_llm else prompts

    def _predicted(self, batch: ReadingBatch) -> Prediction:
        """Scores and keep ratios."""
        tokens = batch.observed.tokens
        scores = self.scorer(tokens)
        none = scores.new_full((len(scores),), torch.nan)
        return Prediction(scores, none if self.budget_head is None else self.budget_head(tokens, scores))

    def _truth(self, batch: ReadingBatch) -> Labels:
        observed = batch.observed
        mask = observed.tokens.vision_mask
        return Labels(observed.importance, observed.dense_answer_share, mask, batch.dense, batch.answer_ids, batch.distractors)

    def training_step(self, batch: ReadingBatch, index: int) -> Tensor:
        prediction, labels = self._predicted(batch), self._truth(batch)
        prediction.counts = at_least_one(self._shares(prediction.keep) * labels.vision_mask.sum(-1))
        prompts, backbone = batch.prompts, self.teacher.backbone
        if self.adapters is not None and self.adapters.before_llm:
            prompts = replace(prompts, encoded=backbone.encode(prompts.inputs))  # again, with gradients
        if self.frozen_scorer:
            prediction.answers = answer_logits(backbone, prompts, self._kept(prediction, labels, (prediction.counts + 0.5).int().tolist()))
        else:
            prediction.log_gates = self.gate(prediction.scores, labels.vision_mask, prediction.counts, self.progress)
            gates = [row[mine] for row, mine in zip(prediction.log_gates, labels.vision_mask, strict=True)]
            prediction.answers = gated_answer_logits(backbone, prompts, gates, self.gate_mode)
        terms = self.terms(prediction, labels)
        total = self.total(terms)
        self.log_step(terms, total, prediction, len(batch), batch.names)
        return total

    def _kept(self, prediction: Prediction, labels: Labels, wanted: Sequence[float | int]) -> list[Int64[Tensor, "k"]]:
        """Indices of each sample's best tokens: a share or a count of them."""
        rows = zip(prediction.scores, labels.vision_mask, wanted, strict=True)
        return [top_k(row[mine], count_for(keep, int(mine.sum()))) for row, mine, keep in rows]

    def _shares(self, own: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """The budget head's shares for some samples of this step, drawn ones for the others.

        What is drawn is a function of seed, step and process, so that a resumed run draws the same.
        """
        seed = torch.initial_seed() + 1_000_003 * self.trainer.global_step + self.trainer.global_rank
        generator = torch.Generator().manual_seed(seed % 2**63)
        count = int(self.own_budget * len(own) + torch.rand(1, generator=generator))  # right on average in small batches too
        low, high = self.keep_range
        drawn = low * (high / low) ** torch.rand(len(own) - count, generator=generator)
        return torch.cat([own[:count], drawn.to(own)])

    def validation_step(self, batch: ReadingBatch, index: int) -> None:
        prediction, labels = self._predicted(batch), self._truth(batch)
        shares = {f"val/divergence@{keep:g}": [keep] * len(batch) for keep in self.val_keeps}
        if self.budget_head is not None:
            shares["val/divergence@auto"] = prediction.keep.tolist()
        divergences = {}
        for name, wanted in shares.items():
            answers = answer_logits(self.teacher.backbone, batch.prompts, self._kept(prediction, labels, wanted))
            divergences[name] = AnswerDivergence()(Prediction(prediction.scores, prediction.keep, answers=answers), labels)
        sizes = {"batch_size": len(batch), "sync_dist": True, "on_epoch": True}
        keep = {} if self.budget_head is None else {"val/keep": prediction.keep.mean()}
        self.log("val/loss", torch.stack(list(divergences.values())).mean(), prog_bar=True, **sizes)  # type: ignore[arg-type]
        self.log_dict({**divergences, **keep}, **sizes)  # type: ignore[arg-type]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if self.adapters is not None:
            checkpoint[CONTENTS]["adapter"] = self.adapters.description()
