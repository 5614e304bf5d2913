"""Words of the data and of configs are text in every table, whatever letters they have."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas
import pytest
import wandb
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from PIL import Image

from asymvlm.cli.progress import track
from asymvlm.documents.sources.source import DataSource
from asymvlm.evaluation.comparison import check_comparisons
from asymvlm.evaluation.evaluate import evaluate
from asymvlm.evaluation.evaluate_eviction import _tasks
from asymvlm.evaluation.questions import tasks_of
from asymvlm.evaluation.report.tables import csv as csv_of
from asymvlm.evaluation.report.tables import escaped, markdown, show, visible
from asymvlm.evaluation.robustness.robustness import RobustnessRow, robustness_picture
from asymvlm.evaluation.run_log import RunLog
from asymvlm.methods.grid import Grid

KINDS = [
    "a/b", "a", "all", "all groups", "mean", "", " ", "a b", "a,b", "x|y", "x\\|y", "x\\", "n\nl",
    "r\rl", "tab\tl", "[red]", "[/]", "<b>", "&amp;", "*x*", "_x_", "`x`", "$x_$", "[x](y)", '"q"',
    '""', "#1", "nan", "None", ":smile:", "Größe", "x" * 300,
]  # fmt: skip


@dataclass
class Asked:
    """What groups are made of."""

    group: str
    kind: str


def cells_of(text):
    """The cells of a Markdown table as people read them."""
    found = MarkdownIt("commonmark").enable("table").parse(text)
    rows, opened = [], False
    for token in found:
        if token.type == "tr_open":
            rows.append([])
        opened = token.type in ("td_open", "th_open") or (opened and token.type == "inline")
        if token.type == "inline" and opened:
            kinds = {child.type for child in token.children}
            assert kinds <= {"text", "text_special"}, f"{token.content} is more than text"
            rows[-1].append("".join(child.content for child in token.children))
    return rows


def test_tasks_are_told_by_group_and_kind_and_have_labels_of_their_own():
    questions = [Asked("a", "b"), Asked("a", "c"), Asked("a/b", "d"), Asked("all", "e")]
    questions += [Asked("a/b (2)", "f"), Asked("a", "b/x"), Asked("a/b", "x"), Asked("", "g")]
    tasks = tasks_of(questions)
    assert [(task.label, task.group, task.kind, task.index) for task in tasks] == [
        ("", "", None, [7]),
        ("a", "a", None, [0, 1, 5]),
        ("a/b", "a/b", None, [2, 6]),
        ("a/b (2)", "a/b (2)", None, [4]),
        ("all", "all", None, [3]),
        ("all groups", None, None, [0, 1, 2, 3, 4, 5, 6, 7]),
        ("a/b (3)", "a", "b", [0]),
        ("a/b/x", "a", "b/x", [5]),
        ("a/c", "a", "c", [1]),
        ("a/b/d", "a/b", "d", [2]),
        ("a/b/x (2)", "a/b", "x", [6]),
    ]


def test_tasks_of_dialogues_have_labels_of_their_own():
    questions = [Asked("all", "x"), Asked("all/x", "x"), Asked("b/c", "y/z"), Asked("b/c", "")]
    assert [(task.label, task.group, task.kind, task.index) for task in _tasks(questions)] == [
        ("all", "all", None, [0]),
        ("all/x", "all/x", None, [1]),
        ("b/c", "b/c", None, [2, 3]),
        ("all groups", None, None, [0, 1, 2, 3]),
        ("all groups/x", None, "x", [0, 1]),
        ("all groups/y/z", None, "y/z", [2]),
        ("all groups/", None, "", [3]),
    ]
    plain = [Asked("text", "hard"), Asked("page", "hard")]
    assert [task.label for task in _tasks(plain)] == ["text", "page", "all", "all/hard"]


def test_markdown_has_every_name_as_text():
    table = pandas.DataFrame({"task": KINDS, "n": [str(n) for n in range(len(KINDS))]})
    rows = cells_of(markdown(table))
    assert rows[0] == ["task", "n"]
    assert rows[1:] == [[visible(kind), str(n)] for n, kind in enumerate(KINDS)]
    assert len({visible(kind) for kind in KINDS}) == len(KINDS)
    assert [visible(kind) for kind in ("plain", "", " ", "n\nl", "Größe")] == [
        "plain", '""', '" "', "n\\nl", "Größe",
    ]  # fmt: skip
    assert escaped("+1.0 [-2.0, 3.0]") == "+1.0 [-2.0, 3.0]"
    assert escaped("oracle_answer_rows") == "oracle_answer_rows"


def test_csv_has_every_name_as_text():
    table = pandas.DataFrame({"task": KINDS, "n": range(len(KINDS))})
    rows = list(csv.reader(io.StringIO(csv_of(table), newline="")))
    assert rows == [["task", "n"], *([kind, str(n)] for n, kind in enumerate(KINDS))]
    plain = pandas.DataFrame({"task": ["a,b", ""], "n": [1, 2]})
    assert csv_of(plain) == 'task,n\n"a,b",1\n,2\n'


def test_the_terminal_has_every_name_as_text(capsys):
    show("[red]title[/]", pandas.DataFrame({"task": KINDS, "n": ["1"] * len(KINDS)}), width=400)
    out = capsys.readouterr().out
    assert "[red]title[/]" in out
    assert all(visible(kind) in out for kind in KINDS)
    show("narrow", pandas.DataFrame({"task": ["y" * 300], "n": ["1"]}), width=80)
    assert capsys.readouterr().out.count("y") == 300


def test_progress_has_every_name_as_text(capsys):
    for title in ("[red]x[/red]", "[/]"):
        with track(title, 1) as advance:
            advance(1)
        assert title in capsys.readouterr().out


def test_a_comparison_takes_names_with_brackets():
    check_comparisons([("a[1]", "b/*")], ["a[1]", "b/c"])
    with pytest.raises(ValueError, match="compare"):
        check_comparisons([("a[2]", "b/*")], ["a[1]", "b/c"])


def test_long_names_of_methods_have_files(tmp_path):
    logs = [RunLog(tmp_path, "ü" * 500, {"keep": keep}) for keep in (1, 2)]
    assert len({log.path for log in logs}) == 2 and all(log.path.exists() for log in logs)


def test_pictures_have_every_name_as_text(tmp_path, monkeypatch):
    labels = []
    original = Figure.savefig
    monkeypatch.setattr(
        Figure,
        "savefig",
        lambda self, *args, **more: (
            labels.extend(text.get_text() for text in self.axes[0].get_legend().get_texts()),
            original(self, *args, **more),
        ),
    )
    names = ["_x", "$x_$", "", "y" * 300]
    rows = [RobustnessRow(name, "jpeg", 0, 1, 1.0, 1.0, "") for name in names]
    robustness_picture(rows, tmp_path / "picture.png", "accuracy, %")
    assert labels == ["_x", "$x_$", '""', "y" * 59 + "…"]


@pytest.fixture(scope="module")
def folder(llava, processor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("names")
    llava.save_pretrained(folder / "teacher")
    processor.save_pretrained(folder / "teacher")
    (folder / "pages/test").mkdir(parents=True)
    lines = []
    for number, kind in enumerate(KINDS):
        pixels = np.random.default_rng(number).integers(0, 255, (56, 56, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"pages/test/{number}.png")
        about = {"question": "What is $x_$?", "answers": ["a"], "kind": kind}
        lines.append(json.dumps({"image": f"{number}.png", **about}))
    (folder / "pages/test/questions.jsonl").write_text("\n".join(lines))
    return folder


def test_every_kind_is_in_every_table(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logged = []
    monkeypatch.setattr(wandb.Table, "__init__", lambda self, **data: logged.append(data))
    monkeypatch.setattr(wandb, "init", lambda **_: _Nothing())
    names = ("[red]$x_$|", "_" + "y" * 300)
    rows = evaluate(
        teacher=str(folder / "teacher"), scorer=None, methods={name: Grid() for name in names},
        keeps=[0.25], data=DataSource(path=str(folder / "pages")), latency_batches=[1],
        output="out", compare=[names], wandb_project="x",
    )  # fmt: skip
    labels = [*sorted(KINDS), "all groups (2)"]
    assert [row.task for row in rows] == labels * 2
    assert [row.n for row in rows] == [*[1] * len(KINDS), len(KINDS)] * 2
    with Path("out/table.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["task"] for row in table] == labels * 2
    assert list(table[0])[-1] == "minus_dense", "columns are as they were"
    whole = [row for row in json.loads(Path("out/results.json").read_text()) if not row["group"]]
    assert [(row["task"], row["group"]) for row in whole] == [
        (label, group) for _ in names for label, group in (("", ""), ("all groups (2)", None))
    ]
    shown = [visible(label) for label in labels]
    text = Path("out/table.md").read_text(encoding="utf-8")
    assert [row[2] for row in cells_of(text)[1:]] == shown * 2
    compared = Path("out/comparison.md").read_text(encoding="utf-8")
    assert [row[3] for row in cells_of(compared)[1:]] == shown
    title, *lines = Path("out/summary.md").read_text(encoding="utf-8").splitlines()
    assert title.split(". Dense")[0].count(" / ") == len(KINDS) - 1
    assert [row[0] for row in cells_of("\n".join(lines))[1:]] == [visible(name) for name in names]
    tex = Path("out/table.tex").read_text(encoding="utf-8").split("\\midrule\n")[1]
    body = tex.split("\\bottomrule")[0].split("\n")[:-1]
    assert len(body) == len(labels) * 2 and all(line.endswith("\\\\") for line in body)
    assert [row[4] for row in logged[0]["data"]] == labels * 2
    assert Path("out/pareto.png").stat().st_size > 500


class _Nothing:
    """A run of wandb that keeps nothing."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def log(self, _):
        return None
