"""One mechanism for every family.

The same properties of `prune` and of the targets, on a tiny random model of each.
"""

from __future__ import annotations

import copy

import families
import pytest
import torch
import transformers as tf
from families import LENGTH, ByCell

import asymvlm
from asymvlm.backbone import backbone_of
from asymvlm.backbone.families.q_former import QFormer
from asymvlm.backbone.family_spec import family_spec
from asymvlm.backbone.tower.patch_merging import Patches, on_tokens
from asymvlm.backbone.tower.watch import feature_layer, watching
from asymvlm.errors import DataError
from asymvlm.targets import AttentionTarget, EncodedBatch


@pytest.fixture(params=families.IN_SEQUENCE, ids=str, scope="module")
def case(request):
    """(model, its batch of two: one picture and two pictures, of different lengths.

    The batch for beams).
    """
    model = request.param.build()
    return (
        model,
        families.batch(model, request.param),
        families.batch(model, request.param, request.param.beams),
    )


@pytest.fixture(params=families.WITH_VIDEO, ids=str)
def video_case(request):
    """(model, its batch of two: a video; a picture and a video)."""
    model = request.param.build()
    return model, families.video_batch(model, request.param)


def masked(model, inputs, kept, generating):
    """The same call, dense, with the dropped columns hidden from attention and positions as they
    were.
    """
    backbone = backbone_of(model)
    vision = backbone.layout(inputs).vision
    mask = inputs["attention_mask"].clone()
    for row, index in enumerate(kept):
        columns = vision[row].nonzero().squeeze(-1)
        mask[row, columns] = 0
        mask[row, columns[index]] = 1
    return {
        **inputs,
        "attention_mask": mask,
        "position_ids": backbone.positions(inputs, generating),
    }


@torch.no_grad()
def test_keep_all_is_bit_identical(case):
    model, inputs, for_beams = case
    dense = model(**inputs).logits
    with asymvlm.prune(model, ByCell(), keep=1.0) as report:
        assert torch.equal(model(**inputs).logits, dense)
    assert report.calls[0].before == report.calls[0].after
    sampling = {"do_sample": True, "num_return_sequences": 2}
    for prompt, arguments in ((inputs, {}), (for_beams, {"num_beams": 3}), (for_beams, sampling)):
        torch.manual_seed(0)
        expected = model.generate(**prompt, **LENGTH, **arguments)
        torch.manual_seed(0)
        with asymvlm.prune(model, ByCell(), keep=1.0):
            assert torch.equal(model.generate(**prompt, **LENGTH, **arguments), expected), arguments


@torch.no_grad()
def test_dropping_equals_masking(case):
    model, inputs, _ = case
    with asymvlm.prune(model, ByCell(), keep="auto") as report:
        pruned = model(**inputs).logits
    call = report.calls[0]
    assert all(1 <= after < before for before, after in zip(call.before, call.after, strict=True))
    reference = masked(model, inputs, call.kept, generating=False)
    dense = model(**reference).logits
    for row in range(len(dense)):
        stays = reference["attention_mask"][row].bool()
        torch.testing.assert_close(
            pruned[row, -int(stays.sum()) :], dense[row, stays], atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("arguments", [{}, {"num_beams": 3}], ids=["greedy", "beams"])
@torch.no_grad()
def test_generation_equals_masking(case, arguments):
    model, inputs = case[0], case[2 if arguments else 1]
    with asymvlm.prune(model, ByCell(), keep="auto") as report:
        pruned = model.generate(**inputs, **LENGTH, **arguments)
    expected = model.generate(
        **masked(model, inputs, report.calls[0].kept, generating=True), **LENGTH, **arguments
    )
    assert torch.equal(pruned, expected)


def test_loss_and_gradients_equal_masking(case):
    """With labels, the gradient reaches the pixels through the kept features alone."""
    model, inputs, _ = case
    # Words alone: what follows a picture is predicted from its last vision token, which is another
    # one after pruning.
    labels = inputs["input_ids"].masked_fill(inputs["input_ids"] < 20, -100)

    def run(call):
        pixels = call["pixel_values"].clone().requires_grad_()
        loss = model(**{**call, "pixel_values": pixels, "labels": labels}).loss
        return loss.detach(), torch.autograd.grad(loss, pixels)[0]

    with asymvlm.prune(model, ByCell(), keep="auto") as report:
        loss, gradient = run(inputs)
    expected_loss, expected = run(masked(model, inputs, report.calls[0].kept, generating=False))
    torch.testing.assert_close(loss, expected_loss, atol=1e-5, rtol=0)
    torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-3)
    assert gradient.abs().sum() > 0


@torch.no_grad()
def test_static_cache(case):
    model, inputs, _ = case
    with asymvlm.prune(model, ByCell(), keep="auto"):
        dynamic = model.generate(**inputs, **LENGTH)
        static = model.generate(**inputs, **LENGTH, cache_implementation="static")
    assert torch.equal(dynamic, static)


@torch.no_grad()
def test_further_turn_on_the_kept_cache(case):
    """A second question on the cache of the first equals a dense model that goes on with the same
    columns masked.
    """
    model, inputs, _ = case
    if isinstance(backbone_of(model), QFormer):
        pytest.skip("its generate takes no cache")
    more = torch.tensor([[21, 33, 44], [52, 63, 74]])

    def second(first, mask, **positions):
        ids = torch.cat([first.sequences, more], 1)
        mask = torch.cat([mask, torch.ones(2, ids.shape[1] - mask.shape[1], dtype=torch.long)], 1)
        call = {
            "input_ids": ids,
            "attention_mask": mask,
            "past_key_values": first.past_key_values,
            **positions,
        }
        for name in {"token_type_ids", "mm_token_type_ids"} & inputs.keys():
            call[name] = torch.nn.functional.pad(
                inputs[name], (0, ids.shape[1] - inputs[name].shape[1])
            )
        return model.generate(**call, **LENGTH)

    with asymvlm.prune(model, ByCell(), keep="auto") as report:
        first = model.generate(**inputs, **LENGTH, return_dict_in_generate=True)
        pruned = second(first, inputs["attention_mask"])
    reference = masked(model, inputs, report.calls[0].kept, generating=True)
    first = model.generate(**reference, **LENGTH, return_dict_in_generate=True)
    positions = reference["position_ids"]
    steps = torch.arange(1, first.sequences.shape[1] + more.shape[1] - positions.shape[-1] + 1)
    positions = torch.cat([positions, positions[..., -1:] + steps], -1)
    assert torch.equal(pruned, second(first, reference["attention_mask"], position_ids=positions))


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
        for name in {"token_type_ids", "mm_token_type_ids"} & call.keys():
            tails[name] = torch.zeros(2, 2).long()
        last = call["position_ids"][..., -1:]
        tails["position_ids"] = last + torch.arange(1, 3)
        call |= {name: torch.cat([call[name], tail], -1) for name, tail in tails.items()}
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


REFUSED = {  # several feature layers, resamplers, mergers of other kinds
    "VipLlava", "Idefics2", "Mistral3", "Molmo2",
}  # fmt: skip


def test_tower_attention_lies_on_the_tokens_that_its_patches_become(case, request):
    """The patches that a token is a mean of are those that its features depend on through projector
    and merger.
    """
    model, inputs, _ = case
    backbone = backbone_of(model)
    name = request.node.callspec.id
    if name in REFUSED:
        with pytest.raises(ValueError, match=r"cannot be watched|not about the LLM's tokens"):
            backbone.encode(inputs, watch_tower=True)
        return
    attended = []  # what the watched layer gives: above it, patches meet nowhere but in the merger
    _, attention = feature_layer(model)
    handle = attention.register_forward_hook(
        lambda module, args, out: attended.append(out[0] if isinstance(out, tuple) else out)
    )
    model.requires_grad_(True)
    with watching(model) as watcher:
        encoded = backbone.encode(inputs)
    handle.remove()
    count, merges = len(encoded.rows), family_spec(model.config).patch_merge
    view = watcher.view(merges, count, inputs)
    assert view.attention.shape == view.single_head().shape == (count,)
    assert len(view.keys) == len(view.states) == count
    pictures = [one.squeeze(-1) for one in watcher.received()]
    sizes = [one.numel() for one in pictures]
    numbers = torch.arange(sum(sizes), dtype=torch.float).split(sizes)
    numbered = [
        number.view_as(one)[..., None] for number, one in zip(numbers, pictures, strict=True)
    ]
    if merges == "resampled":  # every token reads every patch
        weights = watcher.resampler.weights(pictures[0].shape[1])
        torch.testing.assert_close(
            view.attention.sum(), (weights @ torch.cat(pictures)[..., None]).sum()
        )
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:2]))
        return
    places = on_tokens(
        Patches(numbered, getattr(model.base_model, "visual", None), inputs, watcher.pack),
        merges,
        count,
    )[:, 0]
    for token in (0, count // 2, count - 1):
        gradients = torch.autograd.grad(
            encoded.rows[token].square().sum(), attended, retain_graph=True
        )
        felt = [
            gradient.abs().sum(-1)[:, 1:] if watcher.cls == "left out" else gradient.abs().sum(-1)
            for gradient in gradients
        ]
        read = torch.cat([one.flatten() for one in felt]).nonzero().squeeze(-1).float()
        if merges == "packed" and len(read) == 0:
            assert view.attention[token] == 0, "the end of a line is no patch"
            continue
        torch.testing.assert_close(
            places[token], read.mean(), msg=f"{name}: token {token} reads {read}"
        )
        assert view.attention[token] > 0


@torch.no_grad()
def test_tower_states_are_what_the_projector_reads(llava, batch):
    """For LLaVA, where patches are tokens, the view's states give the features, and CLS's keys are
    left out.
    """
    backbone = backbone_of(llava)
    encoded = backbone.encode(batch, watch_tower=True)
    view = encoded.tower
    torch.testing.assert_close(llava.model.multi_modal_projector(view.states), encoded.rows)
    assert view.keys.shape == (3 * 256, llava.config.vision_config.hidden_size)
    part = view.of(slice(256, 512))
    assert torch.equal(part.single_head(), view.single_head()[256:512])


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
        torch.testing.assert_close(
            pruned[row, -int(stays.sum()) :], dense[row, stays], atol=1e-5, rtol=0
        )
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
