"""`prune` is exact: it equals the dense model with the dropped columns masked."""

from __future__ import annotations

import pytest
import torch

import asymvlm
from asymvlm.backbone import backbone_of
from asymvlm.selectors import count_for


class ByCell(asymvlm.Method):
    """A method from outside the package: a different, known order for every sample."""

    def score(self, tokens):
        return torch.sin(
            torch.arange(len(tokens.vision)) * (1.0 + float(tokens.text_ids.sum() % 7))
        )


class Ragged(ByCell):
    """A different count per sample, through the budget."""

    def budget(self, tokens):
        return 0.1 + 0.05 * float(tokens.text_ids.sum() % 5)


def masked(model, inputs, kept, generating=False):
    """The same call, dense, with the dropped columns hidden from attention and positions as they
    were.
    """
    layout = backbone_of(model).layout(inputs)
    mask = inputs["attention_mask"].clone()
    positions = (inputs["attention_mask"].cumsum(-1) - 1).clamp_min(0)
    if not generating:
        positions = torch.arange(mask.shape[1]).expand_as(mask)
    for row, index in enumerate(kept):
        columns = layout.vision[row].nonzero().squeeze(-1)
        dropped = torch.ones(len(columns), dtype=torch.bool)
        dropped[index] = False
        mask[row, columns[dropped]] = 0
    return {**inputs, "attention_mask": mask, "position_ids": positions}


def test_keep_all_is_bit_identical(llava, batch):
    with torch.no_grad():
        dense = llava(**batch).logits
        with asymvlm.prune(llava, ByCell(), keep=1.0) as report:
            kept = llava(**batch).logits
    assert report.calls[-1].before == report.calls[-1].after == [256, 256, 256]
    assert torch.equal(dense, kept)
    with asymvlm.prune(llava, ByCell(), keep=1.0):
        made = llava.generate(**batch, max_new_tokens=6)
    assert torch.equal(made, llava.generate(**batch, max_new_tokens=6))


@pytest.mark.parametrize("method,keep", [(ByCell(), 0.25), (Ragged(), "auto"), (ByCell(), 7)])
def test_dropping_equals_masking(llava, batch, method, keep):
    with torch.no_grad():
        with asymvlm.prune(llava, method, keep=keep) as report:
            pruned = llava(**batch, logits_to_keep=4).logits
        dense = llava(**masked(llava, batch, report.calls[-1].kept), logits_to_keep=4).logits
    assert report.calls[-1].before == [256] * 3
    torch.testing.assert_close(pruned, dense, atol=1e-5, rtol=0)
    if keep == "auto":
        assert len(set(report.calls[-1].after)) > 1, "the test wants ragged counts"


@pytest.mark.parametrize(
    "arguments", [{}, {"num_beams": 3}, {"num_beams": 3, "num_return_sequences": 2}]
)
def test_generation_equals_masking(llava, batch, arguments):
    with asymvlm.prune(llava, Ragged(), keep="auto") as report:
        pruned = llava.generate(**batch, max_new_tokens=8, do_sample=False, **arguments)
    dense = masked(llava, batch, report.calls[-1].kept, generating=True)
    expected = llava.generate(**dense, max_new_tokens=8, do_sample=False, **arguments)
    prompt = batch["input_ids"].shape[1]
    assert torch.equal(pruned[:, :prompt], expected[:, :prompt]), "the original prompt comes first"
    assert torch.equal(pruned[:, prompt:], expected[:, prompt:])
    assert len({tuple(row) for row in pruned[:, prompt:].tolist()}) > 1, (
        "the model must not say the same of everything"
    )


def test_batch_equals_one_by_one(llava, processor, page_samples):
    from asymvlm.backbone.prompt import Prompter

    prompter, chosen = Prompter(processor), page_samples[::2]
    # A plain forward call counts padding in its positions, so only relative ones agree: hence the
    # tolerance below.
    together = prompter(chosen).inputs
    with torch.no_grad(), asymvlm.prune(llava, Ragged(), keep="auto") as report:
        whole = llava(**together, logits_to_keep=1).logits
        for row, sample in enumerate(chosen):
            alone = llava(**prompter([sample]).inputs, logits_to_keep=1).logits
            torch.testing.assert_close(alone[0], whole[row], atol=1e-5, rtol=0)
    for row, call in enumerate(report.calls[1:]):
        assert torch.equal(call.kept[0], report.calls[0].kept[row])


def test_max_length_counts_the_original_prompt(llava, batch):
    length = batch["input_ids"].shape[1] + 3
    with asymvlm.prune(llava, ByCell(), keep=0.1):
        made = llava.generate(**batch, max_length=length, max_new_tokens=None, do_sample=False)
    assert made.shape[1] == length


def test_model_is_as_before_afterwards(llava, batch):
    hooks = len(llava._forward_pre_hooks)
    with asymvlm.prune(llava, ByCell(), keep=0.5):
        pass_through = llava.generate(**batch, max_new_tokens=1)
    assert pass_through.shape[1] == batch["input_ids"].shape[1] + 1
    assert len(llava._forward_pre_hooks) == hooks and "generate" not in vars(llava)


def test_text_only_call_passes_and_is_reported(llava):
    ids = torch.tensor([[1, 10, 11, 12]])
    with asymvlm.prune(llava, ByCell()) as report:
        llava(input_ids=ids)
    assert report.text_only == 1 and not report.calls


def test_unused_context_warns(llava):
    with pytest.warns(UserWarning, match="was not called"), asymvlm.prune(llava, ByCell()):
        pass


@pytest.mark.parametrize("keep", [0, 0.0, 1.5, -1, True, "half", None])
def test_bad_keep_names_the_accepted_values(llava, keep):
    with (
        pytest.raises(ValueError, match=r"keep: .*share in \(0, 1\]"),
        asymvlm.prune(llava, ByCell(), keep=keep),
    ):
        pass


def test_wrong_scores_are_refused(llava, batch):
    class Short(asymvlm.Method):
        def score(self, tokens):
            return torch.zeros(3)

    with (
        pytest.raises(ValueError, match="one finite score for each of 256"),
        asymvlm.prune(llava, Short()),
    ):
        llava(**batch)


@pytest.mark.parametrize(
    ("index", "gave"),
    [
        (torch.tensor([-1, 0, 1]), "3 different ones from -1 to 1"),
        (torch.tensor([0, 1, 256]), "3 different ones from 0 to 256"),
        (torch.tensor([0, 2, 1]), "3 different ones from 0 to 2"),
        (torch.tensor([0, 1, 1]), "2 different ones from 0 to 1"),
        (torch.tensor([0, 1]), r"int64 of \(2,\)"),
        (torch.tensor([0, 1, 2, 3]), r"int64 of \(4,\)"),
        (torch.tensor([[0], [1], [2]]), r"int64 of \(3, 1\)"),
        (torch.tensor([0.0, 1.0, 2.0]), r"float32 of \(3,\)"),
        (torch.tensor([0, 1, 2], dtype=torch.int32), r"int32 of \(3,\)"),
        (torch.arange(256) < 3, r"bool of \(256,\)"),
        ([0, 1, 2], "a list"),
    ],
)
@pytest.mark.parametrize("layer", [None, 1])
def test_wrong_indices_are_refused(llava, batch, index, gave, layer):
    class Odd(asymvlm.Method):
        def select(self, tokens, count):
            return index

    method = Odd()
    method.layer = layer
    with (
        pytest.raises(ValueError, match=f"^Odd.select gave {gave}; it must give 3 .* below 256"),
        torch.no_grad(),
        asymvlm.prune(llava, method, keep=3),
    ):
        llava(**batch)


def test_wrong_features_are_refused(llava, batch):
    class Short(ByCell):
        def merge(self, tokens, kept):
            return tokens.vision[kept][:1]

    with (
        pytest.raises(ValueError, match=r"^Short.merge gave features of \(1, \d+\); .*, \(3, "),
        asymvlm.prune(llava, Short(), keep=3),
    ):
        llava(**batch)


@pytest.mark.parametrize(
    "name", ["random", "grid", "downsample", "cls_attention", "teacher_attention"]
)
@pytest.mark.parametrize("keep", [1, 13, 0.125, 1.0])
def test_every_method_keeps_exactly_what_was_asked(llava, batch, name, keep):
    method = asymvlm.methods()[name]()
    with torch.no_grad(), asymvlm.prune(llava, method, keep=keep) as report:
        llava(**batch, logits_to_keep=1)
    for index in report.calls[-1].kept:
        assert len(index) == count_for(keep, 256)
        assert torch.equal(index, index.unique()), "ascending, no repeats"
