"""Which entries go first: by score, equal ones by age, whatever the last bits are."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from asymvlm.eviction.cache import lowest


@given(st.data())
def test_the_lowest_do_not_depend_on_the_last_bit_on_slots_or_on_other_rows(data):
    """Scores of few values, parted by rounding, in any order of slots.

    The lowest value goes first, and of equals the oldest.
    """
    size, count = data.draw(st.integers(2, 12)), data.draw(st.integers(1, 12))
    count = min(size, count)
    values = torch.tensor(
        data.draw(st.lists(st.sampled_from([-2.0, -1e-3, 0.5, 3.0]), min_size=size, max_size=size))
    )
    age = torch.tensor(data.draw(st.permutations(range(size))))
    may = torch.tensor(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    noise = 1 + 2**-22 * torch.tensor(
        data.draw(st.lists(st.floats(-1, 1, width=32), min_size=size, max_size=size))
    )
    slots = lowest((values * noise)[None], may[None], age[None], count)[0].tolist()
    expected = sorted(
        (slot for slot in range(size) if may[slot]),
        key=lambda slot: (float(values[slot]), int(age[slot])),
    )
    leaving = min(count, len(expected))  # behind them stands whatever may not leave
    assert slots[:leaving] == expected[:leaving]
    assert not leaving or lowest((values * noise)[None], may[None], age[None], 1)[0, 0] == slots[0]
    both = lowest(
        torch.stack([values * noise, 1e6 * values.flip(0)]),
        torch.stack([may, may]),
        torch.stack([age, age]),
        count,
    )
    assert both[0].tolist()[:leaving] == slots[:leaving]
