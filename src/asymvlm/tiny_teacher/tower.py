"""Stage one: tower and projector learn to read from dense labels, the CLS as in CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextModelWithProjection, LlavaForConditionalGeneration

from ..documents.world.words import WORDS
from .labels import CHARACTERS, PatchLabels

_BACKGROUND = 0.2  # weight of patches that carry nothing: they are most of the page


class TowerReader(nn.Module):
    """Read-outs of V and of the CLS; only the text encoder is exported, the others are dropped."""

    def __init__(
        self,
        teacher: LlavaForConditionalGeneration,
        text_side: CLIPTextModelWithProjection,
        tokenizer: Any,
        aligned: bool,
    ):
        super().__init__()
        width = teacher.config.text_config.hidden_size
        self.aligned = aligned
        self.column = nn.Linear(width, len(WORDS) + 1)
        self.none = nn.Linear(width, 1)
        self.name = nn.Linear(width, len(WORDS))
        self.digits = nn.Linear(width, 3 * 12)
        self.word = nn.Linear(width, len(WORDS) + 1)
        self.number = nn.Linear(width, 3 * 12)
        self.characters = nn.Linear(width, 2 * (len(CHARACTERS) + 1))
        self.magnitude = nn.Linear(width, 1)
        self.visual_projection = nn.Linear(
            teacher.config.vision_config.hidden_size, width, bias=False
        )
        self.place = nn.Linear(width, 2)
        self.page_words = nn.Linear(teacher.config.vision_config.hidden_size, len(WORDS))
        self.text_side = text_side
        self.logit_scale = nn.Parameter(torch.tensor(2.0))
        self.name_scale = nn.Parameter(torch.tensor(2.0))
        bare = [tokenizer(word).input_ids[0] for word in WORDS]
        spaced = [tokenizer(" " + word).input_ids[0] for word in WORDS]
        self.register_buffer("word_tokens", torch.tensor([bare, spaced]), persistent=False)

    def name_logits(
        self, vision: Float[Tensor, "B P D"], embeddings: Float[Tensor, "V D"]
    ) -> Float[Tensor, "B P W"]:
        """0 is "none".

        Aligned read-outs use the LLM's own embeddings, so that V comes to lie in text space.
        """
        if self.aligned:
            words = embeddings[self.word_tokens].mean(0)
            logits = self.name_scale.exp() * vision @ words.T / vision.shape[-1] ** 0.5
        else:
            logits = self.name(vision)
        return torch.cat([self.none(vision), logits], dim=-1)

    def dense_losses(
        self,
        vision: Float[Tensor, "B P D"],
        layers: Sequence[Float[Tensor, "B P D"]],
        labels: PatchLabels,
        embeddings: Float[Tensor, "V D"],
    ) -> dict[str, Tensor]:
        """Cross-entropies per patch of name, column and digits, and the error of the magnitude on
        values.

        `layers` are the tower's hidden states: characters are read after its first layer, words and
        numbers after its second, so that the layers above are left for finding what belongs
        together.
        """
        on_value = labels.magnitude >= 0
        magnitude = self.magnitude(vision).squeeze(-1)[on_value]
        return {
            "name": 2
            # What the LLM looks for: it must stand out.
            * _balanced(self.name_logits(vision, embeddings), labels.name),
            "column": _balanced(self.column(vision), labels.column),
            "digits": _balanced(self.digits(vision).unflatten(-1, (3, 12)), labels.digits),
            "characters": _balanced(
                self.characters(_plain(layers[1])).unflatten(-1, (2, -1)), labels.characters
            ),
            "word": _balanced(self.word(_plain(layers[2])), labels.word),
            "number": _balanced(
                self.number(_plain(layers[2])).unflatten(-1, (3, 12)), labels.digits
            ),
            "place": self._place_loss(vision, labels),
            "magnitude": 4
            * F.smooth_l1_loss(magnitude.float(), labels.magnitude[on_value], beta=0.05),
        }

    def _place_loss(self, vision: Float[Tensor, "B P D"], labels: PatchLabels) -> Tensor:
        """Row and column of patches that carry something, for questions about halves."""
        side = round(vision.shape[1] ** 0.5)
        share = (torch.arange(side, device=vision.device) + 0.5) / side
        place = torch.stack([share.repeat_interleave(side), share.repeat(side)], dim=-1).expand(
            len(vision), -1, -1
        )
        printed = labels.name > 0
        return F.smooth_l1_loss(self.place(vision[printed]).float(), place[printed], beta=0.05)

    def attention_losses(
        self, layer: Any, states: Float[Tensor, "B 1+P D"], labels: PatchLabels
    ) -> dict[str, Tensor]:
        """-log of the attention of value patches to their name and to their column's header.

        `layer` is the tower's layer whose heads are taught, `states` what it reads, CLS first.
        """
        attention = layer.self_attn
        normed = layer.layer_norm1(states)
        query, key = (
            part(normed).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
            for part in (attention.q_proj, attention.k_proj)
        )
        losses = {}
        for name, head, targets in (
            ("sees_name", -2, labels.sees_name),
            ("sees_column", -1, labels.sees_column),
        ):
            mass = (
                (query[:, head] @ key[:, head].mT * attention.scale).float().softmax(-1)[:, 1:, 1:]
            )
            rows = targets.any(-1)
            seen = (mass * targets).sum(-1)[rows]
            losses[name] = -(seen + 1e-6).log().mean() if len(seen) else mass.sum() * 0
        return losses

    def page_loss(self, cls: Float[Tensor, "B D"], labels: PatchLabels) -> Tensor:
        """Loss of the page's words, read from the CLS; without it CLIP's loss stays at chance."""
        words = torch.stack([labels.name, labels.column]).clamp_max(len(WORDS))
        present = F.one_hot(words, len(WORDS) + 1).amax((0, 2))[:, 1:].float()
        return F.binary_cross_entropy_with_logits(
            self.page_words(cls).float(), present, pos_weight=torch.tensor(4.0)
        )

    def contrastive_loss(
        self,
        cls: Float[Tensor, "B D"],
        input_ids: Int64[Tensor, "B L"],
        attention_mask: Int64[Tensor, "B L"],
    ) -> Tensor:
        """CLIP's symmetric loss between each page's CLS and the words of that page (arXiv
        2103.00020).
        """
        text = self.text_side(input_ids=input_ids, attention_mask=attention_mask).text_embeds
        image = F.normalize(self.visual_projection(cls).float(), dim=-1)
        logits = self.logit_scale.exp() * image @ F.normalize(text.float(), dim=-1).T
        target = torch.arange(len(logits))
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def _plain(states: Float[Tensor, "*b D"]) -> Float[Tensor, "*b D"]:
    """Normalise, so that a read-out gains nothing from a growing stream."""
    return F.layer_norm(states, states.shape[-1:])


def _balanced(logits: Float[Tensor, "*b C"], target: Int64[Tensor, "*b"]) -> Tensor:
    weight = torch.ones(logits.shape[-1])
    weight[0] = _BACKGROUND
    return F.cross_entropy(logits.flatten(0, -2).float(), target.flatten(), weight=weight)
