"""The recipe as a LightningModule: three stages, each an epoch of its own.

Why stages: from answers alone a model of this size stays at the language prior for as long as one
likes to wait. So the tower learns to read first, from dense labels (`tower.py`); then the LLM
learns to look things up in frozen features, in small pages first, and in what was said
(`blocks.py`); then both are trained together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..limits import check_above, check_at_least
from ..training.lr_schedule import warm_up_cosine
from .blocks import BlockBatch, block_logits
from .build import build_teacher, build_text_side
from .labels import PatchLabels
from .optimizer import attention_scale, build_optimizers
from .tokens import build_processor
from .tower import TowerReader

_WARM_UP = 40  # steps
# Of the tower: the first that can look for a name, since words are there after the second.
_BINDING_LAYER = 2
_ATTENTION_WEIGHT = 0.3


@dataclass
class Stage:
    """One stage's length in steps and its peak learning rate."""

    steps: int
    learning_rate: float

    def __post_init__(self) -> None:
        check_at_least(1, {"steps": self.steps})
        check_above(0, {"learning_rate": self.learning_rate})


@dataclass
class TeacherBatch:
    """Pages with their labels and, from the second stage on, questions.

    The second stage has features instead of pixels.
    """

    pixels: Tensor | None
    features: Tensor | None
    labels: PatchLabels | None
    captions: Any
    blocks: BlockBatch | None


class TeacherRecipe(L.LightningModule):
    """Trains a LLaVA from scratch on generated pages.

    Args:
        tower: First stage: tower and projector from dense labels, CLS as CLIP trains it.
        reading: Second stage: the LLM on frozen features.
        joint: Third stage: all together.
        aligned: Whether V is read out against the LLM's own embeddings, so that it comes to lie in
            text space.
        contrastive: Weight of CLIP's loss.
        dense: Weight of the dense labels in the third stage.
    """

    def __init__(
        self,
        tower: Stage,
        reading: Stage,
        joint: Stage,
        aligned: bool = True,
        contrastive: float = 0.3,
        dense: float = 0.3,
    ) -> None:
        super().__init__()
        check_at_least(0, {"model.contrastive": contrastive, "model.dense": dense})
        # Three optimisers in turn, each with a schedule of its own.
        self.automatic_optimization = False
        self.stages = (tower, reading, joint)
        self.contrastive, self.dense = contrastive, dense
        self.processor = build_processor()
        tokenizer = self.processor.tokenizer
        self.teacher = build_teacher(tokenizer)
        self.reader = TowerReader(self.teacher, build_text_side(tokenizer), tokenizer, aligned)
        self.last_answer_loss = float("nan")  # the lessons of the second stage go on when it is low

    def _trained_modules(self) -> Iterator[list[nn.Module]]:
        inner, llm = self.teacher.model, self.teacher.model.language_model
        seeing = [inner.vision_tower, inner.multi_modal_projector, self.reader]
        yield [*seeing, llm.embed_tokens]
        yield [llm]
        yield [*seeing, llm]

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        optimizers: list[torch.optim.Optimizer] = []
        for modules in self._trained_modules():
            optimizers += build_optimizers(modules, self.teacher.model.vision_tower)
        return optimizers

    def tower_features(self, pixels: Tensor) -> tuple[Tensor, Sequence[Tensor], Tensor]:
        """(V, the tower's hidden states with CLS first, pooled CLS)."""
        out = self.teacher.model.vision_tower(pixels, output_hidden_states=True)
        vision = self.teacher.model.multi_modal_projector(out.hidden_states[-1][:, 1:])
        return vision, out.hidden_states, out.pooler_output

    def _losses(self, batch: TeacherBatch) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        features = batch.features
        if batch.pixels is not None and batch.labels is not None:
            features, states, cls = self.tower_features(batch.pixels)
            losses = self._reading_losses(
                features, states, cls, batch.labels, 1.0 if batch.blocks is None else self.dense
            )
            losses["clip"] = self.contrastive * self.reader.contrastive_loss(
                cls, batch.captions["input_ids"], batch.captions["attention_mask"]
            )
        if batch.blocks is not None and features is not None:
            logits, labels = block_logits(self.teacher, batch.blocks, features)
            losses["answer"] = F.cross_entropy(logits.float(), labels)
            self.last_answer_loss = float(losses["answer"].detach())
        return losses

    def _reading_losses(
        self,
        features: Tensor,
        states: Sequence[Tensor],
        cls: Tensor,
        labels: PatchLabels,
        weight: float,
    ) -> dict[str, Tensor]:
        embeddings: Any = self.teacher.get_input_embeddings()
        dense = self.reader.dense_losses(
            features, [layer[:, 1:] for layer in states], labels, embeddings.weight
        )
        binding: Any = self.teacher.model.vision_tower.encoder.layers[_BINDING_LAYER]
        attention = self.reader.attention_losses(binding, states[_BINDING_LAYER], labels)
        return {
            **{name: weight * loss for name, loss in dense.items()},
            **{name: _ATTENTION_WEIGHT * weight * loss for name, loss in attention.items()},
            "page": weight * self.reader.page_loss(cls, labels),
        }

    def training_step(self, batch: TeacherBatch, index: int) -> None:
        number, step = self.current_epoch, index
        stage = self.stages[number]
        optimizers = self.optimizers()[2 * number : 2 * number + 2]
        losses = self._losses(batch)
        total = torch.stack(list(losses.values())).sum()
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(total)
        rate = stage.learning_rate * warm_up_cosine(step, stage.steps, _WARM_UP)
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        nn.utils.clip_grad_norm_([each for group in groups for each in group["params"]], 1.0)
        slow = attention_scale(step / stage.steps if number == 0 else 1.0)
        for group in groups:
            group["lr"] = rate * slow if group["slow"] else rate
        for optimizer in optimizers:
            optimizer.step()
        self.log_dict({f"train/{name}": loss for name, loss in losses.items()})
        self.log("train/stage", float(number + 1), prog_bar=True)
        self.log("train/loss", total, prog_bar=True)
