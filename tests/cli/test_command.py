"""What a command says and returns when something goes wrong."""

from __future__ import annotations

import pytest

from asymvlm.cli.command import DATA, USAGE, run_command
from asymvlm.errors import DataError


def wrapped(inner, outer):
    try:
        raise inner
    except Exception as error:
        raise outer from error


@pytest.mark.parametrize(
    "inner,outer,code,says",
    [
        (DataError("these files"), RuntimeError("an error occurred"), DATA, "these files"),
        (DataError("these files"), ValueError("not accepted"), DATA, "these files"),
        (ValueError("rank: 0"), ValueError("not accepted"), USAGE, "rank: 0"),
        (
            OSError(28, "No space left on device", "out/a"),
            OSError("x"),
            DATA,
            "out/a: No space left on device",
        ),
    ],
)
def test_the_first_cause_is_one_line(inner, outer, code, says, capsys):
    assert run_command(lambda arguments: wrapped(inner, outer), []) == code
    assert capsys.readouterr().err == f"error: {says}\n"


@pytest.mark.parametrize("error", [KeyError("a defect"), RuntimeError("another")])
def test_defects_keep_their_traceback(error):
    with pytest.raises(type(error)):
        run_command(lambda arguments: wrapped(ValueError("what came before"), error), [])


def test_a_traceback_can_be_asked_for(monkeypatch):
    monkeypatch.setenv("ASYMVLM_TRACEBACK", "1")
    with pytest.raises(RuntimeError):
        run_command(
            lambda arguments: wrapped(DataError("these files"), RuntimeError("an error occurred")),
            [],
        )
