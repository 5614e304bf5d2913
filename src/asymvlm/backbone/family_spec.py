"""Facts about single families beyond the common path, by the model type of their config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class FamilySpec:
    """Facts about one family; the defaults hold for nearly all."""

    # Where a plain forward call starts to count (`generate` does it alike everywhere).
    first_position: int = 0
    # Whether it counts as `generate` does: left padding has no position of its own.
    counts_real_tokens: bool = False
    # Whether `token_type_ids` tell the prompt (0), read in both directions, from the answer (1).
    prefix_types: bool = False
    cls: str | None = None  # "kept" where the tower's CLS is among the features; see `TowerWatcher`
    patch_merge: str | None = None  # patches to tokens: a key of `tower.patch_merging._MERGES`


_SPECS = {
    "paligemma": FamilySpec(first_position=1, prefix_types=True),
    "blip-2": FamilySpec(cls="kept", patch_merge="resampled"),
    "instructblip": FamilySpec(cls="kept", patch_merge="resampled"),
    "idefics": FamilySpec(cls="kept"),
    "internvl": FamilySpec(patch_merge="blocks"),
    "idefics3": FamilySpec(patch_merge="blocks"),
    "smolvlm": FamilySpec(patch_merge="blocks"),
    "gemma3": FamilySpec(patch_merge="blocks"),
    "cohere2_vision": FamilySpec(patch_merge="blocks"),
    "aya_vision": FamilySpec(patch_merge="blocks"),
    "llava_next": FamilySpec(patch_merge="packed"),
    "llava_onevision": FamilySpec(patch_merge="packed"),
    "qwen2_vl": FamilySpec(patch_merge="runs"),
    "qwen2_5_vl": FamilySpec(patch_merge="windows"),
    "qwen3_vl": FamilySpec(patch_merge="runs"),
    "glm4v": FamilySpec(patch_merge="runs"),
}
_COUNT_REAL_TOKENS = ("opt",)  # language models

SUPPORTED = (
    "Llava, VipLlava, LlavaNext, LlavaNextVideo, LlavaOnevision, Qwen2-VL, Qwen2.5-VL, Qwen3-VL, "
    "Glm4v, InternVL, SmolVLM, Idefics 1 to 3, "
    "Gemma 3, PaliGemma, Mistral3, Pixtral, Cohere2Vision, AyaVision, Molmo2, FastVlm, BLIP-2, "
    "InstructBLIP, Mllama, "
    "and others that take mm_encoder_outputs"
)


def family_spec(config: Any) -> FamilySpec:
    """Look up the facts of the family that `config` belongs to."""
    language = config.get_text_config().model_type
    return replace(
        _SPECS.get(config.model_type, FamilySpec()),
        counts_real_tokens=language in _COUNT_REAL_TOKENS,
    )


def check_token_types(config: Any, inputs: Mapping[str, Any]) -> None:
    """Refuse a plain forward call whose attention would depend on whether there is padding.

    Without token types transformers leaves out a mask without padding, and such a family then
    reads all of the prompt in both directions; with padding it gets a causal mask.
    """
    if family_spec(config).prefix_types and inputs.get("token_type_ids") is None:
        raise ValueError(
            f"token_type_ids: a {config.model_type} reads its prompt by them; give those that the "
            "processor returns"
        )
