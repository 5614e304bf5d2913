"""What all methods inside the LLM have in common."""

from __future__ import annotations

import pytest
import torch
import transformers as tf
from support import families
from support.layer_tokens import METHODS, chosen, every_method, make, some

import asymvlm
from asymvlm.backbone import backbone_of
from asymvlm.methods.dart import DART
from asymvlm.methods.pyramid_drop import PyramidDrop
from asymvlm.methods.sparse_vlm import SparseVLM
from asymvlm.methods.vlm_pruner import VLMPruner


@every_method
@pytest.mark.parametrize(
    "tokens",
    [some(), some(pictures=3), some(same=True), some(dtype=torch.bfloat16)],
    ids=["", "pictures", "same", "bf16"],
)
def test_exact_counts(kind, tokens):
    method = METHODS[kind]()
    for count in (1, 2, 3, 5, 9, 20, 36, 37):
        kept = method.select(tokens, count)
        assert kept.dtype == torch.int64
        assert (
            len(kept) == count
            and bool((kept[1:] > kept[:-1]).all())
            and int(kept[0]) >= 0
            and int(kept[-1]) < 37
        )
        assert torch.equal(METHODS[kind]().select(tokens, count), kept)
        merged = method.merge(tokens, kept)
        assert (
            merged.shape == (count, 12)
            and merged.dtype == tokens.vision.dtype
            and bool(torch.isfinite(merged).all())
        )
        if count == 37:
            assert torch.equal(merged, tokens.vision)


@every_method
def test_one_token(kind):
    tokens = some(1)
    kept = METHODS[kind]().select(tokens, 1)
    assert kept.tolist() == [0]
    assert torch.equal(METHODS[kind]().merge(tokens, kept), tokens.vision)


@every_method
def test_nothing_but_the_sample_is_read(kind):
    """Tokens are as they were afterwards, and a sample in between changes nothing."""
    method, tokens = METHODS[kind](), some()
    kept = method.select(tokens, 9)
    merged = method.merge(tokens, kept)
    method.merge(some(20, seed=1), method.select(some(20, seed=1), 4))
    assert torch.equal(method.select(tokens, 9), kept)
    assert torch.equal(method.merge(tokens, kept), merged)
    untouched = some()
    assert torch.equal(tokens.vision, untouched.vision) and torch.equal(
        tokens.below().keys, untouched.below().keys
    )


def test_text_stands_in_for_a_question():
    """A picture at the end of the prompt has no text behind it."""
    for cls in (DART, SparseVLM):
        asked, unasked = some(), some()
        asked.question[:], unasked.question[:] = True, False
        assert chosen(cls(), unasked, 9) == chosen(cls(), asked, 9)


@every_method
def test_stages_end_at_the_count(kind):
    for count, total, depth in (
        (1, 1, 32),
        (1, 576, 32),
        (64, 576, 28),
        (576, 576, 40),
        (575, 576, 24),
    ):
        plan = METHODS[kind]().stages(count, total, depth)
        assert list(plan) == sorted(plan) and all(0 < layer < depth for layer in plan)
        left = [total, *plan.values()]
        assert left == sorted(left, reverse=True) and left[-1] == count


def test_bad_arguments():
    with pytest.raises(ValueError, match="layers: \\(6, 2\\)"):
        SparseVLM(layers=(6, 2))
    with pytest.raises(ValueError, match=r"recycle: 1\.5"):
        SparseVLM(recycle=1.5)
    with pytest.raises(ValueError, match="step: 0"):
        VLMPruner(step=0)
    with pytest.raises(ValueError, match="text_pivots"):
        DART(vision_pivots=0, text_pivots=0)
    with pytest.raises(ValueError, match="not finite"):
        VLMPruner().select(make([[1.0, 0.0], [float("nan"), 0.0]]), 2)


@pytest.fixture(scope="module")
def deep():
    """A LLaVA of 18 layers, and two prompts of different lengths with one and two pictures."""
    language = families.text(model_type="llama", num_hidden_layers=18)
    config = tf.LlavaConfig(
        vision_config=families.clip(), text_config=language, image_token_id=families.IMAGE
    )
    family = families.Family("Llava", lambda: config, families.square())
    model = family.build()
    return model, families.batch(model, family)


@every_method
@torch.no_grad()
def test_a_batch_equals_its_samples(deep, kind):
    model, inputs = deep
    method = METHODS[kind]()
    with asymvlm.prune(model, method, keep=0.25) as report:
        together = model(**inputs, logits_to_keep=1).logits
        alone = []
        for row, pixels in enumerate((inputs["pixel_values"][:1], inputs["pixel_values"][1:])):
            there = inputs["attention_mask"][row].bool()
            ids = inputs["input_ids"][row : row + 1, there]
            one = {
                "input_ids": ids,
                "attention_mask": torch.ones_like(ids),
                "position_ids": there.nonzero().T,
            }
            alone.append(model(**one, pixel_values=pixels, logits_to_keep=1).logits[0])
        made = model.generate(**inputs, max_new_tokens=3)
    call = report.calls[0]
    assert call.before == [16, 32] and call.after == [4, 8]
    assert [counts[-1] for counts in call.per_layer(18)] == [4, 8]
    first = min(method.stages(4, 16, 18))
    assert [counts[first - 1] for counts in call.per_layer(18)] == [16, 32]
    for row in range(2):
        assert torch.equal(call.kept[row], report.calls[row + 1].kept[0])
        torch.testing.assert_close(alone[row], together[row], atol=1e-4, rtol=0)
    assert made.shape[1] == inputs["input_ids"].shape[1] + 3
    dense = model(**inputs, logits_to_keep=1).logits
    assert (dense - together).abs().max() > 1e-3


def test_depth_is_checked_by_the_mechanism(llava, batch):
    """Published layers are numbers, so a shallow LLM refuses them; shares of the depth fit."""
    assert len(backbone_of(llava).decoder.layers) == 2
    for kind in ("fast_v", "vlm_pruner", "dart", "sparse_vlm"):
        with (
            pytest.raises(ValueError, match="this LLM has layers 1 to 1"),
            asymvlm.prune(llava, METHODS[kind]()),
        ):
            llava(**batch)
    with torch.no_grad(), asymvlm.prune(llava, PyramidDrop(), keep=0.25) as report:
        llava(**batch)
    assert report.calls[0].after == [64] * 3


def test_all_are_discovered():
    assert {kind: asymvlm.methods()[kind] for kind in METHODS} == METHODS
