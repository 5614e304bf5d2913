"""Similarity of patches and the prompt in CLIP's joint space."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoTokenizer, CLIPModel, CLIPTextModelWithProjection

from ...cli.configs import find_model
from ...errors import DataError
from ...storage.loading import UNLOADABLE, reason_of
from ...typing import Float
from ..base import Tokens

HEAD_FILE = "vision_head.safetensors"


@contextmanager
def _files_are_named(clip: str) -> Iterator[None]:
    """Raise DataError, naming the setting, for files that cannot be loaded."""
    try:
        yield
    except DataError:
        raise
    except UNLOADABLE as error:
        raise DataError(f"clip: {clip} could not be loaded ({reason_of(error)})") from error


class ClipSimilarity:
    """Cosine of each vision token's tower state with the prompt's text (CLIP, arXiv 2103.00020).

    `clip` is a CLIP model whose tower the VLM has: its directory or repository, or a directory of
    its text encoder alone with the tower's last norm and projection in `vision_head.safetensors`.
    `tokenizer` is the VLM's own, which turns the prompt back into words; None stands for that of
    `clip`.

    Text that is longer than CLIP's window (77 tokens) is read in segments, and the cosine is the
    mean over them, as in CDPruner (arXiv 2506.10967). Each segment has a begin and an end of its
    own; the published code cuts the tokens of the whole, and so reads the first segment, which has
    no end, at its begin.

    Raises DataError where `clip` is none of the two.
    """

    def __init__(self, clip: str, tokenizer: str | None = None) -> None:
        self.clip = clip
        with _files_are_named(clip):
            self._load(find_model(clip), tokenizer)
        self._known: dict[tuple[int, ...], Float[Tensor, "E"]] = {}

    def _load(self, clip: str, tokenizer: str | None) -> None:
        self.words = AutoTokenizer.from_pretrained(tokenizer or clip, trust_remote_code=False)
        self.tokenizer = AutoTokenizer.from_pretrained(clip, trust_remote_code=False)
        config = AutoConfig.from_pretrained(clip, trust_remote_code=False)
        kind = config.model_type
        if kind not in ("clip", "clip_text_model"):
            raise DataError(
                f"clip: {clip} is a {kind!r} model; give the CLIP whose tower the VLM has"
            )
        self.longest = (config.text_config if kind == "clip" else config).max_position_embeddings
        self.embed, self.norm, self.projection = (_whole if kind == "clip" else _text_side)(clip)

    @torch.no_grad()
    def __call__(self, tokens: Tokens) -> Float[Tensor, "n"]:
        """Compute cosines in [-1, 1].

        Raises ValueError for a tower of another width than CLIP's.
        """
        states = tokens.tower().states
        if states.shape[-1] != self.projection.in_features:
            raise ValueError(
                f"clip: {self.clip} is for a tower {self.projection.in_features} wide, this "
                f"model's is {states.shape[-1]}; "
                "give the CLIP that this model's tower comes from"
            )
        self.norm.to(states.device), self.projection.to(states.device)
        patches = self.projection(self.norm(states.to(self.projection.weight.dtype))).float()
        return F.normalize(patches, dim=-1) @ self.of_text(tokens).to(states.device)

    def of_text(self, tokens: Tokens) -> Float[Tensor, "E"]:
        """Encode the text behind the last picture: the mean of its segments' unit vectors.

        All text where there is none.
        """
        ids = tokens.text_ids[tokens.after_pictures]
        key = tuple(ids.tolist())
        if key not in self._known:
            self._known = {
                key: self._encoded(self.words.decode(ids, skip_special_tokens=True).strip())
            }  # one: prompts come one by one
        return self._known[key]

    def _encoded(self, text: str) -> Float[Tensor, "E"]:
        segments = self.tokenizer(
            text, truncation=True, max_length=self.longest, return_overflowing_tokens=True
        ).input_ids
        vectors = [self.embed(input_ids=torch.tensor([ids]))[0].float() for ids in segments]
        # Its product with a patch is the mean of cosines, so its length is not made one.
        return F.normalize(torch.stack(vectors), dim=-1).mean(0)


def _whole(clip: str) -> tuple[Any, nn.LayerNorm, nn.Linear]:
    model: Any = CLIPModel.from_pretrained(clip).eval()

    def embed(**given: Tensor) -> Tensor:
        return model.get_text_features(**given).pooler_output

    return embed, model.vision_model.post_layernorm, model.visual_projection


def _text_side(clip: str) -> tuple[Any, nn.LayerNorm, nn.Linear]:
    file = Path(clip) / HEAD_FILE
    if not file.exists():
        raise DataError(
            f"clip: {clip} is a text encoder without {HEAD_FILE}, the tower's norm and projection; "
            "give a whole CLIP"
        )
    head = load_file(file)
    weight = head["visual_projection.weight"]
    norm = nn.LayerNorm(weight.shape[1])
    projection = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    norm.load_state_dict(
        {
            "weight": head["post_layernorm.weight"].float(),
            "bias": head["post_layernorm.bias"].float(),
        }
    )
    projection.load_state_dict({"weight": weight.float()})
    model: Any = CLIPTextModelWithProjection.from_pretrained(clip).eval()

    def embed(**given: Tensor) -> Tensor:
        return model(**given).text_embeds

    return embed, norm.eval(), projection.eval()
