"""What single families need beyond the common path: facts, by the model type of their config."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Facts:
    """Defaults hold for nearly every family."""

    first_position: int = 0  # where a plain forward call starts to count (`generate` does it alike everywhere)
    counts_real_tokens: bool = False  # whether it counts as `generate` does: left padding has no position of its own
    cls: str | None = None  # "kept" where the tower's CLS is among the features; see `TowerWatcher`
    merges: str | None = None  # how the tower's patches become tokens: see `merging.WAYS`


_FACTS = {
    "paligemma": Facts(first_position=1),
    "blip-2": Facts(cls="kept", merges="resampled"),
    "instructblip": Facts(cls="kept", merges="resampled"),
    "idefics": Facts(cls="kept"),
    "internvl": Facts(merges="blocks"),
    "idefics3": Facts(merges="blocks"),
    "smolvlm": Facts(merges="blocks"),
    "gemma3": Facts(merges="blocks"),
    "cohere2_vision": Facts(merges="blocks"),
    "aya_vision": Facts(merges="blocks"),
    "llava_next": Facts(merges="packed"),
    "llava_onevision": Facts(merges="packed"),
    "qwen2_vl": Facts(merges="runs"),
    "qwen2_5_vl": Facts(merges="windows"),
    "qwen3_vl": Facts(merges="runs"),
    "glm4v": Facts(merges="runs"),
}
_COUNT_REAL_TOKENS = ("opt",)  # language models

SUPPORTED = (
    "Llava, VipLlava, LlavaNext, LlavaNextVideo, LlavaOnevision, Qwen2-VL, Qwen2.5-VL, Qwen3-VL, Glm4v, InternVL, SmolVLM, Idefics 1 to 3, "
    "Gemma 3, PaliGemma, Mistral3, Pixtral, Cohere2Vision, AyaVision, Molmo2, FastVlm, BLIP-2, InstructBLIP, Mllama, "
    "and others that take mm_encoder_outputs"
)


def facts(config: Any) -> Facts:
    """The facts of the family that `config` belongs to."""
    language = config.get_text_config().model_type
    return replace(_FACTS.get(config.model_type, Facts()), counts_real_tokens=language in _COUNT_REAL_TOKENS)
