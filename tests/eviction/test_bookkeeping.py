"""What holds for every policy, whatever it chooses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.entry_rows import Row
from support.eviction_runs import POLICIES

import asymvlm
from asymvlm.eviction.policies.linear import LinearEvictor
from asymvlm.eviction.policies.streaming_llm import StreamingLLM
from asymvlm.eviction.policies.threshold import Threshold


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
        entries, seen = row.layer.entries, row.layer.counts.seen
        for number in range(2):
            held = set(entries.text_position[number][entries.text[number]].tolist())
            assert len(held) == row.layer.counts.held[number] == min(40, seen[number])
            assert held >= {
                *range(policy.sinks),
                *range(max(0, seen[number] - row.budget.recent), seen[number]),
            }
            assert int((entries.valid & ~entries.text)[number].sum()) == (20, 5)[number]
    assert row.layer.counts.seen == [60, 85]


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
    held = [([], []), ([], [])]
    seen = [0, 0]
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
                left = {position for position, _ in row.layer.counts.evicted()[number]}
                assert left == set(range(seen[number])) - {*text, *vision}
                assert row.layer._num_valid[number] == int(valid.sum())


def test_rows_can_be_chosen_anew_and_begun_again():
    """What a row holds, has lost and will lose goes with it."""
    row = Row(StreamingLLM(sinks=1, recent=1), 4).add(["tttttt", "..tttv"])
    layer = row.layer
    layer.batch_select_indices(torch.tensor([1, 0]))
    layer.batch_repeat_interleave(2)
    layer.reorder_cache(torch.tensor([0, 2, 3]))
    assert layer.counts.held == [3, 4, 4] and layer.counts.seen == [3, 6, 6]
    row.mask = row.mask[[1, 0, 0]]
    row.add(["t"] * 3)
    row.add(["t"] * 3)
    assert [[place for place, _ in rows] for rows in layer.counts.evicted()] == [
        [1],
        [1, 2, 3, 4],
        [1, 2, 3, 4],
    ]
    for _ in range(2):
        layer.reset()
        layer.reorder_cache(torch.tensor([0]))
        assert layer.get_seq_length() == 0 and layer.counts.evicted() == []


def test_evictors_are_found_by_name():
    found = asymvlm.evictors()
    assert set(found) == set(POLICIES), "give a new one its row in support.eviction_runs"
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
