"""Published rules before the LLM by hand on a few tokens, and what all have in common."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from asymvlm.backbone.tower.watch import TowerView
from asymvlm.methods import Method, Tokens, cd_pruner, holov, prumerge, vis_pruner
from asymvlm.methods.cd_pruner import CDPruner
from asymvlm.methods.common.similarity import nearest_other, unit_rows
from asymvlm.methods.div_prune import DivPrune
from asymvlm.methods.holov import HoloV
from asymvlm.methods.id_pruner import IDPruner
from asymvlm.methods.non_blank import NonBlank
from asymvlm.methods.prumerge import PruMergePlus
from asymvlm.methods.scope import SCOPE
from asymvlm.methods.vis_pruner import VisPruner
from asymvlm.methods.vision_zip import VisionZip


def make(
    vision, attention=None, keys=None, heads=1, states=None, ink=None, single_head=None, columns=4
):
    """Tokens of one picture; what a test does not give is made so that nothing can depend on it."""
    vision = torch.as_tensor(vision)
    count = len(vision)

    def given(value):
        return (
            vision.new_full((count, 1), torch.nan)
            if value is None
            else torch.as_tensor(value).to(vision)
        )

    def flat(value):
        return given(value).reshape(count)

    def refused(*args):
        raise AssertionError("no method of this file asks for it")

    place = torch.arange(count)
    return Tokens(
        vision=vision,
        text=vision[:1],
        text_ids=torch.tensor([1]),
        question=torch.tensor([True]),
        grid=torch.stack([torch.zeros_like(place), place // columns, place % columns], 1).to(
            vision.device
        ),
        tower=lambda: TowerView(
            flat(attention), lambda: flat(single_head), given(keys), given(states), heads
        ),
        pixel_contrast=lambda: flat(ink),
        importance=refused,
        at_resolution=refused,
        below=refused,
    )


def at_angles(*degrees, lengths=1.0):
    turned = torch.deg2rad(torch.tensor(degrees, dtype=torch.float))
    return torch.stack([turned.cos(), turned.sin()], 1) * torch.as_tensor(lengths).reshape(-1, 1)


class Scores(Method):
    """A base for IDPruner: fixed scores."""

    reads_tower = True

    def __init__(self, scores=None):
        self.scores, self.heard = scores, []

    def score(self, tokens):
        return torch.as_tensor(self.scores) if self.scores is not None else tokens.tower().attention

    def budget(self, tokens):
        return 0.3

    def begin(self, samples):
        self.heard += samples


@pytest.fixture(autouse=True)
def similarity(monkeypatch):
    """CLIP's similarity is the first number of each tower state."""
    monkeypatch.setattr(
        cd_pruner,
        "ClipSimilarity",
        lambda clip, tokenizer: lambda tokens: tokens.tower().states[:, 0],
    )


def test_vision_zip_by_hand():
    tokens = make(
        vision=[[1.0], [2.0], [3.0], [4.0], [5.0], [6.0], [7.0], [8.0]],
        attention=[0.1, 0.9, 0.1, 0.1, 0.2, 0.1, 0.8, 0.1],
        heads=2,  # two numbers each
        keys=[
            [5, 0, -3, 0],  # mean (1, 0)
            [9, 9, 9, 9],
            [
                0,
                0,
                2,
                1,
            ],  # mean (1, 0.5), to token 0; with the heads side by side it would go to token 4
            [0, 1, 0, 1],  # mean (0, 1), to token 4
            [0, 1, 0, 1],
            [0, 2, 1, 2],  # mean (0.5, 2), to token 4
            [9, 9, 9, 9],
            [20, 10, 20, 10],  # mean (20, 10), to token 0
        ],
    )
    method = VisionZip(contextual=0.5)
    kept = method.select(tokens, 4)
    # Dominant: 1 and 6. Of the others 0 2 3 4 5 7, every third one is a target: 0 and 4.
    assert kept.tolist() == [0, 1, 4, 6]
    assert method.merge(tokens, kept)[:, 0].tolist() == [1 + (3 + 8) / 2, 2, 5 + (4 + 6) / 2, 7]


def test_vision_zip_shares_as_published():
    tokens = make(torch.ones(576, 1), attention=torch.arange(576) / 576)
    for count, dominant in ((64, 54), (128, 108), (192, 162), (6, 5)):
        assert len(VisionZip()._dominant(tokens, count)) == dominant


PRU_ATTENTION = [0.01, 0.02, 0.30, 0.04, 0.05, 0.06, 0.07, 0.08]


def test_prumerge_plus_by_hand(monkeypatch):
    monkeypatch.setattr(prumerge, "_NEIGHBOURS", 1)
    keys = at_angles(0, 10, 90, 95, 180, 200, 185, 270, lengths=[1, 1, 1, 100.0, 1, 1, 1, 1])
    tokens = make(
        [[1.0], [2.0], [3.0], [4.0], [5.0], [6.0], [7.0], [8.0]],
        single_head=PRU_ATTENTION,
        keys=keys,
    )
    kept = PruMergePlus().select(tokens, 5)
    # One of four by attention: 2. Of the others 0 1 3 4 5 6 7, three evenly: 1, 4, 6. The last of
    # what is left, 7, carries the rest.
    assert kept.tolist() == [1, 2, 4, 6, 7]
    # Nearest by key, kept or not: 1 to 0, 2 to 3, 4 to 6, 6 to 4. Not kept as themselves: 0, 3, 5,
    # 7.
    expected = [
        2 + 0.01 * 1,
        3 + 0.04 * 4,
        5 + 0.07 * 7,
        7 + 0.05 * 5,
        0.01 * 1 + 0.04 * 4 + 0.06 * 6 + 0.08 * 8,
    ]
    assert PruMergePlus().merge(tokens, kept)[:, 0].tolist() == pytest.approx(expected)


def test_prumerge_plus_fuses_thirty_two_neighbours():
    keys = at_angles(*range(40))
    tokens = make(torch.ones(40, 1), single_head=[0.001] * 39 + [0.002], keys=keys)
    kept = PruMergePlus().select(tokens, 2)
    assert kept.tolist() == [38, 39], "the top one, and the last of the others for the rest"
    merged = PruMergePlus().merge(tokens, kept)
    assert merged[:, 0].tolist() == pytest.approx([39 * 0.001, 1 + 32 * 0.001])


def test_prumerge_plus_budget_is_the_published_adaptive_share():
    # Quartiles 0.035 and 0.0725, so outliers lie above 0.0725 + 1.5 * 0.0375 = 0.12875: one of
    # eight.
    share = PruMergePlus().budget(make(torch.ones(8, 1), single_head=PRU_ATTENTION))
    assert share == pytest.approx(1 / 8 + 3 / 8 * 7 / 8 + 1 / 8)
    assert PruMergePlus().budget(make(torch.ones(8, 1), single_head=[0.1] * 8)) == pytest.approx(
        1 / 8
    ), "no outlier: one token"


def test_vis_pruner_by_hand(monkeypatch):
    monkeypatch.setattr(vis_pruner, "_AT_A_TIME", 1)
    attention = [0.5, 0.4, 0.3, 0.9, 0.2, 0.8, 0.1]
    tokens = make(
        torch.ones(7, 1), attention=attention, states=at_angles(0, 30, 100, 0, 110, 0, 200)
    )
    # Important: 3 and 5. The rest is 0 1 2 4 6. Even places 0 2 6 are 30, 10 and 90 degrees from
    # the nearest odd one: 2 goes, and what is left is 0 6 | 1 4. Even places 0 1 are 110 and 80
    # degrees from the nearest: 1 goes, 0 | 6 4 is left. Then 0 and 4 are 160 and 90 from 6: 4 goes.
    assert VisPruner().select(tokens, 4).tolist() == [0, 3, 5, 6]


def test_vis_pruner_removes_eight_at_a_time():
    pairs = torch.eye(8).repeat_interleave(2, 0)
    tokens = make(torch.ones(16, 1), attention=torch.arange(16, 0, -1), states=pairs)
    assert VisPruner(important=0).select(tokens, 8).tolist() == list(range(1, 16, 2)), (
        "every even place in one round"
    )


def test_div_prune_by_hand():
    tokens = make(at_angles(0, 10, 50, 180, 200, lengths=[1, 7, 1, 1, 3.0]))
    # Nearest neighbours are 10, 10, 40, 20 and 20 degrees away: 2 is first. Farthest from it is 4
    # (150), then 0 (50 from 2).
    assert DivPrune().select(tokens, 1).tolist() == [2]
    assert DivPrune().select(tokens, 2).tolist() == [2, 4]
    assert DivPrune().select(tokens, 3).tolist() == [0, 2, 4]


def test_div_prune_finds_nearest_neighbours_block_by_block():
    unit = torch.nn.functional.normalize(torch.randn(1100, 16), dim=1)
    assert torch.allclose(nearest_other(unit), (unit @ unit.T).fill_diagonal_(-2).amax(1))


def test_cd_pruner_by_hand():
    vision = [[1.0, 0, 0], [0.96, 0.28, 0], [0.48, 0.64, 0.6], [0, 0, 1], [1, 0, 0]]
    # Importance 1, 0.9, 0.5, 0.2, 0.
    tokens = make(vision, states=[[-0.2], [-0.18], [-0.1], [-0.04], [0.0]])
    # 0 first, rho^2 = 1. What it leaves of the others: 0.0784, 0.7696, 1, 0; times rho^2: 0.064,
    # 0.192, 0.04, 0: token 2. What is new in token 2 is (0, 0.64, 0.6) / 0.8773. That leaves 0.0784
    # - 0.2043^2 = 0.0367 of token 1 and 1 - 0.6839^2 = 0.532 of token 3; times rho^2: 0.030 and
    # 0.021: token 1.
    assert CDPruner("clip").select(tokens, 2).tolist() == [0, 2]
    assert CDPruner("clip").select(tokens, 3).tolist() == [0, 1, 2]
    # The other sign: importance 0, 0.1, 0.5, 0.8, 1; 4 first, which leaves all of token 3.
    assert CDPruner("clip", sign=1).select(tokens, 2).tolist() == [3, 4]


def test_cd_pruner_takes_what_raises_the_determinant_most():
    vision, states = torch.randn(12, 8), torch.rand(12, 1)
    importance = (states.max() - states) / (states.max() - states.min())
    unit = torch.nn.functional.normalize(vision, dim=1)
    kernel, taken = (importance * (unit @ unit.T) * importance.T).double(), []
    for _ in range(6):
        taken.append(
            max(
                set(range(12)) - set(taken),
                key=lambda one: float(kernel[[*taken, one]][:, [*taken, one]].det()),
            )
        )
    assert CDPruner("clip").select(make(vision, states=states), 6).tolist() == sorted(taken)


def test_equal_relevance_and_equal_scores_leave_diversity():
    tokens = make(at_angles(0, 0, 90), states=[[0.2]] * 3)
    assert CDPruner("clip").select(tokens, 2).tolist() == [0, 2]
    assert IDPruner(Scores([0.2] * 3)).select(tokens, 2).tolist() == [0, 2]


# Of matrix products in fp32, and where torch is allowed TF32.
@pytest.mark.parametrize("rounding", [0, 1e-3])
def test_cd_pruner_beyond_the_rank_goes_by_dense_attention(rounding, monkeypatch):
    monkeypatch.setattr(cd_pruner, "unit_rows", lambda rows: (1 + rounding) * unit_rows(rows))
    tokens = make(torch.ones(6, 1), states=[[0.5], [-0.3], [0.2], [-0.9], [0.1], [0.7]])
    assert CDPruner("clip").select(tokens, 3).tolist() == [1, 3, 4]


def test_scope_by_hand():
    states = [
        [1.0, 0],
        [0.6, 0.8],
        [0, 1],
        [-1, 0],
    ]  # cosines: 01 0.6, 02 0, 03 -1, 12 0.8, 13 -0.6, 23 0
    tokens = make(torch.ones(4, 1), attention=[0.4, 0.2, 0.3, 0.1], states=states)
    # Coverage 1.6, 2.4, 1.8, 1; times attention 0.64, 0.48, 0.54, 0.1: token 0. Then 1.2 * 0.2, 1.2
    # * 0.3 and 1 * 0.1: token 2.
    assert SCOPE().select(tokens, 1).tolist() == [0]
    assert SCOPE().select(tokens, 2).tolist() == [0, 2]
    # Coverage alone: token 1 first; then 0.4, 0.2 and 1: token 3; then 0.4 and 0.2: token 0.
    assert SCOPE(alpha=0).select(tokens, 2).tolist() == [1, 3]
    assert SCOPE(alpha=0).select(tokens, 3).tolist() == [0, 1, 3]


def test_scope_takes_what_plain_greedy_takes():
    states, attention = torch.randn(200, 8), torch.rand(200)
    unit = torch.nn.functional.normalize(states, dim=1)
    cosine, covered, taken = unit @ unit.T, torch.zeros(200), []
    for _ in range(90):
        gain = (cosine - covered[:, None]).clamp_min(0).sum(0) * attention
        gain[taken] = -1
        taken.append(int(gain.argmax()))
        covered = covered.maximum(cosine[taken[-1]])
    assert SCOPE().select(make(states, attention=attention, states=states), 90).tolist() == sorted(
        taken
    )


def test_holov_by_hand(monkeypatch):
    monkeypatch.setattr(holov, "_GROUPS", 2)
    vision = [[1.0, 0]] * 6 + [[0, 1]] * 2
    attention = [0.1, 0.2, 0.3, 0.1, 0.05, 0.05, 0.1, 0.1]
    tokens = make(vision, attention=attention)
    # Mean attention 0.175 and 0.075, of all 0.125. Each token of the second group has cosines 1, 0,
    # 0: variance 2/9, of all 1/9. So the groups score 0.175 and 0.075 + beta * 0.125 / (1/9) * 2/9
    # = 0.075 + beta / 4. beta 0.09: shares 0.64 and 0.36; of four 2.6 and 1.4, the one left over to
    # the first group.
    assert HoloV().select(tokens, 4).tolist() == [0, 1, 2, 6]
    # beta 1: shares 0.35 and 0.65; of four 1.4 and 2.6, the one left over to the second group.
    assert HoloV(beta=1).select(tokens, 4).tolist() == [2, 4, 6, 7]
    # Attention a hundred times smaller changes nothing.
    assert HoloV().select(make(vision, attention=torch.tensor(attention) / 100), 4).tolist() == [
        0,
        1,
        2,
        6,
    ]
    # beta 0: shares 0.7 and 0.3; of seven 4.9 and 2.1, and the first group has but four.
    assert HoloV(beta=0).select(tokens, 7).tolist() == [0, 1, 2, 3, 4, 6, 7]


def test_holov_leaves_a_tokens_own_cosine_out(monkeypatch):
    monkeypatch.setattr(holov, "_GROUPS", 2)
    # All cosines with others 1, all 0: no variance, shares 0.7 and 0.3.
    vision = torch.eye(4)[[0, 0, 0, 0, 0, 1, 2, 3]]
    tokens = make(vision, attention=[0.1, 0.2, 0.3, 0.1, 0.05, 0.05, 0.1, 0.1])
    assert HoloV(beta=1).select(tokens, 4).tolist() == [0, 1, 2, 6]


def test_holov_has_sixteen_groups():
    tokens = make(torch.ones(32, 1), attention=[0.1, 0.1] + [0.01] * 30)
    # Of six, 0.1 / 0.25 * 6 = 2.4 for the first group, which is full with two, and 0.24 for each
    # other: one each for the next four.
    assert HoloV().select(tokens, 6).tolist() == [0, 1, 2, 4, 6, 8]


def test_id_pruner_by_hand():
    tokens = make(at_angles(0, 0, 90, 180, lengths=[0.01, 2, 1, 5]))
    base = Scores([10.0, 9, 5, 0])  # importance 1, 0.9, 0.5, 0
    # 0 first. Then 0.45 - 0.5, 0.25 - 0 and 0 + 0.5: token 3. Then 0.45 - 0.5 and 0.25 - 0: token
    # 2.
    assert IDPruner(base).select(tokens, 2).tolist() == [0, 3]
    assert IDPruner(base).select(tokens, 3).tolist() == [0, 2, 3]
    assert IDPruner(base, trade=1.0).select(tokens, 2).tolist() == [0, 1]


def test_id_pruner_follows_its_base():
    base = Scores()
    base.layer = 3
    method = IDPruner(base)
    method.begin(["a sample"])
    assert (
        method.reads_tower,
        method.layer,
        method.budget(make(torch.ones(1, 1))),
        base.heard,
    ) == (True, 3, 0.3, ["a sample"])
    assert not IDPruner(DivPrune()).reads_tower


def test_non_blank_by_hand():
    ink = torch.zeros(16)
    ink[5], ink[6] = 0.3, 0.2
    tokens = make(torch.ones(16, 1), ink=ink)
    assert NonBlank().select(tokens, 1).tolist() == [5]
    # Blank cells along the Z order: 0 1 4 2 3 7 8 9 12 13 10 11 14 15; two evenly: 2 and 10.
    assert NonBlank().select(tokens, 4).tolist() == [2, 5, 6, 10]


@pytest.mark.parametrize(
    "build,message",
    [
        (lambda: VisionZip(contextual=1.5), "contextual: 1.5"),
        (lambda: VisPruner(important=1.0), "important: 1.0"),
        (lambda: CDPruner("clip", sign=0.5), "sign: 0.5"),
        (lambda: IDPruner(Scores(), trade=-1), "trade: -1"),
    ],
)
def test_settings_out_of_range_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


METHODS = {
    "vision_zip": VisionZip,
    "prumerge_plus": PruMergePlus,
    "vis_pruner": VisPruner,
    "div_prune": DivPrune,
    "cd_pruner": lambda: CDPruner("clip"),
    "scope": SCOPE,
    "holov": HoloV,
    "id_pruner": lambda: IDPruner(Scores()),
    "non_blank": NonBlank,
}


def drawn(count, dtype=torch.float, width=8):
    """Random tokens; two of three are copies, so that there are ties."""
    generator = torch.Generator().manual_seed(count)
    same = torch.arange(count) // 3 if count % 2 else torch.arange(count)

    def numbers(columns):
        return torch.randn(count, columns, generator=generator)[same].to(dtype)

    attention = torch.rand(count, generator=generator)[same]
    return make(
        numbers(width),
        attention,
        numbers(width),
        2,
        numbers(width),
        numbers(1).relu(),
        attention,
        columns=8,
    )


@pytest.mark.parametrize("dtype", [torch.float, torch.bfloat16])
@pytest.mark.parametrize("name", METHODS)
def test_exactly_what_was_asked_for(name, dtype):
    for total in (1, 2, 5, 16, 75, 130):
        tokens = drawn(total, dtype)
        for count in sorted({1, min(2, total), (total + 2) // 3, max(1, total - 1), total}):
            method = METHODS[name]()
            kept = method.select(tokens, count)
            assert kept.dtype == torch.long and len(kept) == count
            assert torch.equal(kept, kept.unique()) and kept[0] >= 0 and kept[-1] < total, (
                "ascending, no repeats"
            )
            merged = method.merge(tokens, kept)
            assert (
                merged.shape == (count, 8)
                and merged.dtype == dtype
                and bool(merged.isfinite().all())
            )
            assert torch.equal(METHODS[name]().select(tokens, count), kept), "deterministic"
            assert torch.equal(METHODS[name]().merge(tokens, kept), merged)
        assert torch.equal(merged, tokens.vision), "all kept: nothing is changed"


@pytest.mark.parametrize("name", METHODS)
def test_tokens_all_alike(name):
    alike = make(
        torch.ones(20, 4),
        torch.full((20,), 0.05),
        torch.ones(20, 4),
        2,
        torch.ones(20, 4),
        torch.zeros(20),
        torch.ones(20),
    )
    assert len(METHODS[name]().select(alike, 7).unique()) == 7


@pytest.mark.parametrize("name", METHODS)
def test_watches_the_tower_where_it_reads_it(name):
    tokens, asked = drawn(9), []
    tower = tokens.tower
    tokens.tower = lambda: asked.append(True) or tower()
    method = METHODS[name]()
    method.merge(tokens, method.select(tokens, 3))
    assert method.reads_tower == bool(asked)


class Largest(TorchDispatchMode):
    """The size of the largest tensor that any operation gives."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for one in out if isinstance(out, list | tuple) else [out]:
            if isinstance(one, torch.Tensor):
                self.elements = max(self.elements, one.numel())
        return out


@pytest.mark.parametrize("name", METHODS)
def test_memory_is_linear_in_the_number_of_tokens(name):
    total, tokens = 8192, drawn(8192, width=64)
    # VisPruner takes a round per eight tokens dropped; its first rounds are the largest.
    method, count = (
        (VisPruner(important=0), total - 16) if name == "vis_pruner" else (METHODS[name](), 512)
    )
    with Largest() as largest:
        method.merge(tokens, method.select(tokens, count))
    assert largest.elements <= total * 1024
