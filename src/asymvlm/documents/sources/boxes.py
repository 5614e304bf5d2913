"""Boxes of a record: pixels of the page as it is shown, whatever form they are given in."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..picture import Box, PictureHead

FORMS = ("xyxy", "xywh", "relative")
_KEYS = ("evidence_boxes", "key_boxes")
_OVERHANG = 0.01  # of the page's side: readers of text draw boxes a little over the edge


def checked_boxes(record: dict[str, Any], head: Callable[[], PictureHead]) -> dict[str, Any]:
    """Convert `evidence_boxes`, `key_boxes` and `alt_evidence` of a record.

    `boxes` says what they are: "xyxy" (pixels of the stored picture, the default), "xywh" (with
    width and height), "relative" (x0, y0, x1, y1 as shares of the page). `head` is asked for where
    there is any box.

    Raises ValueError, in words, for anything else.
    """
    none: dict[str, Any] = {key: [] for key in (*_KEYS, "alt_evidence")}
    if "boxes" not in record and all(record.get(key) in (None, []) for key in none):
        return none
    form = record.get("boxes") or "xyxy"
    if form not in FORMS:
        raise ValueError(f"boxes is {form!r}, not one of {', '.join(FORMS)}")
    groups = [_list(record, key) for key in _KEYS]
    alternatives = _list(record, "alt_evidence")
    named = [*zip(_KEYS, groups, strict=True), *(("alt_evidence", group) for group in alternatives)]
    every = [_four(key, box) for key, group in named for box in _members(key, group)]
    if not every:
        return none
    if form == "xyxy" and all(value <= 1 for box in every for value in box):
        raise ValueError("boxes lie in [0, 1]; if they are shares of the page say boxes: relative")
    page = head()
    boxes = [[list(_on_page(key, box, form, page)) for box in group] for key, group in named]
    return {_KEYS[0]: boxes[0], _KEYS[1]: boxes[1], "alt_evidence": boxes[2:]}


def _list(record: dict[str, Any], key: str) -> list[Any]:
    value = record.get(key)
    return _members(key, [] if value is None else value)


def _members(key: str, value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{key} must be a list of boxes, not {type(value).__name__}")
    return list(value)


def _four(key: str, box: Any) -> Box:
    numbers = isinstance(box, list | tuple) and len(box) == 4
    if not numbers or not all(_is_number(value) for value in box):
        raise ValueError(f"{key} must hold boxes of four numbers, not {str(box)[:60]}")
    return box[0], box[1], box[2], box[3]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _on_page(key: str, box: Box, form: str, page: PictureHead) -> Box:
    width, height = page.stored_size
    x0, y0, x1, y1 = box
    if form == "xywh":
        x1, y1 = x0 + x1, y0 + y1
    elif form == "relative":
        x0, y0, x1, y1 = x0 * width, y0 * height, x1 * width, y1 * height
    if not (x0 < x1 and y0 < y1):
        hint = "; for x, y, width, height say boxes: xywh" if form == "xyxy" else ""
        raise ValueError(f"{key} must hold boxes with x0 < x1 and y0 < y1, not {list(box)}{hint}")
    over = _OVERHANG * width, _OVERHANG * height
    if x0 < -over[0] or y0 < -over[1] or x1 > width + over[0] or y1 > height + over[1]:
        raise ValueError(f"{key}: box {list(box)} lies outside of the page of {width} x {height}")
    return page.shown((max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)))
