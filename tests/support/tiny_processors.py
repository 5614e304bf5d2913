"""Processors of several families, as small as their models.

A word-level tokenizer and pictures of 16 pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import transformers as tf
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = [
    "What",
    "is",
    "it",
    "User",
    "Assistant",
    ":",
    "?",
    "the",
    "total",
    "date",
    "yes",
    "no",
    "left",
    "right",
    *map(str, range(10)),
]
_TEMPLATE = (
    "{% for message in messages %}User : {% for part in message['content'] %}{% if part['type'] == "
    "'image' %}IMAGE"
    "{% else %} {{ part['text'] }}{% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt "
    "%} Assistant :{% endif %}"
)


def tokenizer(vocabulary: int = 120, **special: str) -> Any:
    """Ids 0 to 2 are padding, start and end.

    The special ones begin at 5, as in the models of families.py.
    """
    words = ["<pad>", "<s>", "</s>", "<unk>", "<mask>", *special.values(), *WORDS]
    words += [f"w{number}" for number in range(vocabulary - len(words))]
    backend = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>")
    )
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=backend, extra_special_tokens=special, padding_side="left", **names
    )


def template(image: str) -> str:
    return _TEMPLATE.replace("IMAGE", image)


def llava() -> Any:
    pictures = tf.CLIPImageProcessorPil(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
    )
    layout = {
        "patch_size": 4,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
    }
    return tf.LlavaProcessor(
        pictures, tokenizer(image_token="<image>"), chat_template=template("<image>"), **layout
    )


def qwen(name: str, patch: int = 4, most_pixels: int = 1024) -> Any:
    pictures = tf.Qwen2VLImageProcessorPil(
        size={"shortest_edge": 64, "longest_edge": most_pixels},
        patch_size=patch,
        merge_size=2,
        temporal_patch_size=2,
    )
    special = {
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "vision_start_token": "<|vision_start|>",
        "vision_end_token": "<|vision_end|>",
    }
    marked = template("<|vision_start|><|image_pad|><|vision_end|>")
    return getattr(tf, f"{name}Processor")(pictures, tokenizer(**special), chat_template=marked)


def intern_vl() -> Any:
    pictures = tf.GotOcr2ImageProcessorPil(
        size={"height": 16, "width": 16}, crop_to_patches=True, min_patches=1, max_patches=4
    )
    special = {
        "context_image_token": "<IMG_CONTEXT>",
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "video_token": "<video>",
    }
    return tf.InternVLProcessor(
        pictures, tokenizer(**special), image_seq_length=4, chat_template=template("<IMG_CONTEXT>")
    )


def idefics3() -> Any:
    pictures = tf.Idefics3ImageProcessorPil(
        size={"longest_edge": 32}, max_image_size={"longest_edge": 16}, do_image_splitting=True
    )
    tiles = {
        f"tile_{row}_{column}": f"<row_{row}_col_{column}>"
        for row in range(1, 4)
        for column in range(1, 4)
    }
    special = {
        "image_token": "<image>",
        "fake": "<fake_token_around_image>",
        "end": "<end_of_utterance>",
        "whole": "<global-img>",
        **tiles,
    }
    return tf.Idefics3Processor(
        pictures, tokenizer(**special), image_seq_len=4, chat_template=template("<image>")
    )


def gemma3() -> Any:
    pictures = tf.Gemma3ImageProcessorPil(size={"height": 16, "width": 16})
    special = {
        "image_token": "<image_soft_token>",
        "turn": "<turn>",
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
    }
    return tf.Gemma3Processor(
        pictures,
        tokenizer(**special),
        image_seq_length=4,
        chat_template=template("<start_of_image>"),
    )


def idefics() -> Any:
    special = {"image_token": "<image>", "fake": "<fake_token_around_image>"}
    return tf.IdeficsProcessor(
        tf.IdeficsImageProcessorPil(image_size=16), tokenizer(**special), image_size=16
    )


def blip2() -> Any:
    pictures = tf.BlipImageProcessorPil(size={"height": 16, "width": 16})
    return tf.Blip2Processor(pictures, tokenizer(picture="<image>"), num_query_tokens=6)


PROCESSORS: dict[str, Callable[[], Any]] = {
    "Llava": llava,
    "Qwen2_5_VL": lambda: qwen("Qwen2_5_VL"),
    "Qwen3VL": lambda: qwen("Qwen3VL"),
    "InternVL": intern_vl,
    "Idefics3": idefics3,
    "Gemma3": gemma3,
    "Idefics": idefics,
    "Blip2": blip2,
}
