"""Published rules inside the LLM by hand on a few tokens, and what all have in common."""

from __future__ import annotations

import math

import families
import pytest
import torch
import transformers as tf
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import asymvlm
from asymvlm.backbone import backbone_of
from asymvlm.methods.base import LayerView, Tokens
from asymvlm.methods.dart import DART
from asymvlm.methods.fast_v import FastV
from asymvlm.methods.pyramid_drop import PyramidDrop
from asymvlm.methods.sparse_vlm import SparseVLM
from asymvlm.methods.vlm_pruner import VLMPruner

METHODS = {cls.kind: cls for cls in (DART, FastV, PyramidDrop, SparseVLM, VLMPruner)}
every_method = pytest.mark.parametrize("kind", METHODS)


def make(vision, *, text=None, keys=None, text_keys=None, attention=None, question=None, grid=None):
    """What a method sees of one sample; zeros, and one row of places, where nothing is given."""
    vision = torch.as_tensor(vision, dtype=torch.float32) if isinstance(vision, list) else vision
    text = torch.zeros(1, vision.shape[1]) if text is None else torch.as_tensor(text)
    keys = torch.zeros(len(vision), 2) if keys is None else torch.as_tensor(keys)
    text_keys = (
        torch.zeros(len(text), keys.shape[1]) if text_keys is None else torch.as_tensor(text_keys)
    )
    attention = (
        torch.zeros(1, len(text), len(vision)) if attention is None else torch.as_tensor(attention)
    )
    question = (
        torch.ones(len(text), dtype=torch.bool) if question is None else torch.as_tensor(question)
    )
    if grid is None:
        grid = torch.stack(
            [torch.zeros(len(vision)), torch.zeros(len(vision)), torch.arange(len(vision))], dim=-1
        )

    def unasked(*_):
        raise AssertionError("not for methods inside the LLM")

    return Tokens(
        vision=vision,
        text=text,
        text_ids=torch.arange(len(text)),
        question=question,
        grid=torch.as_tensor(grid).long(),
        tower=unasked,
        ink=unasked,
        importance=unasked,
        at_resolution=unasked,
        below=lambda: LayerView(keys, text_keys, lambda rows: attention[:, rows]),
    )


def some(total=37, pictures=1, dtype=torch.float32, seed=0, same=False):
    """Random tokens on pictures of six columns; `same` has them all alike."""
    generator = torch.Generator().manual_seed(seed)

    def draw(rows, width):
        made = torch.randn(rows, width, generator=generator)
        return (made[:1].expand(rows, -1) if same else made).to(dtype)

    attention = torch.rand(4, 7, total, generator=generator)
    place = torch.arange(total)
    return make(
        draw(total, 12),
        text=draw(7, 12),
        keys=draw(total, 8),
        text_keys=draw(7, 8),
        question=torch.arange(7) > 2,
        attention=torch.full_like(attention, 0.1) if same else attention,
        grid=torch.stack([place * pictures // total, place // 6, place % 6], dim=-1),
    )


def chosen(method, tokens, count):
    return method.select(tokens, count).tolist()


# The published rules


def test_fast_v_by_hand():
    """Rows of two heads: the last row's means are 0.3, 0.35 and 0.15.

    The first row, or one head, would say otherwise.
    """
    attention = [[[0.0, 0.0, 0.9], [0.1, 0.5, 0.2]], [[0.0, 0.0, 0.9], [0.5, 0.2, 0.1]]]
    tokens = make([[1.0]] * 3, text=[[0.0]] * 2, attention=attention)
    torch.testing.assert_close(FastV().score(tokens), torch.tensor([0.3, 0.35, 0.15]))
    assert chosen(FastV(), tokens, 1) == [1]
    assert FastV(layer=3).stages(5, 9, 32) == {3: 5}


def test_pyramid_drop_by_hand():
    """Half of what is left at every stage where an eighth is asked for, and the scores of the last
    row.
    """
    assert PyramidDrop().stages(72, 576, 32) == {8: 288, 16: 144, 24: 72}
    assert PyramidDrop().stages(2, 16, 4) == {1: 8, 2: 4, 3: 2}
    assert PyramidDrop().stages(2, 8, 3) == {1: 4, 2: 2}, "three layers have room for two stages"
    attention = [[[0.0, 0.0, 0.9], [0.1, 0.5, 0.2]], [[0.0, 0.0, 0.9], [0.5, 0.2, 0.1]]]
    torch.testing.assert_close(
        PyramidDrop().score(make([[1.0]] * 3, text=[[0.0]] * 2, attention=attention))[1],
        torch.tensor(0.35),
    )


def test_dart_by_hand():
    """Norms of keys: vision 1, 3, 4, 2, 1 (by L2 the third is still last: 2.83 < 3).

    Question 1 and 5, what stands before it 90.

    Least like the vision pivot (1, 0): -1 of token 3, then -0.95 of token 4, whose dot product, -3,
    is lower. Least like the text pivot (0, -2): -1 of token 1.
    """
    tokens = make(
        [[1.0, 0.0], [0.0, 1.0], [2.0, 0.0], [-1.0, 0.0], [-3.0, 1.0]],
        keys=[[1.0, 0.0], [0.0, 3.0], [-2.0, -2.0], [1.0, 1.0], [0.0, 1.0]],
        text=[[1.0, 1.0], [1.0, 1.0], [0.0, -2.0]],
        text_keys=[[90.0, 0.0], [1.0, 0.0], [0.0, -5.0]],
        question=[False, True, True],
    )
    one_of_each = DART(vision_pivots=1, text_pivots=1)
    assert chosen(one_of_each, tokens, 1) == [2]
    assert chosen(one_of_each, tokens, 2) == [2, 3]
    assert chosen(one_of_each, tokens, 3) == [1, 2, 3], "one from each pivot"
    assert chosen(one_of_each, tokens, 4) == [1, 2, 3, 4], "two from the first"


def test_sparse_vlm_by_hand():
    """Softmax over the question: 0.45, 0.45 and 0.1, so the first two rate.

    What stands before the picture does not.
    """
    text = [[50.0, 0.0], [math.log(4.5), 0.0], [math.log(4.5), 0.0], [0.0, 0.0]]
    rows = [[0.0, 0.0, 0.9], [0.2, 0.5, 0.0], [0.4, 0.1, 0.0], [0.0, 0.0, 0.9]]
    other_head = [[0.0, 0.0, 0.9], [0.4, 0.1, 0.2], [0.4, 0.1, 0.2], [0.0, 0.0, 0.9]]
    tokens = make(
        [[1.0, 0.0]] * 3,
        text=text,
        attention=[rows, other_head],
        question=[False, True, True, True],
    )
    torch.testing.assert_close(SparseVLM().score(tokens), torch.tensor([0.35, 0.2, 0.1]))
    assert SparseVLM().stages(72, 576, 32) == {2: 288, 6: 144, 15: 72}
    assert SparseVLM(layers=(3, 7)).stages(4, 64, 32) == {3: 16, 7: 4}


def test_sparse_vlm_recycles_by_hand():
    """Four of 13 tokens with all of the dropped recycled.

    9 + 1 of them make 10 / 10 + 1 = 2 clusters, so two stay by score.

    The other 11 on a line, by half the squared distance to the nearest: 0 and 0.1 are the densest
    (0.995; of equals the earlier), 10 and 10.2 next (0.980), 30 and 31 are at 0.607, -60 at 0.
    Distances to what is denser: 0 has the largest there is, 10 has 9.9, 30 has 19 and -60 has 59.
    Products: 90.5, 9.7, 11.5 and 0. So 0 and 30 are centres; tokens at 10 and at -60 are nearer to
    0.
    """
    places = [500.0, 2.0, 11.0, 1.0, -1.0, 10.0, 0.0, 600.0, 30.0, -60.0, 10.2, 0.1, 31.0]
    scores = torch.full((13,), 0.01)
    scores[0], scores[7] = 0.5, 0.3
    tokens = make([[one] * 4 for one in places], attention=scores[None, None])
    method = SparseVLM(recycle=1.0)
    kept = method.select(tokens, 4)
    assert kept.tolist() == [0, 6, 7, 8]
    near_0 = (2.0 + 11.0 + 1.0 - 1.0 + 10.0 + 0.0 - 60.0 + 10.2 + 0.1) / 9
    torch.testing.assert_close(
        method.merge(tokens, kept)[:, 3], torch.tensor([500.0, near_0, 600.0, 30.5])
    )
    plain = SparseVLM(recycle=0)
    assert chosen(plain, tokens, 4) == [0, 1, 2, 7], "of equal scores the earlier ones"
    assert torch.equal(plain.merge(tokens, kept), tokens.vision[kept])


def test_sparse_vlm_leaves_one_place_to_the_score():
    tokens = make([[1.0]] * 12, attention=[[[0.0] * 11 + [0.5]]])
    assert chosen(SparseVLM(), tokens, 1) == [11]


def test_sparse_vlm_recycles_the_best_of_the_dropped():
    """11 of 46 at three in ten: int(0.3 * 35) + 1 = 11 make 11 / 10 + 1 = 2 clusters.

    9 stay by score, int(0.3 * 37) + 1 = 12 are fused.
    """
    scores = torch.linspace(1, 0, 46)
    tokens = make(
        torch.randn(46, 3, generator=torch.Generator().manual_seed(0)), attention=scores[None, None]
    )
    kept = SparseVLM().select(tokens, 11)
    assert kept[:9].tolist() == list(range(9)) and int(kept.max()) < 9 + 12
    merged = SparseVLM().merge(tokens, kept)
    assert torch.equal(merged[:9], tokens.vision[:9])
    groups = [
        group
        for group in _pairs_of_means(tokens.vision[9:21])
        if torch.allclose(group, merged[9:], atol=1e-5)
    ]
    assert len(groups) == 1, "the two means are those of the 12 in two groups"


def _pairs_of_means(rows):
    """Means of every way to make two groups."""
    for code in range(1, 2 ** len(rows) - 1):
        first = torch.tensor([bool(code >> place & 1) for place in range(len(rows))])
        yield torch.stack([rows[first].mean(0), rows[~first].mean(0)])


def test_vlm_pruner_pivots_by_hand():
    """L1: 0, 10, 11, 7, 8. From (9, 2): 9.2, 2.2, -, 10.3, 5.4, so token 3.

    Then 7 (token 0) is more than 5 (token 4) and 2.2.
    """
    tokens = make(
        [[1.0, 0.0]] * 5, keys=[[0.0, 0.0], [10.0, 0.0], [9.0, 2.0], [0.0, 7.0], [4.0, 4.0]]
    )
    assert chosen(VLMPruner(pivots=1), tokens, 1) == [2]
    assert chosen(VLMPruner(pivots=2), tokens, 2) == [2, 3]
    assert chosen(VLMPruner(pivots=3), tokens, 3) == [0, 2, 3]


def test_vlm_pruner_grows_from_near_to_far_by_hand():
    """One row of five, diagonal 26^0.5. Cosines with the pivot.

    0.65 next to it, 0.6 at four columns.

    0.65 * (1 + 0.5 / 5.1) = 0.714 and 0.6 * (1 + 0.5 * 4 / 5.1) = 0.835, so the near one, which
    looked more alike, comes first. Tokens in between are alike. Of cosines below 0 the farther
    comes first.
    """
    first = [[0.0, 9.0], *[[0.0, 0.0]] * 4]
    near, far = [0.65, -((1 - 0.65**2) ** 0.5)], [0.6, 0.8]
    states = [[1.0, 0.0], near, [1.0, 0.0], [1.0, 0.0], far]
    assert chosen(VLMPruner(pivots=1), make(states, keys=first), 2) == [0, 1]
    assert chosen(VLMPruner(pivots=1, buffer=0.0), make(states, keys=first), 2) == [0, 4]
    states[1], states[4] = [-0.6, 0.8], [-0.6, -0.8]
    assert chosen(VLMPruner(pivots=1), make(states, keys=first), 2) == [0, 4]


def test_vlm_pruner_raises_the_threshold_by_hand():
    """Six tokens all alike in a row, diagonal 37^0.5.

    Redundancies are 1 + 0.082 a column, nothing is below 0.8, 0.9 or 1.0.

    At 1.1 the neighbour of the pivot comes; at 1.2 the next two are below and one is left to take:
    the nearer.
    """
    tokens = make([[1.0, 1.0]] * 6, keys=[[9.0, 0.0], *[[0.0, 0.0]] * 5])
    assert chosen(VLMPruner(pivots=1), tokens, 2) == [0, 1]
    assert chosen(VLMPruner(pivots=1), tokens, 3) == [0, 1, 2]
    assert chosen(VLMPruner(pivots=1), tokens, 6) == [0, 1, 2, 3, 4, 5]


def test_vlm_pruner_skips_passes_without_skipping_thresholds():
    """Tokens at 0, 18, 14 and -11 degrees: cosines with the first are 0.951, 0.970 and 0.982.

    Nothing is below 0.5.

    At 0.96 the second comes, to which the third, at 4 degrees (0.998), is too like, so that the
    fourth is next.
    """
    angles = torch.tensor([0.0, 18.0, 14.0, -11.0]).deg2rad()
    tokens = make(
        torch.stack([angles.cos(), angles.sin()], dim=-1), keys=[[9.0, 0.0], *[[0.0, 0.0]] * 3]
    )
    assert chosen(
        VLMPruner(pivots=1, buffer=0.0, block=1, threshold=0.5, step=0.46), tokens, 3
    ) == [0, 1, 3]


def test_vlm_pruner_compares_blocks_not_their_members():
    """Tokens 1 and 2 are the same and unlike the pivot. In one block both come.

    One at a time, the third does instead of the second.
    """
    tokens = make(
        [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.75, 0.66]], keys=[[9.0, 0.0], *[[0.0, 0.0]] * 3]
    )
    assert chosen(VLMPruner(pivots=1, buffer=0.0, block=2), tokens, 3) == [0, 1, 2]
    assert chosen(VLMPruner(pivots=1, buffer=0.0, block=1), tokens, 3) == [0, 1, 3]


def test_vlm_pruner_pictures_are_a_diagonal_apart():
    """The second picture, 2 x 2, has the larger diagonal.

    Its tokens are all at distance 1, so 0.6 * 1.5 = 0.9 waits for
    0.7 * (1 + 0.5 / 8^0.5) = 0.82 of the first picture.
    """
    grid = [[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1], [1, 1, 0], [1, 1, 1]]
    states = [[1.0, 0.0], [0.7, 0.51**0.5], [0.6, -0.8], *[[1.0, 0.0]] * 3]
    assert chosen(
        VLMPruner(pivots=1), make(states, keys=[[9.0, 0.0], *[[0.0, 0.0]] * 5], grid=grid), 2
    ) == [0, 1]


def test_vlm_pruner_merges_by_hand():
    """Cosines by the two channels that vary: 0.6 and 0.8 of tokens 2 and 3 with token 0.

    Token 4 is unlike both kept ones.

    Token 0 becomes 0.3 of itself and 0.7 of (0.6 * token 2 + 0.8 * token 3) / 1.4, in all channels;
    token 1 stays. With a token 5 that goes to token 1, token 4 still does not count.
    """
    states = [[1.0, 0.0, 5.0], [0.0, -1.0, 5.0], [0.6, 0.8, 5.0], [0.8, 0.6, 5.0], [-1.0, 0.5, 5.0]]
    tokens = make(states)
    got = VLMPruner(channels=2).merge(tokens, torch.tensor([0, 1]))
    x, y = (0.6 * 0.6 + 0.8 * 0.8) / 1.4, (0.6 * 0.8 + 0.8 * 0.6) / 1.4
    torch.testing.assert_close(got[0], torch.tensor([0.3 + 0.7 * x, 0.7 * y, 5.0]))
    assert torch.equal(got[1], tokens.vision[1])
    got = VLMPruner(channels=2).merge(make([*states, [0.6, -0.8, 5.0]]), torch.tensor([0, 1]))
    torch.testing.assert_close(got[1], torch.tensor([0.7 * 0.6, -0.3 - 0.7 * 0.8, 5.0]))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("pictures", [1, 2])
def test_vlm_pruner_is_the_published_greedy(seed, pictures):
    """The same as the rule with all N x N cosines and distances, every block against everything
    kept so far.
    """
    tokens = some(60, pictures, seed=seed)
    # So that several passes are needed.
    tokens.vision[:40] = tokens.vision[:1] + 0.7 * tokens.vision[:40]
    for count in (5, 20, 55):
        assert chosen(VLMPruner(channels=8), tokens, count) == _greedy(tokens, count)


def _greedy(tokens, count, channels=8, block=16):
    states = tokens.vision[:, tokens.vision.var(0).topk(channels).indices]
    cosine = torch.cosine_similarity(states[:, None], states[None], dim=-1)
    place = tokens.grid[:, 1:].float()
    diagonal = torch.empty(len(place))
    for picture in tokens.grid[:, 0].unique():
        here = tokens.grid[:, 0] == picture
        diagonal[here] = (place[here].amax(0) + 1).norm()
    apart = torch.maximum(diagonal[:, None], diagonal)
    distance = (
        torch.where(
            tokens.grid[:, :1] == tokens.grid[:, 0], (place[:, None] - place).norm(dim=-1), apart
        )
        / diagonal.max()
    )
    keys = tokens.below().keys
    kept = [int(keys.norm(p=1, dim=-1).argmax())]
    while len(kept) < min(4, count):
        kept.append(int((keys[:, None] - keys[kept]).norm(dim=-1).amin(-1).argmax()))

    def redundancy(rows):
        buffered = 1 + 0.5 * distance[rows][:, kept].amin(-1, keepdim=True)
        return (cosine[rows][:, kept] * buffered).amax(-1)

    threshold = 0.8
    while len(kept) < count:
        rest = torch.tensor([one for one in range(len(place)) if one not in kept])
        for part in rest[redundancy(rest).argsort(stable=True)].split(block):
            now = redundancy(part)
            new = part[now < threshold]
            if len(kept) + len(new) > count:
                new = part[now.argsort(stable=True)[: count - len(kept)]]
            kept += new.tolist()
        threshold += 0.1
    return sorted(kept)


class _Largest(TorchDispatchMode):
    """Remembers how many elements the largest result of any operation had."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        sizes = [one.numel() for one in tree_leaves(out) if isinstance(one, torch.Tensor)]
        self.elements = max([self.elements, *sizes])
        return out


def test_vlm_pruner_makes_no_square_of_all_tokens():
    total, count = 8192, 1400
    tokens = some(total)
    with _Largest() as largest:
        kept = VLMPruner().select(tokens, count)
        VLMPruner().merge(tokens, kept)
    assert len(kept) == count
    assert total * 12 <= largest.elements <= total * 1024


# What all have in common


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


# Through a model


@pytest.fixture(scope="module")
def deep():
    """A LLaVA of 16 layers, and two prompts of different lengths with one and two pictures."""
    language = families.text(model_type="llama", num_hidden_layers=16)
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
    assert [counts[-1] for counts in call.per_layer(16)] == [4, 8]
    assert [counts[min(method.stages(4, 16, 16)) - 1] for counts in call.per_layer(16)] == [16, 32]
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
