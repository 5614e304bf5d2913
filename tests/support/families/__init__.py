"""Tiny random models of every family: one row each. What they have in common is in `batch`."""

from .cross_attention import CROSS_ATTENTION, cross_batch, idefics, mllama
from .llava import llava
from .others import molmo2
from .parts import (
    BEAMS,
    IMAGE,
    LENGTH,
    PAD,
    VOCAB,
    ByCell,
    D,
    Family,
    clip,
    opt,
    patches,
    pixels,
    q_former,
    siglip,
    square,
    text,
    tiled,
    tower,
)
from .qwen import qwen2_5_vl
from .sequence import IN_SEQUENCE, batch, more_types
from .video import LLAVA_NEXT_VIDEO, VIDEO, VIDEOS, WITH_VIDEO, video_batch

__all__ = [
    "BEAMS",
    "CROSS_ATTENTION",
    "IMAGE",
    "IN_SEQUENCE",
    "LENGTH",
    "LLAVA_NEXT_VIDEO",
    "PAD",
    "VIDEO",
    "VIDEOS",
    "VOCAB",
    "WITH_VIDEO",
    "ByCell",
    "D",
    "Family",
    "batch",
    "clip",
    "cross_batch",
    "idefics",
    "llava",
    "mllama",
    "molmo2",
    "more_types",
    "opt",
    "patches",
    "pixels",
    "q_former",
    "qwen2_5_vl",
    "siglip",
    "square",
    "text",
    "tiled",
    "tower",
    "video_batch",
]
