"""Videos, targets, half precision and refusals, family by family."""

from __future__ import annotations

import copy

import pytest
import torch
import transformers as tf
from support import families
from support.families import LENGTH, ByCell
from support.family_cases import masked

import asymvlm
from asymvlm.backbone import backbone_of
from asymvlm.errors import DataError
from asymvlm.targets import AttentionTarget, EncodedBatch


@pytest.fixture(params=families.WITH_VIDEO, ids=str)
def video_case(request):
    """(model, its batch of two: a video; a picture and a video)."""
    model = request.param.build()
    return model, families.video_batch(model, request.param)


@pytest.mark.parametrize("rows", ["question", "last", "answer"])
@torch.no_grad()
def test_targets_equal_eager_attention(case, rows):
    """Answers of three tokens are forced.

    Of these, the first two are query rows beside the prompt's last.
    """
    model, inputs, _ = case
    backbone = backbone_of(model)
    encoded = backbone.encode(inputs)
    layout = backbone.layout(inputs, encoded)
    question = layout.text & (inputs["input_ids"] >= 20)
    answers = torch.tensor([[31, 41, 2], [59, 26, 2]])
    target = AttentionTarget(rows=rows)(
        backbone, EncodedBatch(inputs, encoded, layout, question, list(answers))
    )

    width = inputs["input_ids"].shape[1]
    call, wanted = {**inputs, "position_ids": backbone.positions(inputs, generating=True)}, question
    if rows != "question":
        wanted = torch.zeros_like(question)
        wanted[:, -1] = True
    if rows == "answer":
        tails = {"input_ids": answers[:, :-1], "attention_mask": torch.ones(2, 2).long()}
        last = call["position_ids"][..., -1:]
        tails["position_ids"] = last + torch.arange(1, 3)
        types = families.more_types(model, call, 2)
        call |= {name: torch.cat([call[name], tail], -1) for name, tail in tails.items()} | types
        wanted = torch.cat([wanted, torch.ones(2, 2, dtype=torch.bool)], -1)
    before = model.config.get_text_config()._attn_implementation
    model.set_attn_implementation({"text_config": "eager"})
    try:
        out = model(**call, output_attentions=True)
    finally:
        model.set_attn_implementation({"text_config": before})
    attentions = out.attentions if "attentions" in out else out.language_model_outputs.attentions
    mean = torch.stack(attentions).mean((0, 2))
    for row in range(2):
        mass = mean[row][wanted[row]].mean(0)[:width][layout.vision[row]]
        torch.testing.assert_close(target[row], mass / mass.sum(), atol=1e-5, rtol=0)


@torch.no_grad()
def test_videos_and_pictures_in_one_batch(video_case):
    model, inputs = video_case
    dense = model(**inputs).logits
    with asymvlm.prune(model, ByCell(), keep=1.0) as report:
        assert torch.equal(model(**inputs).logits, dense)
    both = report.calls[0].before
    assert both[1] > both[0] > 1, "the second sample has a picture besides"
    with asymvlm.prune(model, ByCell(), keep="auto") as report:
        pruned = model(**inputs).logits
        made = {count: model.generate(**inputs, **LENGTH, num_beams=count) for count in (1, 3)}
    kept = report.calls[0].kept
    reference = masked(model, inputs, kept, generating=False)
    dense = model(**reference).logits
    for row in range(len(dense)):
        stays = reference["attention_mask"][row].bool()
        torch.testing.assert_close(pruned[row, stays], dense[row, stays], atol=1e-5, rtol=0)
    reference = masked(model, inputs, kept, generating=True)
    assert torch.equal(made[1], model.generate(**reference, **LENGTH))
    if families.BEAMS == (1, 2):
        assert torch.equal(made[3], model.generate(**reference, **LENGTH, num_beams=3))


def test_models_that_cannot_be_pruned_say_so():
    text_only = tf.LlamaForCausalLM(tf.LlamaConfig(**families.text()))
    with pytest.raises(
        DataError,
        match=r"LlamaForCausalLM is no vision-language model.*supported are Llava.*Qwen2\.5-VL",
    ):
        backbone_of(text_only)
    t5 = {
        "model_type": "t5",
        "vocab_size": 120,
        "d_model": 32,
        "d_ff": 32,
        "num_layers": 1,
        "num_heads": 2,
        "d_kv": 16,
    }
    config = tf.Blip2Config(
        vision_config=families.tower(),
        qformer_config=families.q_former(),
        text_config=t5,
        image_token_index=5,
        num_query_tokens=6,
    )
    with pytest.raises(
        DataError, match="encoder-decoder language model counts positions by itself"
    ):
        backbone_of(tf.Blip2ForConditionalGeneration(config))


def test_generation_without_a_cache_is_refused():
    model = families.llava().build()
    inputs = families.batch(model, families.llava())
    with (
        pytest.raises(ValueError, match="use_cache: False cannot be combined"),
        asymvlm.prune(model, ByCell(), keep=0.5),
    ):
        model.generate(**inputs, use_cache=False)


@torch.no_grad()
def test_half_precision(case):
    """In bf16 pruned and masked agree as far as bf16 goes, and both choose the same tokens where
    one is clearly best.
    """
    model, inputs, _ = case
    half = copy.deepcopy(model).bfloat16()
    call = {
        name: value.bfloat16() if value.is_floating_point() else value
        for name, value in inputs.items()
    }
    with asymvlm.prune(half, ByCell(), keep="auto") as report:
        pruned = half(**call).logits[:, -1]
    dense = half(**masked(half, call, report.calls[0].kept, generating=False)).logits[:, -1]
    assert pruned.dtype == torch.bfloat16
    torch.testing.assert_close(pruned, dense, atol=0.15, rtol=0.05)
