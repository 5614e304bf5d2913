"""The Pareto picture: names below it, ours on top, tokens on its axis."""

from __future__ import annotations

from dataclasses import fields

import pytest
from PIL import Image

from asymvlm.evaluation.report.pareto import pareto_figure, pareto_picture
from asymvlm.evaluation.report.results import Row

# By name: accuracy at keep 1 / 4 and 1 / 16.
ACCURACY = {
    "random": (0.3, 0.1),
    "learned": (0.8, 0.7),
    "grid": (0.4, 0.2),
    "oracle": (0.9, 0.9),
    "first $x$": (0.8, 0.7),
    "second": (0.7, 0.6),
    "third": (0.6, 0.5),
}


def rows():
    blank = {field.name: 0.0 for field in fields(Row)}
    found = []
    for task in ("part", "whole"):
        for name, scores in ACCURACY.items():
            runs = [(0.25, scores[0], 0.25), (0.0625, scores[1], 0.0625)]
            runs += [("auto", 0.75, 0.125)] if name == "learned" else []
            for keep, accuracy, share in runs:
                about = {"method": name, "keep_requested": keep, "task": task, "group": task}
                about |= {"accuracy": accuracy, "dense_accuracy": 0.95, "layer_average": share}
                found.append(Row(**{**blank, **about, "kind": None}))
    return found


@pytest.fixture(scope="module")
def figure():
    figure = pareto_figure(rows(), "exact_match", 256)
    figure.draw_without_rendering()
    return figure


def lines_of(panel):
    return [line for line in panel.get_lines() if len(line.get_xdata()) > 1]


def test_names_stand_below_and_ours_first(figure):
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "learned",
        "first $x$",
        "second",
        "third",
        "dense model",
        "other methods",
        "keep per question",
        "oracles",
    ]
    assert legend.get_texts()[0].get_fontweight() == "bold"
    assert not any(text.get_parse_math() for text in legend.get_texts())


def test_ours_is_drawn_on_top_and_the_rest_is_grey(figure):
    for panel in figure.axes:
        drawn = {line.get_color(): line.get_zorder() for line in lines_of(panel)}
        assert max(drawn, key=drawn.get) == "#d62728"
        assert len(drawn) == 6, "four in colour, grey, and the dense model's black"


def test_everything_is_inside_and_large_enough(figure):
    assert figure.get_figwidth() * 100 == pytest.approx(880), "README's width"
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0
    assert all(box.y1 <= panel.get_tightbbox().y0 + 1 for panel in figure.axes)
    assert min(text.get_fontsize() for text in legend.get_texts()) >= 10


def test_the_axis_is_marked_in_tokens(figure):
    panel = figure.axes[0]
    assert [text.get_text() for text in panel.get_xticklabels()] == ["16", "32", "64"]
    line = next(line for line in lines_of(panel) if line.get_color() == "#d62728")
    assert list(line.get_xdata()) == [16, 64] and list(line.get_ydata()) == [70, 80]


def test_the_file_is_twice_as_wide_as_it_is_shown(tmp_path):
    pareto_picture(rows(), tmp_path / "pareto.png", "exact_match", 256)
    with Image.open(tmp_path / "pareto.png") as image:
        assert image.size[0] == 1760
