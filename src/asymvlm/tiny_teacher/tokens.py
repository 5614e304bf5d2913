"""Tokenizer and processor of the tiny teacher.

Standard transformers classes, byte-level, so no word is unknown.
"""

from __future__ import annotations

import copy

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import CLIPImageProcessor, LlavaProcessor, PreTrainedTokenizerFast

from ..documents.world.canvas import PAGE_SIZE
from ..documents.world.words import corpus

PATCH_SIZE = 14
IMAGE_TOKEN = "<image>"
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}USER: {% else %}ASSISTANT:{% endif %}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% if message['role'] == 'user' %} {% else %}{{ eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def build_tokenizer(vocab_size: int = 900) -> PreTrainedTokenizerFast:
    """Byte-level BPE over the world's own words.

    Digits are single tokens, other text falls back to bytes.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=1,
        # CLIP takes an end-of-text id of 2 for a legacy configuration, so </s> must not be the
        # third.
        special_tokens=["<pad>", "<s>", IMAGE_TOKEN, "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*corpus(), "USER: ", "ASSISTANT:"], trainer)
    # The chat template writes <s> itself, as LLaVA's does; plain text gets none.
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens={"image_token": IMAGE_TOKEN},
        padding_side="left",
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def caption_tokenizer(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The same words for CLIP's text encoder: a caption between <s> and </s>."""
    own = copy.deepcopy(tokenizer)
    own.chat_template = None
    own.padding_side = "right"
    backend = own.backend_tokenizer
    backend.normalizer = normalizers.Prepend(" ")
    ends = [
        (str(token), tokenizer.convert_tokens_to_ids(token))
        for token in (tokenizer.bos_token, tokenizer.eos_token)
    ]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{ends[0][0]} $A {ends[1][0]}", special_tokens=ends
    )
    return own


def build_processor() -> LlavaProcessor:
    """The processor of a LLaVA whose CLIP tower sees `PAGE_SIZE` pixels in patches of 14."""
    image_processor = CLIPImageProcessor(
        # Scaled whole, so that boxes keep their cells.
        size={"height": PAGE_SIZE, "width": PAGE_SIZE}, do_center_crop=False,
        image_mean=[0.5, 0.5, 0.5], image_std=[0.5, 0.5, 0.5],
    )  # fmt: skip
    return LlavaProcessor(
        image_processor=image_processor,
        tokenizer=build_tokenizer(),
        patch_size=PATCH_SIZE,
        vision_feature_select_strategy="default",
        chat_template=CHAT_TEMPLATE,
        image_token=IMAGE_TOKEN,
        num_additional_image_tokens=1,
    )
