"""What a command says and returns when something goes wrong."""

from __future__ import annotations

import os

import pytest

from asymvlm.cli.command import DATA, USAGE, run_command
from asymvlm.errors import DataError
from asymvlm.evaluation.main import main as evaluate
from asymvlm.training.main import main as train


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


@pytest.mark.parametrize("number", [1, 5, 13, 27, 28, 30, 122])
def test_errors_of_the_disk_are_one_line(number, capsys):
    """From EPERM and EIO to EROFS and EDQUOT, as Linux numbers them."""

    def fails(arguments):
        raise OSError(number, os.strerror(number), "out/a")

    assert run_command(fails, []) == DATA
    assert capsys.readouterr().err == f"error: out/a: {os.strerror(number)}\n"


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


@pytest.mark.parametrize(
    "content,says",
    [
        (None, "mine.yml is no file and no name of the package's configurations; "),
        ("- a", "mine.yml holds ['a'] instead of settings"),
        ("a: [1", "mine.yml is no YAML: while parsing"),
        ("b\x00", "mine.yml is no YAML: unacceptable character"),
        ("nothing_of_ours: 1", "nothing_of_ours"),
    ],
)
@pytest.mark.parametrize("command", [train, evaluate])
def test_a_config_that_cannot_be_read_is_one_line(
    command, content, says, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "mine.yml").write_text(content)
    assert command(["--config", "mine.yml"]) == USAGE
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1
