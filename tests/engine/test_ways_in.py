"""Every way into a model is pruned rightly, or refused by name before any work."""

from __future__ import annotations

import gc
import warnings
import weakref

import pytest
import torch
import transformers as tf
from support import families
from support.eviction_runs import BUDGET, family, rule
from support.families import ByCell
from support.inside_llm import Inside

import asymvlm

STEPS = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": families.PAD}
METHODS = [(ByCell(), 0.5), (Inside(), 0.4)]
IDS = ["before", "inside"]
both = pytest.mark.parametrize(("method", "keep"), METHODS, ids=IDS)


@pytest.fixture
def one():
    row = family("Llava")
    model = row.build()
    return model, families.batch(model, row, (1,), (7,))


@both
@torch.no_grad()
def test_settings_count_wherever_they_come_from(one, method, keep):
    model, x = one
    given = tf.GenerationConfig(use_cache=False, **STEPS)
    with asymvlm.prune(model, method, keep=keep) as report:
        model.generate(**x, **STEPS)
        for arguments in ({"use_cache": False}, {"generation_config": given}):
            with pytest.raises(ValueError, match="use_cache: False cannot be combined"):
                model.generate(**x, **arguments)
        model.generation_config.use_cache = False
        with pytest.raises(ValueError, match="use_cache: False cannot be combined"):
            model.generate(**x, **STEPS)
        words = {"input_ids": x["input_ids"][:, -5:]}
        model.generate(**words, **STEPS)  # text alone needs no cache
        model.generation_config.use_cache = True
        model.generation_config.prefill_chunk_size = 4
        with pytest.raises(ValueError, match="prefill_chunk_size: 4 is not for pruned calls"):
            model.generate(**x, **STEPS)
        model.generation_config.prefill_chunk_size = None
    assert len(report.calls) == 1 and report.text_only == 1


@torch.no_grad()
def test_settings_of_inside_and_of_eviction(one):
    model, x = one
    model.generation_config.cache_implementation = "static"
    with (
        asymvlm.prune(model, Inside(), keep=0.4),
        pytest.raises(ValueError, match="cache_implementation: 'static' has one length"),
    ):
        model.generate(**x, **STEPS)
    model.generation_config.cache_implementation = None
    with asymvlm.evict(model, rule(), BUDGET):
        with pytest.raises(ValueError, match="prefill_chunk_size: a prompt is read in full"):
            model.generate(**x, **STEPS, prefill_chunk_size=4)
        model.generation_config.prefill_chunk_size = 4
        with pytest.raises(ValueError, match="prefill_chunk_size: a prompt is read in full"):
            model.generate(**x, **STEPS)
        model.generation_config.prefill_chunk_size = None
        model.generate(**x, **STEPS)


@both
@torch.no_grad()
def test_text_alone_is_counted_once_and_warns_of_nothing(one, method, keep):
    model, x = one
    words = {"input_ids": x["input_ids"][:, -5:]}
    expected = model.generate(**words, **STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        with asymvlm.prune(model, method, keep=keep) as report:
            assert torch.equal(model.generate(**words, **STEPS), expected)
    assert report.text_only == 1 and not report.calls


@both
@torch.no_grad()
def test_embeddings_are_refused_and_features_are_pruned(one, method, keep):
    model, x = one
    embeddings = model.get_input_embeddings()(x["input_ids"])
    rest = {"attention_mask": x["attention_mask"]}
    encoded = {"image": model.model.get_image_features(x["pixel_values"], return_dict=True)}
    with asymvlm.prune(model, method, keep=keep) as report:
        expected = model.generate(**x, **STEPS)
        for pictures in ({"pixel_values": x["pixel_values"]}, {"mm_encoder_outputs": encoded}, {}):
            for call in (model, model.generate):
                with pytest.raises(ValueError, match="inputs_embeds: pictures in there cannot"):
                    call(inputs_embeds=embeddings, **rest, **pictures)
        ids = {"input_ids": x["input_ids"], **rest}
        for _ in range(2):  # the caller's features are as they were
            made = model.generate(**ids, mm_encoder_outputs=dict(encoded), **STEPS)
            assert torch.equal(made, expected)
        model(**ids, mm_encoder_outputs=dict(encoded))
    assert len(report.calls) == 4


@torch.no_grad()
def test_features_without_pixels_say_what_a_method_misses(one):
    model, x = one
    encoded = {"image": model.model.get_image_features(x["pixel_values"], return_dict=True)}
    ids = {name: x[name] for name in ("input_ids", "attention_mask")}
    method = asymvlm.methods()["cls_attention"]()
    with (
        asymvlm.prune(model, method, keep=0.5),
        pytest.raises(ValueError, match=r"mm_encoder_outputs: .* give pixels"),
    ):
        model(**ids, mm_encoder_outputs=encoded)


@both
@torch.no_grad()
def test_the_llm_called_past_the_model_is_in_the_report(one, method, keep):
    model, x = one
    embeddings = model.get_input_embeddings()(x["input_ids"])
    with (
        pytest.warns(UserWarning, match="called 1 times alone"),
        asymvlm.prune(model, method, keep=keep) as report,
    ):
        model.model.language_model(inputs_embeds=embeddings)
    assert report.unseen == 1


@both
@torch.no_grad()
def test_a_model_with_lora_is_seen_from_outside_and_inside(one, method, keep):
    from peft import LoraConfig, get_peft_model

    model, x = one
    settings = LoraConfig(target_modules=r".*language_model.*q_proj", r=2, init_lora_weights=False)
    wrapped = get_peft_model(model, settings)
    with asymvlm.prune(wrapped, method, keep=keep) as report:
        outer = wrapped.generate(**x, **STEPS)
        assert torch.equal(model.generate(**x, **STEPS), outer)
        wrapped(**x)
    assert len(report.calls) == 3


@both
@torch.no_grad()
def test_offloaded_weights(one, method, keep):
    accelerate = pytest.importorskip("accelerate")
    model, x = one
    with asymvlm.prune(model, method, keep=keep):
        expected = model.generate(**x, **STEPS)
    accelerate.cpu_offload(model, execution_device=torch.device("cpu"))
    with asymvlm.prune(model, method, keep=keep) as report:
        assert torch.equal(model.generate(**x, **STEPS), expected)
    assert len(report.calls) == 1


@both
@torch.no_grad()
def test_the_object_is_left_as_it_was_found(one, method, keep):
    model, x = one
    calls = []

    def mine(*args, **kwargs):
        calls.append(1)
        return type(model).generate(model, *args, **kwargs)

    model.generate = mine
    attention = model.config.get_text_config()._attn_implementation

    def hooks():
        return [
            (len(part._forward_hooks), len(part._forward_pre_hooks)) for part in model.modules()
        ]

    before, state = hooks(), sorted(vars(model))
    for first in (asymvlm.prune(model, method, keep=keep), asymvlm.evict(model, rule(), BUDGET)):
        with first, pytest.raises(RuntimeError, match="on the way"):
            model.generate(**x, **STEPS)
            raise RuntimeError("on the way")
    with asymvlm.prune(model, method, keep=keep), asymvlm.evict(model, rule(), BUDGET):
        model.generate(**x, **STEPS)
        with pytest.raises(ValueError):
            model.generate(**x, use_cache=False)
    assert model.generate is mine and len(calls) == 3
    assert hooks() == before and sorted(vars(model)) == state
    assert model.config.get_text_config()._attn_implementation == attention


@torch.no_grad()
def test_contexts_that_close_in_another_order(one):
    model, x = one
    expected = model.generate(**x, **STEPS)
    first, second = asymvlm.prune(model, Inside(), keep=0.4), asymvlm.evict(model, rule(), BUDGET)
    first.__enter__()
    second.__enter__()
    model.generate(**x, **STEPS)
    first.__exit__(None, None, None)
    model.generate(**x, **STEPS)
    second.__exit__(None, None, None)
    assert torch.equal(model.generate(**x, **STEPS), expected)
    assert "generate" not in vars(model)
    assert model.config.get_text_config()._attn_implementation == "sdpa"
    assert not any(part._forward_pre_hooks for part in model.modules())


def test_no_graph_outlives_generate(one):
    """The tower of a model whose parameters require gradients keeps no activations."""
    model, x = one
    assert all(parameter.requires_grad for parameter in model.parameters())
    outputs = []

    class Sees(ByCell):
        def score(self, tokens):
            outputs.append(tokens.vision)
            return super().score(tokens)

    layer = model.model.vision_tower.encoder.layers[0].mlp
    kept = []
    handle = layer.register_forward_hook(lambda module, args, out: kept.append(weakref.ref(out)))
    with asymvlm.prune(model, Sees(), keep=0.5):
        model.generate(**x, **STEPS)
    handle.remove()
    gc.collect()
    assert outputs and not outputs[0].requires_grad
    assert kept and all(item() is None for item in kept)


def test_gradients_still_reach_the_pixels_of_a_plain_call(one):
    model, x = one
    pixels = x["pixel_values"].clone().requires_grad_()
    with asymvlm.prune(model, ByCell(), keep=0.5):
        model(**{**x, "pixel_values": pixels}).logits.sum().backward()
    assert pixels.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["prumerge_plus", "cls_attention"])
@torch.no_grad()
def test_a_sample_does_not_depend_on_the_pictures_beside_it(name):
    """Towers that pack all pictures into one row divide by a picture's own patches."""
    row = family("PixtralLlava")
    model = row.build()
    together = families.batch(model, row, (1, 2), (7, 4))
    views = []

    class Looks(ByCell):
        reads_tower = True

        def score(self, tokens):
            views.append((tokens.tower().attention, len(tokens.grid[:, 0].unique())))
            return super().score(tokens)

    with asymvlm.prune(model, Looks(), keep=0.5):
        model(**together)
    assert len(views) == 2
    for view, pictures in views:
        torch.testing.assert_close(float(view.sum()), float(pictures), atol=1e-4, rtol=0)
    method = asymvlm.methods()[name]()
    with asymvlm.prune(model, method, keep=0.5) as report:
        model(**together)
        real = together["attention_mask"][0].bool()
        alone = {
            name: value[:1, real] if value.shape == together["input_ids"].shape else value[:1]
            for name, value in together.items()
        }
        model(**alone)
    assert torch.equal(report.calls[0].kept[0], report.calls[1].kept[0])
