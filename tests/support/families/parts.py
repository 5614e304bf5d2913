"""Parts of which tiny models of every family are built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import transformers as tf
from packaging.version import Version
from torch import Tensor

import asymvlm

IMAGE, PAD, VOCAB = 5, 0, 120


D = 32


# Before 5.23, dense beam search and several returns of samples with several pictures read the wrong
# ones: nothing to compare with.
BEAMS = (1, 2) if Version(tf.__version__) >= Version("5.23") else (1, 1)


LENGTH = {"max_new_tokens": 6, "pad_token_id": PAD, "eos_token_id": None}  # of what is generated


class ByCell(asymvlm.Method):
    """A known order, and a share that differs between samples."""

    def score(self, tokens):
        return torch.sin(
            torch.arange(len(tokens.vision)) * (1.0 + float(tokens.text_ids.sum() % 7))
        )

    def budget(self, tokens):
        return 0.3 + 0.1 * float(tokens.text_ids.sum() % 4)


def text(**more: Any) -> dict[str, Any]:
    """A decoder of three layers with grouped queries."""
    base = {
        "hidden_size": D,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    return {
        **base,
        "vocab_size": VOCAB,
        "max_position_embeddings": 4096,
        "pad_token_id": PAD,
        "bos_token_id": 1,
        "eos_token_id": 2,
        **more,
    }


def tower(**more: Any) -> dict[str, Any]:
    base = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 4,
    }
    return {**base, **more}


def clip(**more: Any) -> dict[str, Any]:
    return tower(model_type="clip_vision_model", projection_dim=16, **more)


def siglip(**more: Any) -> dict[str, Any]:
    return tower(model_type="siglip_vision_model", vision_use_head=False, **more)


def opt() -> dict[str, Any]:
    sizes = {
        "hidden_size": D,
        "ffn_dim": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "word_embed_proj_dim": D,
    }
    return {
        "model_type": "opt",
        "vocab_size": VOCAB,
        "pad_token_id": PAD,
        "bos_token_id": 1,
        "eos_token_id": 2,
        **sizes,
    }


def q_former() -> dict[str, Any]:
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "encoder_hidden_size": 16,
    }
    return {"vocab_size": VOCAB, "cross_attention_frequency": 1, **sizes}


def pixels(count: int, side: int = 16) -> Tensor:
    return torch.randn(count, 3, side, side)


def square(side: int = 16) -> Callable[[int], dict[str, Tensor]]:
    """One square picture, however many there are."""
    return lambda count: {"pixel_values": pixels(count, side)}


def tiled(tiles: int, side: int = 16) -> Callable[[int], dict[str, Tensor]]:
    """Several tiles a picture, and the size of the picture they were cut from."""
    return lambda count: {
        "pixel_values": torch.randn(count, tiles, 3, side, side),
        "image_sizes": torch.tensor([[20, 28]] * count),
    }


def patches(grid: tuple[int, int, int], size: int) -> Callable[[int], dict[str, Tensor]]:
    """Flattened patches, as the Qwen family has them."""
    t, h, w = grid
    return lambda count: {
        "pixel_values": torch.randn(count * t * h * w, size),
        "image_grid_thw": torch.tensor([grid] * count),
    }


@dataclass
class Family:
    """How to build one tiny model and what its processor would give for `count` pictures."""

    name: str
    config: Callable[[], Any]
    pictures: Callable[[int], dict[str, Tensor]]
    model: str = ""
    token_types: tuple[str, ...] = ()  # arguments that are 1 on vision tokens and 0 elsewhere
    prefix_types: bool = False  # whether token_type_ids are 0 in the whole prompt
    by_sample: bool = False  # pixel_values are [samples, pictures, ...], padded with zeros
    counted: str | None = None  # argument that says how many pictures a sample has
    beams: tuple[int, int] = BEAMS  # pictures per sample where beams are searched
    needs: str | None = None  # a package besides transformers

    def build(self) -> Any:
        if self.needs:
            pytest.importorskip(self.needs)
        if self.name == "Molmo2" and not hasattr(tf, "Molmo2Config"):
            pytest.skip(f"transformers {tf.__version__} has no {self.name}")
        torch.manual_seed(0)
        config = self.config()
        model = getattr(
            tf, self.model or type(config).__name__.replace("Config", "ForConditionalGeneration")
        )(config).eval()
        # Default initialisation gives uniform attention, and nothing depends on anything.
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.mul_(5.0) if parameter.ndim > 1 and "embed" not in name else None
                # Start closed.
                parameter.fill_(1.0) if "gate" in name and parameter.numel() == 1 else None
                # Gemma 3's projector.
                parameter.normal_(std=0.2) if parameter.ndim > 1 and not parameter.any() else None
        model.generation_config.update(
            pad_token_id=PAD, eos_token_id=None, bos_token_id=1, max_new_tokens=6, do_sample=False
        )
        return model

    def __str__(self) -> str:
        return self.name
