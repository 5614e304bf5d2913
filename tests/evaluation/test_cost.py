"""Costs from the config against torch's own counter on the running model, and against plain
arithmetic.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers as tf
from support import families
from torch.utils.flop_counter import FlopCounterMode

from asymvlm.evaluation.cost.cost import (
    flop_counter,
    kv_bytes,
    kv_entries,
    layer_average,
    prefill_cost,
    step_macs,
)

ROWS = {family.name: family for family in families.IN_SEQUENCE}


def llava_like(name: str, text: dict[str, Any], **more: Any) -> families.Family:
    def config() -> Any:
        return tf.LlavaConfig(text_config=text, image_token_id=families.IMAGE, **more)

    return replace(ROWS["Llava"], name=name, config=config, model="LlavaForConditionalGeneration")


WITH_SIGLIP = llava_like(
    "SiglipLlava",
    families.text(model_type="llama", head_dim=16),
    vision_config={**families.siglip(), "vision_use_head": True},
    vision_feature_layer=[-1, -2],
    vision_feature_select_strategy="full",
)
WITH_CLS = llava_like(
    "FullLlava",
    families.text(model_type="llama", tie_word_embeddings=True),
    vision_config=families.clip(),
    vision_feature_select_strategy="full",
)
FAMILIES = (
    "Llava",
    "LlavaNext",
    "LlavaOnevision",
    "Idefics3",
    "SmolVLM",
    "InternVL",
    "Gemma3",
    "PaliGemma",
)
QWEN = ("Qwen2VL", "Qwen2_5_VL", "Qwen3VL")
GRID = (2, 6, 10)  # two frames; windows of 4 x 4 patches do not fit in
TILES = {"LlavaNext": 10}  # five a picture
COVERED = [
    WITH_SIGLIP,
    WITH_CLS,
    *(ROWS[name] for name in FAMILIES),
    *(replace(ROWS[name], pictures=families.patches(GRID, 96)) for name in QWEN),
]


@pytest.mark.parametrize("family", COVERED, ids=str)
def test_prefill_macs_equal_the_flop_counter(family):
    model = family.build()
    inputs = families.batch(model, family, pictures=(2,), words=(7,))
    vision, text = lengths(inputs)
    pictures = inputs["image_grid_thw"] if "image_grid_thw" in inputs else TILES.get(family.name, 2)
    cost = prefill_cost(model.config, vision, text, pictures)
    shown = {
        name: value
        for name, value in inputs.items()
        if name.startswith(("pixel", "image", "batch"))
    }
    with torch.no_grad(), flop_counter() as encoding:
        model.base_model.get_image_features(**shown, return_dict=True)
    with torch.no_grad(), flop_counter() as counter:
        model(**inputs, logits_to_keep=1)
    assert 2 * (cost.tower + cost.projector) == encoding.get_total_flops()
    # Some versions multiply matrices to rotate.
    assert 2 * cost.total == pytest.approx(counter.get_total_flops(), rel=1e-3)
    assert (
        min(cost.tower, cost.projector, cost.llm) > 0
        and cost.total == cost.tower + cost.projector + cost.llm
    )


def lengths(inputs: dict[str, Any]) -> tuple[int, int]:
    """Vision and text tokens of one sample."""
    vision = int((inputs["input_ids"] == families.IMAGE).sum())
    return vision, inputs["input_ids"].shape[1] - vision


def test_the_flop_counter_sees_fused_attention(llava, batch):
    one = {name: value[:1] for name, value in batch.items()}
    with torch.no_grad(), flop_counter() as fused:
        llava(**one, logits_to_keep=1)
    llava.set_attn_implementation("eager")  # torch's counter sees every product of it
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as eager:
            llava(**one, logits_to_keep=1)
    finally:
        llava.set_attn_implementation("sdpa")
    assert fused.get_total_flops() == eager.get_total_flops()
    cost = prefill_cost(llava.config, 256, one["input_ids"].shape[1] - 256)
    assert 2 * cost.total == pytest.approx(eager.get_total_flops(), rel=0.01)


def test_cost_falls_with_tokens_and_counts_the_method(llava):
    dense = prefill_cost(llava.config, 256, 20)
    pruned = prefill_cost(llava.config, 64, 20, method=1000)
    assert pruned.tower == dense.tower and pruned.llm < dense.llm / 3
    assert pruned.total == pruned.tower + pruned.projector + pruned.llm + 1000


def steps_macs(config, entries, steps):
    """Of some single steps behind so many entries in each layer's cache."""
    counts = ([count + step for count in entries] for step in range(steps))
    return sum(step_macs(config, each, 1) for each in counts)


@pytest.mark.parametrize("dropped", [(0, 0, 0), (0, 5, 9)], ids=["dense", "pruned_inside"])
def test_decoding_and_its_cache_equal_what_runs(dropped):
    """Three layers.

    What a method inside the LLM would have dropped is cut out of the later layers' caches.
    """
    model = ROWS["Llava"].build()
    inputs = families.batch(model, ROWS["Llava"], pictures=(1,), words=(7,))
    vision, text = lengths(inputs)
    with torch.no_grad():
        cache = model(**inputs, use_cache=True).past_key_values
    for layer, count in zip(cache.layers, dropped, strict=True):
        layer.keys, layer.values = layer.keys[:, :, count:], layer.values[:, :, count:]
    tokens = [vision - count for count in dropped]
    entries = kv_entries(model.config, tokens, text)
    assert entries == sum(layer.keys.shape[2] for layer in cache.layers)
    assert kv_bytes(model.config, entries, 4) == sum(
        layer.keys.nbytes + layer.values.nbytes for layer in cache.layers
    )
    assert 2 * steps_macs(model.config, [count + text for count in tokens], 3) == pytest.approx(
        decoded(model, cache, vision + text, 3), rel=1e-3
    )


def decoded(model: Any, cache: Any, position: int, steps: int) -> int:
    """FLOPs of so many steps, as torch counts them."""
    with torch.no_grad(), flop_counter() as counter:
        for step in range(steps):
            model(
                input_ids=torch.tensor([[30]]),
                position_ids=torch.tensor([[position + step]]),
                past_key_values=cache,
            )
    return counter.get_total_flops()


def test_sliding_windows_bound_the_cache():
    model = ROWS["Gemma3"].build()
    model.config.text_config.sliding_window = 9  # two of three layers
    inputs = families.batch(model, ROWS["Gemma3"], pictures=(1,), words=(8,))
    vision, text = lengths(inputs)
    assert vision + text > 9
    with torch.no_grad():
        cache = model(**inputs, use_cache=True).past_key_values
    assert kv_entries(model.config, vision, text) == sum(
        layer.keys.shape[2] for layer in cache.layers
    )
    assert 2 * steps_macs(model.config, [vision + text] * 3, 3) == pytest.approx(
        decoded(model, cache, vision + text, 3), rel=1e-3
    )


def test_counts_per_layer_by_hand():
    # Three layers of width 32, four heads of 8, two groups, MLP of 48, 120 words.
    config = ROWS["Llava"].config()
    token = 32 * 32 + 2 * 32 * 16 + 32 * 32 + 3 * 32 * 48
    per_layer, uniform = prefill_cost(config, [10, 6, 2], 4), prefill_cost(config, 10, 4)
    assert per_layer.llm == (14 + 10 + 6) * token + (14**2 + 10**2 + 6**2) * 2 * 32 + 32 * 120
    assert uniform == prefill_cost(config, [10, 10, 10], 4)
    assert per_layer.tower == uniform.tower and per_layer.projector == uniform.projector
    assert layer_average([10, 6, 2]) == 6
    assert kv_entries(config, [10, 6, 2], 4) == 30 and kv_bytes(config, 30) == 30 * 2 * 16 * 2
    assert (
        steps_macs(config, [14, 10, 6], 2)
        == 2 * (3 * token + 32 * 120) + (15 + 11 + 7 + 16 + 12 + 8) * 2 * 32
    )


def test_the_tower_is_known_under_the_whole_models_name():
    """As in checkpoints whose vision config names the whole model's type."""
    config = ROWS["Idefics3"].config()
    config.vision_config.model_type = "idefics3"
    assert prefill_cost(config, 4, 7) == prefill_cost(ROWS["Idefics3"].config(), 4, 7)


@pytest.mark.parametrize(
    "name,tokens,pictures,message",
    [
        (
            "Glm4v",
            8,
            1,
            "tower 'glm4v_vision' of 'glm4v' is not covered; covered are clip_vision_model, siglip",
        ),
        ("Cohere2Vision", 8, 1, "projector of 'cohere2_vision' is not covered; covered are llava"),
        (
            "Qwen2_5_VL",
            8,
            1,
            "pictures: 1 does not fit the tower 'qwen2_5_vl_vision'; give their image_grid_thw",
        ),
        (
            "Llava",
            8,
            [(1, 4, 4)],
            r"pictures: \[\(1, 4, 4\)\] does not fit the tower 'clip_vision_model'; give how many",
        ),
        ("Llava", [8, 4], 1, "vision_tokens: 2 counts for 3 decoder layers"),
    ],
)
def test_what_is_not_covered_says_so(name, tokens, pictures, message):
    with pytest.raises(ValueError, match=message):
        prefill_cost(ROWS[name].config(), tokens, 4, pictures)


def test_decoders_without_a_gated_mlp_are_refused():
    family = llava_like("OptLlava", families.opt(), vision_config=families.clip())
    with pytest.raises(ValueError, match="decoder 'opt' is not covered; covered are llama"):
        prefill_cost(family.config(), 8, 4)
