"""Each policy's rule on a few entries, by hand; and what holds for any of them.

Counts, protection, slots.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import asymvlm
from asymvlm.eviction.budget import budget_for
from asymvlm.eviction.cache import EvictingLayer
from asymvlm.eviction.new_tokens import new_tokens
from asymvlm.eviction.policies.h2o import H2O
from asymvlm.eviction.policies.key_norm import KeyNorm
from asymvlm.eviction.policies.linear import LinearEvictor
from asymvlm.eviction.policies.random import Random
from asymvlm.eviction.policies.snap_kv import SnapKV
from asymvlm.eviction.policies.streaming_llm import StreamingLLM
from asymvlm.eviction.policies.threshold import Threshold
from asymvlm.eviction.policies.tova import TOVA


class Row:
    """One layer and one or more rows of a batch, told what its tokens are and what attention they
    pay, without a model.

    Keys are as long as `lengths` says, 1 if it does not; values are the token's position.
    """

    def __init__(self, policy, text_budget, vision_budget=None):
        self.layer, self.policy = EvictingLayer("by hand", 0), policy
        self.budget = budget_for(policy, text_budget, vision_budget)
        self.mask = None

    def add(self, kinds, attention=None, lengths=None):
        """New tokens per row: "t" text, "v" vision, "." padding.

        And attention of the newest rows `[B, q, K]` to the K slots.
        """
        real = torch.tensor([[kind != "." for kind in row] for row in kinds])
        vision = torch.tensor([[kind == "v" for kind in row] for row in kinds])
        self.mask = real.long() if self.mask is None else torch.cat([self.mask, real.long()], dim=1)
        entries = self.layer.entries
        new = new_tokens(
            self.mask,
            vision,
            0 if entries is None else entries.text_position.amax(-1, keepdim=True) + 1,
        )
        keys = torch.zeros(*real.shape, 2)
        keys[..., 1] = 1.0 if lengths is None else torch.tensor(lengths)
        values = new.position[..., None].float()
        self.layer.expect()
        self.layer.update(keys[:, None], values[:, None])
        self.layer.register(
            new,
            self.policy,
            torch.ones(len(kinds), 1, real.shape[1], self.mask.shape[1], dtype=torch.bool),
        )
        if attention is not None:
            self.policy.update(self.layer.entries, torch.tensor(attention))
        self.layer.evict(new, self.policy, self.budget)
        return self

    @property
    def gone(self):
        """Positions that have left the first row, in the order they went."""
        return [position for position, _ in self.layer.ledger.evicted()[0]]


ATTENTION = [0.30, 0.02, 0.20, 0.01, 0.15, 0.12, 0.20]  # mean 1/7, half of it 0.07


@pytest.mark.parametrize(
    ("budget", "leaves"), [(6, [1]), (5, [1, 3]), (4, [1, 3, 5]), (3, [1, 3, 4, 5])]
)
def test_threshold_takes_the_oldest_below_it_then_the_lowest(budget, leaves):
    """Entry 3 has the least, yet 1 is older and below the threshold too.

    Above it, 5 has less than 4. 0 and 6 are protected.
    """
    row = Row(Threshold(threshold=0.5, sinks=1, recent=1), budget).add(["t" * 7], [[ATTENTION]])
    assert row.gone == leaves


def test_threshold_without_one_takes_the_lowest():
    assert Row(Threshold(threshold=0.0, sinks=1, recent=1), 6).add(
        ["t" * 7], [[ATTENTION]]
    ).gone == [3]


def test_threshold_forgets():
    """With a decay of a half, what was looked at one step ago counts half."""
    row = Row(Threshold(threshold=0.0, decay=0.5, sinks=0, recent=1), 3)
    row.add(["ttt"], [[[0.5, 0.3, 0.2]]])
    row.add(["t"], [[[0.1, 0.1, 0.2, 0.6]]])  # 0.35, 0.25, 0.3
    assert row.gone == [1]
    # Slot 1 is entry 4's now: 0.175, 0.15 + 0.1, 0.3 + 0.1
    row.add(["t"], [[[0.0, 0.5, 0.1, 0.1]]])
    assert row.gone == [1, 0]
    torch.testing.assert_close(row.layer.entries.score[0, 1:], torch.tensor([0.5, 0.25, 0.4]))


def test_streaming_llm_keeps_the_first_and_the_newest():
    row = Row(StreamingLLM(sinks=2, recent=1), 4).add(["tttttt"])
    assert row.gone == [2, 3]
    assert row.add(["t"]).gone == [2, 3, 4]


def test_h2o_sums_over_all_rows():
    """The last row alone would let 0 go; together, 1 has least but for 3, the newest.

    Half of the budget is for the newest.
    """
    rows = [[1.0, 0.0, 0.0, 0.0], [0.9, 0.1, 0.0, 0.0], [0.4, 0.2, 0.4, 0.0], [0.0, 0.3, 0.3, 0.4]]
    row = Row(H2O(), 3).add(["tttt"], [rows])
    assert row.gone == [1]
    torch.testing.assert_close(row.layer.entries.score[0], torch.tensor([2.3, 0.7, 0.4]))
    assert (
        budget_for(H2O(), 10, None).recent == 5 and budget_for(H2O(recent=2), 10, None).recent == 2
    )


def test_tova_looks_at_the_last_row_alone():
    rows = [[0.0, 0.5, 0.5, 0.0], [0.3, 0.1, 0.2, 0.4]]
    assert Row(TOVA(), 3).add(["tttt"], [rows]).gone == [1]
    assert Row(TOVA(), 3).add(["tttt"], [rows[::-1]]).gone == [0]


def test_snap_kv_pools_over_five_neighbours():
    """By itself 4 has least, but it has 2 and 6 in reach; 0 has only 2."""
    one = [0.05, 0.1, 0.5, 0.1, 0.0, 0.1, 0.5, 0.1, 0.1, 0.1]
    row = Row(SnapKV(window=2), 9).add(["t" * 10], [[one, one]])
    pooled = torch.nn.functional.pad(torch.tensor(one), (2, 2)).unfold(0, 5, 1).sum(-1)
    assert pooled[:8].argmin() == 0 and row.gone == [0]


def test_snap_kv_window_runs_on():
    """Of a window of two rows, the oldest falls out with each step, and rows of padding push
    nothing out.
    """
    policy = SnapKV(window=2)
    row = Row(policy, 30).add(["ttt"], [[[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]])
    row.add(["t"], [[[0.1, 0.2, 0.3, 0.4]]])
    past = row.layer.entries.attention_window[0]
    torch.testing.assert_close(past, torch.tensor([[0.2, 0.1], [0.3, 0.2], [0.5, 0.3], [0.0, 0.4]]))
    row.add([".t"], [[[0.0] * 6, [0.6, 0.1, 0.1, 0.1, 0.0, 0.1]]])
    torch.testing.assert_close(
        row.layer.entries.attention_window[0, :4],
        torch.tensor([[0.1, 0.6], [0.2, 0.1], [0.3, 0.1], [0.4, 0.1]]),
    )


def test_key_norm_takes_the_longest_key():
    row = Row(KeyNorm(sinks=1, recent=1), 4).add(
        ["tttttt"], lengths=[[9.0, 2.0, 5.0, 1.0, 3.0, 9.0]]
    )
    assert row.gone == [2, 4]
    # As rotary embedding leaves keys of one word.
    tied = [[1.0, 2.0, 2.0 * (1 + 1e-6), 2.0, 1.0, 1.0]]
    assert Row(KeyNorm(sinks=1, recent=1), 5).add(["tttttt"], lengths=tied).gone == [1], (
        "of equals the oldest"
    )


def test_random_depends_on_seed_and_position_alone():
    alone = Row(Random(7, sinks=1, recent=1), 5).add(["t" * 20])
    padded = Row(Random(7, sinks=1, recent=1), 5).add(["." * 4 + "t" * 20, "t" * 24])
    assert alone.gone == padded.gone and len(alone.gone) == 15
    assert Row(Random(8, sinks=1, recent=1), 5).add(["t" * 20]).gone != alone.gone


@pytest.fixture
def line(tmp_path):
    """A learned rule for one layer: the value's own number, but a tenth less."""
    save_file(
        {"weight": torch.ones(1, 1), "bias": torch.full((1,), -0.1)}, tmp_path / "line.safetensors"
    )
    return tmp_path / "line.safetensors"


def test_the_learned_rule_reads_values(line):
    """Values of `Row` are positions: the oldest is worth least.

    Tokens that are written later are read too.
    """
    row = Row(LinearEvictor(line, sinks=1, recent=1), 4).add(["tttttt"])
    assert row.gone == [1, 2] and row.add(["t"]).gone == [1, 2, 3]
    torch.testing.assert_close(
        row.layer.entries.score[0].sort().values[-2:], torch.tensor([4.9, 5.9])
    )


@pytest.mark.parametrize("stored,says", [
    (None, "cannot be read"),
    ({"weight": torch.ones(1, 1)}, "must hold weight"),
    ({"weight": torch.ones(2, 1), "bias": torch.ones(1)}, "must hold weight"),
])  # fmt: skip
def test_a_learned_rule_that_is_none(tmp_path, stored, says):
    path = tmp_path / "line.safetensors"
    if stored is not None:
        save_file(stored, path)
    with pytest.raises(ValueError, match=says):
        LinearEvictor(path)


def test_a_learned_rule_of_another_model_is_refused_at_once(line, llava, teacher, tmp_path):
    says = r"for 1 layers with values of 1 numbers; \w+ has 2 with 40"
    with pytest.raises(ValueError, match=says), asymvlm.evict(llava, LinearEvictor(line)):
        pass
    save_file(
        {"weight": torch.ones(2, 40), "bias": torch.ones(2)},
        tmp_path / "old",
        metadata={"teacher": "model.safetensors:0"},
    )
    # A model without a directory may be any.
    with asymvlm.evict(llava, LinearEvictor(tmp_path / "old")) as report:
        llava(input_ids=torch.tensor([[1, 2, 3]]))
    assert report.calls
    model = type(llava).from_pretrained(teacher)
    with (
        pytest.raises(ValueError, match="fitted to others than those in"),
        asymvlm.evict(model, LinearEvictor(tmp_path / "old")),
    ):
        pass


@pytest.mark.parametrize("kind", sorted(asymvlm.evictors()))
def test_every_policy_protects_and_counts(kind, line):
    """Rows of different lengths with vision between; attention of no particular kind."""
    policy = LinearEvictor(line) if kind == "learned_text" else asymvlm.evictors()[kind]()
    row, generator = Row(policy, 40), torch.Generator().manual_seed(0)
    prompts = ["." * 10 + "t" * 12 + "v" * 20 + "t" * 8, "t" * 24 + "v" * 5 + "t" * 21]
    row.add(prompts, torch.rand(2, min(policy.rows, 50) or 1, 50, generator=generator).tolist())
    for _ in range(40):
        slots = row.layer.keys.shape[-2] + (
            max(row.layer._num_valid) == row.layer.keys.shape[-2] or not row.layer.has_evicted
        )
        row.add(["t", "t"], torch.rand(2, 1, slots, generator=generator).tolist())
        entries, seen = row.layer.entries, row.layer.ledger.seen
        for number in range(2):
            held = set(entries.text_position[number][entries.text[number]].tolist())
            assert len(held) == row.layer.ledger.held[number] == min(40, seen[number])
            assert held >= {
                *range(policy.sinks),
                *range(max(0, seen[number] - row.budget.recent), seen[number]),
            }
            assert int((entries.valid & ~entries.text)[number].sum()) == (20, 5)[number]
    assert row.layer.ledger.seen == [60, 85]


class Given(asymvlm.Evictor):
    """An order that is given, by position."""

    def __init__(self, order, sinks, recent):
        super().__init__(sinks, recent)
        self.given = torch.tensor(order)

    def initial_score(self, new):
        return self.given[new.position % len(self.given)]

    def rank(self, entries):
        return entries.score


TURN = st.text(alphabet="tv", min_size=1, max_size=12)
TALK = st.lists(st.tuples(TURN, TURN, st.integers(0, 8)), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(
    talk=TALK,
    order=st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0]), min_size=7, max_size=7),
    sinks=st.integers(0, 2),
    recent=st.integers(1, 3),
    room=st.integers(1, 8),
    vision_budget=st.none() | st.integers(1, 6),
)
def test_any_conversation_holds_what_lists_of_positions_say(
    talk, order, sinks, recent, room, vision_budget
):
    """Turns of two rows with words and pictures, then some words.

    What is held, where it lies and what has left, against plain lists.
    """
    budget = sinks + recent + room
    row = Row(Given(order, sinks, recent), budget, vision_budget)
    held, seen = (
        [([], []), ([], [])],
        [0, 0],
    )  # per row: positions of text and of vision; and how many tokens there were
    firsts = [[], []]
    for *turns, words in talk:
        width = max(map(len, turns))
        steps = [[turn.rjust(width, ".") for turn in turns], *[["t", "t"]] * words]
        for step in steps:
            row.add(step)
            for number, kinds in enumerate(step):
                text, vision = held[number]
                for kind in kinds.replace(".", ""):
                    (text if kind == "t" else vision).append(seen[number])
                    firsts[number] += [seen[number]] * (kind == "t" and len(firsts[number]) < sinks)
                    seen[number] += 1
                may = [
                    place
                    for place in text
                    if place not in firsts[number] and place not in text[-recent:]
                ]
                for place in sorted(may, key=lambda place: (order[place % 7], place))[
                    : max(0, len(text) - budget)
                ]:
                    text.remove(place)
                over = 0 if vision_budget is None else max(0, len(vision) - vision_budget)
                for place in sorted(vision, key=lambda place: (order[place % 7], place))[:over]:
                    vision.remove(place)
                entries = row.layer.entries
                valid = entries.valid[number]
                assert sorted(entries.position[number][entries.text[number]].tolist()) == text
                assert sorted(entries.position[number][valid].tolist()) == sorted(text + vision)
                assert (
                    row.layer.values[number, 0, valid, 0].tolist()
                    == entries.position[number][valid].tolist()
                ), "slots hold their own"
                left = {position for position, _ in row.layer.ledger.evicted()[number]}
                assert left == set(range(seen[number])) - {*text, *vision}
                assert row.layer._num_valid[number] == int(valid.sum())


def test_rows_can_be_chosen_anew_and_begun_again():
    """What a row holds, has lost and will lose goes with it."""
    row = Row(StreamingLLM(sinks=1, recent=1), 4).add(["tttttt", "..tttv"])
    layer = row.layer
    layer.batch_select_indices(torch.tensor([1, 0]))
    layer.batch_repeat_interleave(2)
    layer.reorder_cache(torch.tensor([0, 2, 3]))
    assert layer.ledger.held == [3, 4, 4] and layer.ledger.seen == [3, 6, 6]
    row.mask = row.mask[[1, 0, 0]]
    row.add(["t"] * 3)
    row.add(["t"] * 3)
    assert [[place for place, _ in rows] for rows in layer.ledger.evicted()] == [
        [1],
        [1, 2, 3, 4],
        [1, 2, 3, 4],
    ]
    for _ in range(2):
        layer.reset()
        layer.reorder_cache(torch.tensor([0]))
        assert layer.get_seq_length() == 0 and layer.ledger.evicted() == []


def test_evictors_are_found_by_name():
    found = asymvlm.evictors()
    assert set(found) == {
        "h2o",
        "key_norm",
        "learned_text",
        "random",
        "snap_kv",
        "streaming_llm",
        "threshold",
        "tova",
    }
    assert all(issubclass(kind, asymvlm.Evictor) for kind in found.values())


def test_bad_numbers_are_refused():
    for bad, match in (
        ({"sinks": -1}, "sinks: -1"),
        ({"recent": 0}, "recent: 0"),
        ({"threshold": -1.0}, "threshold: -1"),
        ({"decay": 1.0}, "decay: 1.0"),
    ):
        with pytest.raises(ValueError, match=match):
            Threshold(**bad)
