"""Tiny random models of every family: one row each. What they have in common is in `batch`."""

from __future__ import annotations

import inspect
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


def llava(name: str = "Llava", model: str = "") -> Family:
    config = getattr(tf, f"{name}Config")
    return Family(
        name,
        lambda: config(
            vision_config=clip(), text_config=text(model_type="llama"), image_token_id=IMAGE
        ),
        square(),
        model,
    )


def molmo2() -> Family:
    """Features are ADDED to the embedding of their placeholder.

    Patches are pooled 2 x 2 by an index.
    """
    vision = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "image_size": [16, 16],
        "patch_size": 4,
        "num_position_embeddings": 16,
    }
    adapter = {
        "vision_feature_layer": [-1, -2],
        "hidden_size": 16,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "intermediate_size": 24,
        "text_hidden_size": D,
    }
    language = text(head_dim=8, additional_vocab_size=8)
    pooling = torch.tensor(
        [
            [4 * (2 * r + y) + 2 * c + x for y in (0, 1) for x in (0, 1)]
            for r in (0, 1)
            for c in (0, 1)
        ]
    )

    def pictures(count: int) -> dict[str, Tensor]:
        return {
            "pixel_values": torch.randn(count, 16, 48),
            "image_token_pooling": torch.cat([pooling + 16 * number for number in range(count)]),
            "image_grids": torch.tensor([[2, 2, 0, 0]] * count),
        }

    def config() -> Any:
        return tf.Molmo2Config(
            vision_config=vision, adapter_config=adapter, text_config=language, image_patch_id=IMAGE
        )

    return Family("Molmo2", config, pictures, token_types=("mm_token_type_ids",))


def qwen2_5_vl(patch: int = 4) -> Family:
    vision = {
        "depth": 2,
        "hidden_size": 16,
        "out_hidden_size": D,
        "num_heads": 2,
        "intermediate_size": 24,
        "patch_size": patch,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 4 * patch,
        "fullatt_block_indexes": [1],
    }
    language = text(
        rope_parameters={"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
    )
    tokens = {"image_token_id": IMAGE, "video_token_id": 6, "vision_start_token_id": 7}
    return Family(
        "Qwen2_5_VL",
        lambda: tf.Qwen2_5_VLConfig(vision_config=vision, text_config=language, **tokens),
        patches((1, 4, 8), 6 * patch**2),
        token_types=("mm_token_type_ids",),
    )


IN_SEQUENCE = [
    llava(),
    Family(
        "VipLlava",
        lambda: tf.VipLlavaConfig(
            vision_config=clip(num_hidden_layers=3),
            text_config=text(model_type="llama"),
            image_token_id=IMAGE,
            vision_feature_layers=[-1, -2],
        ),
        square(),
    ),
    Family(
        "PixtralLlava",
        lambda: tf.LlavaConfig(
            vision_config=tower(model_type="pixtral", head_dim=8),
            text_config=text(model_type="mistral"),
            image_token_id=IMAGE,
            vision_feature_layer=-1,
            vision_feature_select_strategy="full",
        ),
        lambda count: {
            "pixel_values": pixels(count),
            "image_sizes": torch.tensor([[12, 16]] * count),
        },
        "LlavaForConditionalGeneration",
    ),
    Family(
        "LlavaNext",
        lambda: tf.LlavaNextConfig(
            vision_config=clip(),
            text_config=text(model_type="llama"),
            image_token_id=IMAGE,
            image_grid_pinpoints=[[32, 32], [16, 32]],
        ),
        tiled(5),
    ),
    Family(
        "LlavaOnevision",
        lambda: tf.LlavaOnevisionConfig(
            vision_config=siglip(),
            text_config=text(model_type="qwen2"),
            image_token_id=IMAGE,
            video_token_id=6,
            image_grid_pinpoints=[[32, 32], [16, 32]],
        ),
        tiled(5),
        counted="batch_num_images",
    ),
    Family(
        "Qwen2VL",
        lambda: tf.Qwen2VLConfig(
            vision_config={
                "depth": 2,
                "embed_dim": 16,
                "hidden_size": D,
                "num_heads": 2,
                "mlp_ratio": 2,
                "patch_size": 4,
                "spatial_merge_size": 2,
                "temporal_patch_size": 2,
            },
            text_config=text(
                rope_parameters={
                    "rope_type": "default",
                    "rope_theta": 1e4,
                    "mrope_section": [2, 1, 1],
                }
            ),
            image_token_id=IMAGE,
            video_token_id=6,
            vision_start_token_id=7,
        ),
        patches((1, 4, 8), 96),
        token_types=("mm_token_type_ids",),
    ),
    qwen2_5_vl(),
    Family(
        "Qwen3VL",
        lambda: tf.Qwen3VLConfig(
            vision_config={
                "depth": 3,
                "hidden_size": 16,
                "out_hidden_size": D,
                "num_heads": 2,
                "intermediate_size": 24,
                "patch_size": 4,
                "spatial_merge_size": 2,
                "temporal_patch_size": 2,
                "num_position_embeddings": 16,
                "deepstack_visual_indexes": [0, 1],
            },
            text_config=text(
                head_dim=8,
                rope_parameters={
                    "rope_type": "default",
                    "rope_theta": 1e4,
                    "mrope_section": [2, 1, 1],
                },
            ),
            image_token_id=IMAGE,
            video_token_id=6,
            vision_start_token_id=7,
            vision_end_token_id=8,
        ),
        patches((1, 4, 8), 96),
        token_types=("mm_token_type_ids",),
    ),
    Family(
        "Glm4v",
        lambda: tf.Glm4vConfig(
            vision_config={
                "depth": 2,
                "hidden_size": 16,
                "out_hidden_size": D,
                "num_heads": 2,
                "intermediate_size": 24,
                "patch_size": 4,
                "spatial_merge_size": 2,
                "temporal_patch_size": 2,
                "image_size": 16,
            },
            text_config=text(
                rope_parameters={
                    "rope_type": "default",
                    "rope_theta": 1e4,
                    "mrope_section": [2, 1, 1],
                    "partial_rotary_factor": 1.0,
                }
            ),
            image_token_id=IMAGE,
            video_token_id=6,
            image_start_token_id=7,
            image_end_token_id=8,
            video_start_token_id=9,
            video_end_token_id=10,
        ),
        # Upstream, dense beam search over samples with several pictures reads the wrong ones.
        patches((1, 4, 8), 96),
        token_types=("mm_token_type_ids",),
        beams=(1, 1),
    ),
    Family(
        "InternVL",
        lambda: tf.InternVLConfig(
            vision_config=tower(image_size=[16, 16], patch_size=[4, 4]),
            text_config=text(model_type="qwen2"),
            image_token_id=IMAGE,
            downsample_ratio=0.5,
            vision_feature_layer=-1,
        ),
        square(),
    ),
    Family(
        "SmolVLM",
        lambda: tf.SmolVLMConfig(
            vision_config=tower(),
            text_config=text(model_type="llama"),
            image_token_id=IMAGE,
            scale_factor=2,
        ),
        square(),
        by_sample=True,
    ),
    Family(
        "Idefics3",
        lambda: tf.Idefics3Config(
            vision_config=tower(),
            text_config=text(model_type="llama"),
            image_token_id=IMAGE,
            scale_factor=2,
        ),
        square(),
        by_sample=True,
    ),
    Family(
        "Idefics2",
        lambda: tf.Idefics2Config(
            vision_config=tower(),
            text_config=text(model_type="mistral"),
            image_token_id=IMAGE,
            perceiver_config={
                "hidden_size": D,
                "resampler_n_latents": 6,
                "resampler_depth": 1,
                "resampler_n_heads": 2,
                "resampler_head_dim": 8,
                "num_key_value_heads": 1,
            },
        ),
        square(),
        by_sample=True,
    ),
    Family(
        "Gemma3",
        lambda: tf.Gemma3Config(
            vision_config=siglip(),
            text_config=text(
                head_dim=8,
                sliding_window=64,
                layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            ),
            image_token_id=IMAGE,
            mm_tokens_per_image=4,
            boi_token_index=7,
            eoi_token_index=8,
        ),
        square(),
        token_types=("token_type_ids",),
    ),
    Family(
        "PaliGemma",
        lambda: tf.PaliGemmaConfig(
            vision_config=siglip(projection_dim=D),
            text_config=text(model_type="gemma", head_dim=8),
            image_token_id=IMAGE,
            projection_dim=D,
        ),
        square(),
        token_types=(),
    ),
    Family(
        "Mistral3",
        lambda: tf.Mistral3Config(
            vision_config=tower(model_type="pixtral", head_dim=8),
            text_config=text(model_type="mistral", head_dim=8),
            image_token_id=IMAGE,
            spatial_merge_size=2,
        ),
        lambda count: {
            "pixel_values": pixels(count),
            "image_sizes": torch.tensor([[16, 16]] * count),
        },
    ),
    Family(
        "Cohere2Vision",
        lambda: tf.Cohere2VisionConfig(
            vision_config=siglip(),
            text_config=text(
                model_type="cohere2",
                sliding_window=64,
                layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            ),
            image_token_id=IMAGE,
            downsample_factor=2,
            alignment_intermediate_size=64,
        ),
        square(),
    ),
    Family(
        "AyaVision",
        lambda: tf.AyaVisionConfig(
            vision_config=siglip(),
            text_config=text(
                model_type="cohere2",
                sliding_window=64,
                layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            ),
            image_token_id=IMAGE,
            downsample_factor=2,
            adapter_layer_norm_eps=1e-6,
            vision_feature_layer=-1,
        ),
        square(),
    ),
    molmo2(),
    Family(
        "FastVlm",
        lambda: tf.FastVlmConfig(
            vision_config=tower(), text_config=text(model_type="qwen2"), image_token_id=IMAGE
        ),
        square(),
        needs="timm",
    ),
    Family(
        "Blip2",
        lambda: tf.Blip2Config(
            vision_config=tower(),
            qformer_config=q_former(),
            text_config=opt(),
            image_token_index=IMAGE,
            num_query_tokens=6,
        ),
        square(),
    ),
    Family(
        "InstructBlip",
        lambda: tf.InstructBlipConfig(
            vision_config=tower(),
            qformer_config=q_former(),
            text_config=text(model_type="llama"),
            image_token_index=IMAGE,
            num_query_tokens=6,
        ),
        lambda count: {
            "pixel_values": pixels(count),
            "qformer_input_ids": torch.randint(20, VOCAB, (count, 4)),
            "qformer_attention_mask": torch.ones(count, 4).long(),
        },
    ),
]


def batch(
    model: Any, family: Family, pictures: tuple[int, ...] = (1, 2), words: tuple[int, ...] = (7, 4)
) -> dict[str, Tensor]:
    """A left-padded batch as the family's processor would build it.

    `pictures` and `words` per sample.
    """
    torch.manual_seed(1)
    total = sum(pictures)
    inputs = family.pictures(total)
    if family.counted:
        inputs[family.counted] = torch.tensor(pictures)
    if family.by_sample:
        flat = inputs["pixel_values"]
        padded = flat.new_zeros(len(pictures), max(pictures), *flat.shape[1:])
        start = 0
        for row, count in enumerate(pictures):
            padded[row, :count] = flat[start : start + count]
            start += count
        inputs["pixel_values"] = padded
    with torch.no_grad():
        features = model.base_model.get_image_features(**inputs, return_dict=True).pooler_output
    lengths = [len(one) for one in features]
    if family.by_sample and len(features) == len(pictures) != total:  # a list per sample
        lengths = [
            len(one) // count
            for one, count in zip(features, pictures, strict=True)
            for _ in range(count)
        ]
    prompts, picture = [], 0
    for count, length in zip(pictures, words, strict=True):
        ids = [1]
        for _ in range(count):
            ids += [7, *[IMAGE] * lengths[picture], 8]
            picture += 1
        prompts.append(ids + torch.randint(20, VOCAB, (length,)).tolist())
    width = max(len(ids) for ids in prompts)
    inputs["input_ids"] = torch.tensor([[PAD] * (width - len(ids)) + ids for ids in prompts])
    inputs["attention_mask"] = torch.tensor(
        [[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts]
    )
    for name in family.token_types:
        inputs[name] = (inputs["input_ids"] == IMAGE).long()
    return inputs


def idefics(resampler: bool) -> Family:
    """Idefics v1.

    Pictures are [samples, pictures, ...], and a mask says which rows of the text may look at which.
    """
    vision = {**tower(), "embed_dim": 16}
    perceiver = {
        "use_resampler": resampler,
        "resampler_n_latents": 6,
        "resampler_depth": 1,
        "resampler_n_heads": 2,
        "resampler_head_dim": 8,
    }
    more = {"alpha_initializer": "ones", "cross_layer_interval": 2, "use_resampler": resampler}
    return Family(
        "IdeficsResampler" if resampler else "Idefics",
        lambda: tf.IdeficsConfig(
            **text(num_hidden_layers=4), **more, vision_config=vision, perceiver_config=perceiver
        ),
        square(),
        "IdeficsForVisionText2Text",
    )


def mllama() -> Family:
    vision = {
        **tower(),
        "attention_heads": 2,
        "num_global_layers": 1,
        "vision_output_dim": 32,
        "intermediate_layers_indices": [0],
        "max_num_tiles": 2,
        "supported_aspect_ratios": [[1, 1], [1, 2]],
    }
    language = text(num_hidden_layers=4, cross_attention_layers=[1, 3])
    return Family(
        "Mllama",
        lambda: tf.MllamaConfig(
            vision_config=vision, text_config=language, image_token_index=IMAGE
        ),
        square(),
    )


CROSS_ATTENTION = [idefics(resampler=False), idefics(resampler=True), mllama()]


def cross_batch(
    family: Family, pictures: tuple[int, ...] = (1, 2), words: tuple[int, ...] = (9, 6)
) -> dict[str, Tensor]:
    """A left-padded batch.

    Each row of the text may look at the pictures before it, the second half of them at all.
    """
    torch.manual_seed(1)
    width = max(words)
    inputs = {
        "pixel_values": torch.zeros(len(pictures), max(pictures), 3, 16, 16),
        "input_ids": torch.full((len(words), width), PAD),
        "attention_mask": torch.zeros(len(words), width).long(),
        "image_attention_mask": torch.zeros(len(words), width, max(pictures)).long(),
    }
    for row, (count, length) in enumerate(zip(pictures, words, strict=True)):
        inputs["pixel_values"][row, :count] = pixels(count)
        inputs["input_ids"][row, -length:] = torch.randint(20, VOCAB, (length,))
        inputs["attention_mask"][row, -length:] = 1
        inputs["image_attention_mask"][row, -length + 1 :, 0] = 1  # the first row looks at nothing
        inputs["image_attention_mask"][row, -length // 2 :, :count] = 1
    if family.name == "Mllama":  # the same pictures as tiles; the first has two
        tiles = torch.stack([inputs["pixel_values"], inputs["pixel_values"].flip(-1)], dim=2)
        there = inputs.pop("image_attention_mask")
        double = torch.tensor([1, 0])
        inputs["pixel_values"] = tiles
        inputs["cross_attention_mask"] = torch.stack(
            [there, there * double[: there.shape[2]]], dim=-1
        )
        seen = inputs["cross_attention_mask"].any(1).long()
        inputs["aspect_ratio_mask"] = seen.clone()
        inputs["aspect_ratio_mask"][..., 0] = 1  # as the processor pads
        inputs["aspect_ratio_ids"] = seen.sum(-1)
    return inputs


VIDEO = 6


def video_patches(grid: tuple[int, int, int], size: int) -> Callable[[int], dict[str, Tensor]]:
    made = patches(grid, size)
    return lambda count: {
        "pixel_values_videos": made(count)["pixel_values"],
        "video_grid_thw": torch.tensor([grid] * count),
    }


def frames(count: int) -> dict[str, Tensor]:
    return {"pixel_values_videos": torch.randn(count, 2, 3, 16, 16)}


# By family, what its processor gives for videos; the pictures beside them are those of its row
# above.
VIDEOS: dict[str, Callable[[int], dict[str, Tensor]]] = {
    "Qwen2_5_VL": video_patches((2, 4, 4), 96),
    "Qwen3VL": video_patches((2, 4, 4), 96),
    "LlavaOnevision": frames,
    "LlavaNextVideo": frames,
}
LLAVA_NEXT_VIDEO = Family(
    "LlavaNextVideo",
    lambda: tf.LlavaNextVideoConfig(
        vision_config=clip(),
        text_config=text(model_type="llama"),
        image_token_index=IMAGE,
        video_token_index=VIDEO,
        image_grid_pinpoints=[[32, 32], [16, 32]],
        spatial_pool_mode="average",
        spatial_pool_stride=2,
    ),
    tiled(5),
)
WITH_VIDEO = [*(row for row in IN_SEQUENCE if row.name in VIDEOS), LLAVA_NEXT_VIDEO]


def video_batch(model: Any, family: Family, words: tuple[int, int] = (7, 4)) -> dict[str, Tensor]:
    """The first sample shows a video, the second a picture and a video."""
    torch.manual_seed(1)
    inputs = {**family.pictures(1), **VIDEOS[family.name](2)}
    lengths = {}
    for name in ("image", "video"):
        encode = getattr(model.base_model, f"get_{name}_features")
        given = {
            key: value
            for key, value in inputs.items()
            if key in inspect.signature(encode).parameters
        }
        with torch.no_grad():
            lengths[name] = [
                len(one.reshape(-1, D)) for one in encode(**given, return_dict=True).pooler_output
            ]
    shows = [[VIDEO], [IMAGE, VIDEO]]
    waiting = {IMAGE: iter(lengths["image"]), VIDEO: iter(lengths["video"])}
    prompts = []
    for shown, length in zip(shows, words, strict=True):
        ids = [1]
        for token in shown:
            count = next(waiting[token])
            # Qwen3-VL writes every frame of a video by itself, with its time before it.
            groups = 2 if family.name == "Qwen3VL" and token == VIDEO else 1
            for _ in range(groups):
                ids += [20 + groups, 7, *[token] * (count // groups), 8]
        prompts.append(ids + torch.randint(20, VOCAB, (length,)).tolist())
    width = max(len(ids) for ids in prompts)
    inputs["input_ids"] = torch.tensor([[PAD] * (width - len(ids)) + ids for ids in prompts])
    inputs["attention_mask"] = torch.tensor(
        [[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts]
    )
    for name in family.token_types:
        inputs[name] = (inputs["input_ids"] == IMAGE).long() + 2 * (
            inputs["input_ids"] == VIDEO
        ).long()
    if family.counted:
        inputs[family.counted] = torch.tensor([0, 1])
    return inputs
