"""Any directory: either all agree that it is valid, and it scores, or all say the same one line."""

from __future__ import annotations

import os
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.scorer_files import (
    SIZES,
    WIDTH,
    directories,
    spoilt_config,
    spoilt_tensors,
    whole,
    written,
)

import asymvlm
from asymvlm.check import main as check
from asymvlm.errors import DataError
from asymvlm.export import export_checkpoint
from asymvlm.scorers import TokenBatch

EXAMPLES = int(os.environ.get("ASYMVLM_EXAMPLES", "120"))
ANY = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="ASYMVLM_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def checked(directory):
    """Exit code and what was said on stderr."""
    errors = StringIO()
    with redirect_stderr(errors), redirect_stdout(StringIO()):
        code = check([str(directory)])
    return code, errors.getvalue()


def batch(seed, size=3.0):
    """Two samples of random rows with pictures on maps and off them, one without text."""
    draw = torch.Generator().manual_seed(seed)
    vision, text = (
        torch.randn(2, 5, WIDTH, generator=draw),
        torch.randn(2, 3, WIDTH, generator=draw),
    )
    grid = torch.randint(-1, 3, (2, 5, 3), generator=draw)
    grid[..., 0] = grid[..., 0].clamp_min(0)
    seen = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    read = torch.tensor([[True, True, False], [False] * 3])
    return TokenBatch(size * vision, seen, size * text, read, grid)


def check_scores(trained, seed=0):
    inputs = batch(seed)
    with torch.no_grad():
        scores, keep = trained(inputs)
    assert scores.shape == (2, 5) and bool(scores[inputs.vision_mask].isfinite().all())
    assert keep is None or bool(((keep >= 0) & (keep <= 1)).all())
    trained.text_mask(torch.tensor([[0, 1, 3]]))


@ANY
@given(files=directories(), seed=st.integers(0, 9))
def test_valid_means_it_scores_and_invalid_one_line_everywhere(files, seed, place):
    directory = written(files, place / "scorer")
    code, said = checked(directory)
    if code == 0:
        assert said == ""
        check_scores(asymvlm.load_scorer(directory), seed)
        return
    assert code == 1 and len(said.splitlines()) == 1 and len(said) < 800
    with pytest.raises(DataError) as error:
        asymvlm.load_scorer(directory)
    assert f"{error.value}\n" == said


@st.composite
def checkpoints(draw):
    """What a training checkpoint holds of a scorer, perhaps spoilt."""
    files = whole(draw(st.sampled_from(sorted(SIZES))), draw(st.booleans()))
    config, tensors = files["config.json"], files["model.safetensors"]
    if draw(st.booleans()):
        config = draw(spoilt_config(config))
    if draw(st.booleans()):
        tensors = draw(spoilt_tensors(tensors))
    state = {name.replace("budget.", "budget_head."): one for name, one in tensors.items()}
    return {"asymvlm": {"config": config}, "state_dict": state}


@ANY
@given(stored=checkpoints())
def test_an_export_is_valid_or_refused_in_one_line(stored, place):
    torch.save(stored, place / "last.ckpt")
    written({}, place / "scorer")
    try:
        export_checkpoint(place / "last.ckpt", place / "scorer")
    except DataError as fault:
        assert len(str(fault).splitlines()) == 1 and len(str(fault)) < 800
        assert not list((place / "scorer").iterdir())
        return
    assert checked(place / "scorer") == (0, "")
    check_scores(asymvlm.load_scorer(place / "scorer"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("any")
