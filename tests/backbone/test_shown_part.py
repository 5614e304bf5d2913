"""Boxes stay on the ink where a processor crops a page or pads it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from transformers import CLIPImageProcessor, LlavaImageProcessor

from asymvlm.backbone.shown_part import shown_part
from asymvlm.documents.cells import token_shares

CELLS = 8
PLAIN = {"do_normalize": False, "do_rescale": True}
PROCESSORS = {
    "whole": CLIPImageProcessor(size={"height": 64, "width": 64}, do_center_crop=False, **PLAIN),
    "crop": CLIPImageProcessor(
        size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}, **PLAIN
    ),
    "small crop": CLIPImageProcessor(
        size={"shortest_edge": 96}, crop_size={"height": 64, "width": 64}, **PLAIN
    ),
    "padded": LlavaImageProcessor(
        do_pad=True, size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}, **PLAIN
    ),
}


@pytest.mark.parametrize("size", [(320, 200), (200, 320), (256, 256)])
@pytest.mark.parametrize("name", PROCESSORS)
def test_shares_are_where_the_ink_is(name, size):
    processor = PROCESSORS[name]
    page = Image.new("RGB", size, "white")
    box = (0.3 * size[0], 0.2 * size[1], 0.55 * size[0], 0.7 * size[1])
    ImageDraw.Draw(page).rectangle([*box[:2], box[2] - 1, box[3] - 1], fill="red")
    pixels = processor(page, return_tensors="np")["pixel_values"][0]
    # Red alone tells the box from paper, and from padding, which is a mean that is hardly red.
    ink = np.clip((pixels[0] - pixels[1] - 0.05) / 0.95, 0, 1)
    drawn = ink.reshape(CELLS, 8, CELLS, 8).mean((1, 3)).flatten()
    cells = torch.arange(CELLS * CELLS)
    grid = torch.stack([torch.zeros_like(cells), cells // CELLS, cells % CELLS], dim=1)
    sample = SimpleNamespace(image=page, images=[page])
    shares = token_shares(sample, [box], grid, shown_part(processor, size)).numpy()
    assert drawn.sum() > 4
    np.testing.assert_allclose(shares, drawn, atol=0.13)
    assert abs(shares.sum() - drawn.sum()) < 0.03 * drawn.sum()


def test_a_processor_of_another_kind_shows_the_whole():
    assert shown_part(None, (30, 20)) == (0, 0, 30, 20)
    assert shown_part(SimpleNamespace(do_pad=True, do_center_crop=None), (30, 20)) == (0, 0, 30, 20)
