"""A sheet of paper: background, ink, font, and text runs that know their boxes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..sample import Box

PAGE_SIZE = 224
# Type stands as a typewriter sets it: lines LINE_GRID apart, one character every PITCH pixels,
# whatever its font. A ViT with patches of 14 pixels learns to read such pages in minutes on two
# cores; free type took it ten times as long (docs/log.md).
LINE_GRID = 14
PITCH = 7

# Fonts and the sizes (smallest, largest) at which they fit the pitch. All ship with matplotlib: a
# page looks the same everywhere.
FONTS: dict[str, tuple[int, int]] = {
    "DejaVuSansMono.ttf": (10, 12),
    "DejaVuSansMono-Bold.ttf": (10, 12),
    "DejaVuSansMono-Oblique.ttf": (10, 12),
    "DejaVuSerif.ttf": (10, 11),
    "STIXGeneral.ttf": (12, 13),
    "STIXGeneralBol.ttf": (11, 13),
    "cmss10.ttf": (11, 12),
    "cmtt10.ttf": (12, 13),
}


@lru_cache(maxsize=256)
def font(file: str, size: int) -> ImageFont.FreeTypeFont:
    """Load one of FONTS, from matplotlib's data folder, at a size in pixels."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / file), size)


@dataclass(frozen=True)
class Style:
    """Font, colours and noise of one page; the same for all its text runs."""

    font_file: str
    font_size: int
    ink: tuple[int, int, int]
    paper: tuple[int, int, int]
    rule: tuple[int, int, int]
    noise: float  # standard deviation in grey levels
    shift: tuple[int, int]  # pixels by which this page's ruling is moved right and down

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Style:
        """A random style with enough contrast to be read by a person."""
        paper = rng.integers(215, 256, 3)
        ink = rng.integers(0, 90, 3)
        if rng.random() < 0.06:  # light print on a dark ground
            paper, ink = rng.integers(10, 60, 3), rng.integers(200, 256, 3)
        rule = (0.6 * paper + 0.4 * ink).astype(int)
        as_rgb = [tuple(int(channel) for channel in colour) for colour in (ink, paper, rule)]
        file = str(rng.choice(list(FONTS)))
        return cls(
            font_file=file,
            font_size=int(rng.integers(FONTS[file][0], FONTS[file][1] + 1)),
            ink=as_rgb[0],  # type: ignore[arg-type]
            paper=as_rgb[1],  # type: ignore[arg-type]
            rule=as_rgb[2],  # type: ignore[arg-type]
            noise=float(rng.uniform(0, 6)),
            shift=(int(rng.integers(-1, 2)), int(rng.integers(-1, 2))),
        )


class Canvas:
    """Draws on a square page and reports where things are."""

    def __init__(self, style: Style, size: int = PAGE_SIZE) -> None:
        self.style = style
        self.size = size
        self.image = Image.new("RGB", (size, size), style.paper)
        self.pen = ImageDraw.Draw(self.image)
        self.font = font(style.font_file, style.font_size)
        self.glyphs: list[tuple[str, Box]] = []

    @property
    def height(self) -> float:
        """Height of a digit in pixels; lines of text are laid out by it."""
        _, y0, _, y1 = self.font.getbbox("0", anchor="ls")
        return float(y1 - y0)

    def width(self, text: str) -> float:
        """Width in pixels that `text` will take."""
        return float(PITCH * len(text))

    def on_line(self, line: int) -> float:
        """The `y` for `text` on a given line of the ruling, counted from the top."""
        return line * LINE_GRID + LINE_GRID / 2 - self.height / 2

    def text(self, x: float, y: float, text: str, align: str = "l") -> Box:
        """Draw `text` with its digits' top near `y`; return the box of its ink.

        Its left (l), middle (m) or right (r) is at `x`.
        """
        right, down = self.style.shift
        baseline = LINE_GRID * round((y + self.height / 2 - LINE_GRID / 2) / LINE_GRID) + 12 + down
        offset = {"l": 0.0, "m": -self.width(text) / 2, "r": -self.width(text)}[align]
        start = PITCH * round((x + offset) / PITCH) + right
        ink: list[Box] = []
        for index, character in enumerate(text):
            place = (start + PITCH * (index + 0.5), baseline)
            self.pen.text(place, character, font=self.font, fill=self.style.ink, anchor="ms")
            ink.append(self.pen.textbbox(place, character, font=self.font, anchor="ms"))
            cell = (
                start + PITCH * index,
                baseline - self.height,
                start + PITCH * (index + 1),
                float(baseline),
            )
            self.glyphs.append((character, cell))
        x0, y0, x1, y1 = np.array(ink).T
        return (float(x0.min()), float(y0.min()), float(x1.max()), float(y1.max()))

    def line(self, x0: float, y0: float, x1: float, y1: float) -> None:
        self.pen.line((x0, y0, x1, y1), fill=self.style.rule, width=1)

    def rectangle(self, box: Box, fill: tuple[int, int, int] | None = None) -> None:
        self.pen.rectangle(box, outline=self.style.rule, fill=fill)

    def finish(self, rng: np.random.Generator) -> Image.Image:
        """The page with its paper grain."""
        if self.style.noise < 0.5:
            return self.image
        pixels = np.asarray(self.image, dtype=np.int16)
        grain = (
            rng.standard_normal((self.size, self.size, 1), dtype=np.float32) * self.style.noise
        ).astype(np.int16)
        return Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))
