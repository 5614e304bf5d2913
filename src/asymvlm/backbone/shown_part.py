"""The part of a picture that a processor gives to the tower, where it crops or pads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Part = tuple[float, float, float, float]


def shown_part(image_processor: Any, size: tuple[int, int]) -> Part:
    """Compute x0, y0, x1, y1 of what is shown, in pixels of a picture of (width, height).

    Beyond the picture's edges where it is padded to a square first, as `LlavaImageProcessor` may
    do, or where the crop is larger. The whole picture where a processor has no centre crop.
    """
    width, height = size
    if _is_set(image_processor, "do_pad") and type(image_processor).__name__.startswith(
        "LlavaImageProcessor"
    ):
        width = height = max(size)
    part: tuple[float, float] = width, height
    if _is_set(image_processor, "do_center_crop"):
        crop = _sides(image_processor.crop_size, width, height)
        scaled: tuple[float, float] = width, height
        if _is_set(image_processor, "do_resize"):
            scaled = _sides(image_processor.size, width, height)
        part = crop[0] * width / scaled[0], crop[1] * height / scaled[1]
    left, top = (size[0] - part[0]) / 2, (size[1] - part[1]) / 2
    return left, top, left + part[0], top + part[1]


def _is_set(image_processor: Any, name: str) -> bool:
    return bool(getattr(image_processor, name, False))


def _sides(size: Mapping[str, int] | int, width: float, height: float) -> tuple[float, float]:
    """Find the width and height that a processor's `size` makes of a picture."""
    given = {"width": size, "height": size} if isinstance(size, int) else dict(size)
    if given.get("shortest_edge"):
        scale = given["shortest_edge"] / min(width, height)
        return width * scale, height * scale
    return given["width"], given["height"]
