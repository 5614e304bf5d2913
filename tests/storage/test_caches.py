"""Files of answers and cached data sets, under their keys."""

from __future__ import annotations

import json

import datasets
import pytest

from asymvlm.errors import DataError
from asymvlm.evaluation.answers import Answer
from asymvlm.evaluation.run_log import RunLog
from asymvlm.storage.cached_dataset import build_once

ONE, OTHER = {"pages": "a", "method": {"power": 1}}, {"pages": "a", "method": {"power": 2}}


def answered(key, text):
    return Answer("the document's id", text, 4, [4], 2, None, 1, key)


def test_equal_ids_have_answers_of_their_own(tmp_path):
    log = RunLog(tmp_path, "grid", ONE)
    log.add([answered("0.0", "one"), answered("0.1", "two"), answered("1.0", "three")])
    again = RunLog(tmp_path, "grid", ONE)
    assert {key: one.text for key, one in again.answers.items()} == {
        "0.0": "one",
        "0.1": "two",
        "1.0": "three",
    }
    with pytest.raises(ValueError, match="no key"):
        again.add([answered("", "nobody's")])


def test_another_run_of_the_same_name_says_what_differs_and_destroys_nothing(tmp_path, capsys):
    first = RunLog(tmp_path, "grid", ONE)
    first.add([answered("0.0", "one")])
    before = first.path.read_bytes()
    other = RunLog(tmp_path, "grid", OTHER)
    assert other.answers == {} and other.path != first.path and first.path.read_bytes() == before
    assert (
        f"grid: answered anew, unlike {first.path.name} in method.power: 1 -> 2"
        in capsys.readouterr().out
    )
    assert json.loads(before.splitlines()[0]) == ONE


def test_names_that_look_alike_as_files_are_kept_apart(tmp_path):
    logs = [RunLog(tmp_path, name, {"method": name}) for name in ("a/b", "a b", "a_b")]
    assert len({log.path for log in logs}) == 3


@pytest.mark.parametrize(
    "spoil,says",
    [
        (lambda text: "no json\n" + text, "is damaged"),
        (lambda text: text.replace('"text"', '"word"', 1), "is damaged"),
        (lambda text: text.split("\n")[0] + "\n{torn\n" + text.split("\n")[2] + "\n", "is damaged"),
    ],
)
def test_a_damaged_log_is_named_and_stays(tmp_path, spoil, says):
    log = RunLog(tmp_path, "grid", ONE)
    log.add([answered("0.0", "one"), answered("0.1", "two")])
    log.path.write_text(spoil(log.path.read_text()))
    before = log.path.read_bytes()
    with pytest.raises(DataError, match=f"{log.path.name} {says}"):
        RunLog(tmp_path, "grid", ONE)
    assert log.path.read_bytes() == before


def rows(numbers):
    yield from ({"number": number} for number in numbers)


def test_a_cache_keeps_what_made_it_and_says_what_differs(tmp_path, capsys):
    build_once(tmp_path / "train-1", rows, {"numbers": [1]}, {"teacher": {"size": 1}})
    assert json.loads((tmp_path / "train-1/about.json").read_text()) == {"teacher": {"size": 1}}
    assert capsys.readouterr().out == ""
    build_once(tmp_path / "train-2", rows, {"numbers": [2]}, {"teacher": {"size": 2}})
    assert "made anew, unlike train-1 in teacher.size: 1 -> 2" in capsys.readouterr().out
    assert build_once(tmp_path / "train-1", rows, {"numbers": [9]}, {"teacher": {"size": 1}})[
        "number"
    ] == [1]


def test_a_damaged_cache_is_one_line_that_names_it(tmp_path):
    build_once(tmp_path / "train-1", rows, {"numbers": [1]})
    next((tmp_path / "train-1").glob("*.arrow")).write_bytes(b"x")
    with pytest.raises(DataError, match="train-1 is damaged"):
        build_once(tmp_path / "train-1", rows, {"numbers": [1]})
    assert isinstance(datasets.Dataset.from_list([{"a": 1}]), datasets.Dataset)
