"""A picture of lines, dots and text, as SVG without a library, or as PNG with Pillow. Imports no torch.

Lengths are pixels of the SVG, from its upper left corner.
"""

from __future__ import annotations

from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import attrs

from mtl_core import MtlError, write_atomically, write_text

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

_SCALE = 2
"""Pixels of a PNG for each of the SVG's."""

_SMOOTH = 2
"""A PNG is painted so many times as large, and made smaller: Pillow draws no smooth edges."""

_FONTS = (
    ("LiberationSans-Regular.ttf", "LiberationSans-Bold.ttf"),
    ("Arial.ttf", "Arial Bold.ttf"),
    ("arial.ttf", "arialbd.ttf"),
    ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf"),
)
"""Regular and bold, by the names on Linux, macOS and Windows; Pillow's own font has neither arrows nor accents."""

_NARROW = frozenset("iljtfrI.,:;'|!()[]/ ")
_WIDE = frozenset("mwMW%@→←±–")

_Anchor = Literal["start", "middle", "end"]


class Shape(Protocol):
    """What a drawing is made of."""

    def svg(self) -> str: ...

    def paint(self, canvas: Canvas) -> None: ...


@attrs.frozen
class Box:
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    colour: str

    def svg(self) -> str:
        place = f'x="{self.x:.1f}" y="{self.y:.1f}"'
        return f'<rect {place} width="{self.width:.1f}" height="{self.height:.1f}" fill="{self.colour}"/>'

    def paint(self, canvas: Canvas) -> None:
        corners = (self.x, self.y, self.x + self.width, self.y + self.height)
        canvas.draw.rectangle([canvas.zoom * value for value in corners], fill=self.colour)


@attrs.frozen
class Line:
    """A horizontal or vertical line."""

    x0: float
    y0: float
    x1: float
    y1: float
    colour: str
    width: float = 1.0
    dashed: bool = False

    def svg(self) -> str:
        dash = ' stroke-dasharray="4 3"' if self.dashed else ""
        return (
            f'<line x1="{self.x0:.1f}" y1="{self.y0:.1f}" x2="{self.x1:.1f}" y2="{self.y1:.1f}"'
            f' stroke="{self.colour}" stroke-width="{self.width:g}"{dash}/>'
        )

    def paint(self, canvas: Canvas) -> None:
        for piece in self._pieces():
            ends = [canvas.zoom * value for value in piece]
            canvas.draw.line(ends, fill=self.colour, width=round(canvas.zoom * self.width))

    def _pieces(self) -> list[tuple[float, float, float, float]]:
        """The line, or its dashes: 4 pixels, and 3 between them."""
        if not self.dashed:
            return [(self.x0, self.y0, self.x1, self.y1)]
        length = abs(self.x1 - self.x0) + abs(self.y1 - self.y0)
        pieces = []
        for start in range(0, int(length), 7):
            end = min(start + 4, length)
            pieces.append((*self._at(start / length), *self._at(end / length)))
        return pieces

    def _at(self, share: float) -> tuple[float, float]:
        return self.x0 + share * (self.x1 - self.x0), self.y0 + share * (self.y1 - self.y0)


@attrs.frozen
class Dot:
    """A filled circle with a white rim.

    :param about: what a browser shows beside the mouse
    """

    x: float
    y: float
    radius: float
    colour: str
    about: str = ""

    def svg(self) -> str:
        circle = f'cx="{self.x:.1f}" cy="{self.y:.1f}" r="{self.radius:g}" fill="{self.colour}" stroke="#ffffff"'
        return f'<circle {circle} stroke-width="0.8"><title>{escape(self.about)}</title></circle>'

    def paint(self, canvas: Canvas) -> None:
        place = canvas.zoom * self.x, canvas.zoom * self.y
        rim = round(0.8 * canvas.zoom)
        canvas.draw.circle(place, canvas.zoom * self.radius, fill=self.colour, outline="#ffffff", width=rim)


@attrs.frozen
class Text:
    """A line of text; y is that of its baseline."""

    x: float
    y: float
    content: str
    size: float = 12.0
    colour: str = "#1f2328"
    anchor: _Anchor = "start"
    bold: bool = False

    def svg(self) -> str:
        weight = ' font-weight="bold"' if self.bold else ""
        place = f'x="{self.x:.1f}" y="{self.y:.1f}" font-size="{self.size:g}" text-anchor="{self.anchor}"'
        return f'<text {place} fill="{self.colour}"{weight}>{escape(self.content)}</text>'

    def paint(self, canvas: Canvas) -> None:
        side = {"start": "ls", "middle": "ms", "end": "rs"}[self.anchor]
        font = _font_of(canvas.zoom * self.size, self.bold)
        place = canvas.zoom * self.x, canvas.zoom * self.y
        canvas.draw.text(place, self.content, fill=self.colour, font=font, anchor=side)


@attrs.frozen
class Canvas:
    """What shapes are painted on."""

    draw: ImageDraw
    zoom: int


@attrs.frozen
class Drawing:
    """Shapes on white paper, which a page in dark mode shows as well.

    :param about: what it shows, for those who cannot see it
    """

    width: float
    height: float
    about: str
    shapes: tuple[Shape, ...]

    def svg(self) -> str:
        body = "\n".join(shape.svg() for shape in self.shapes)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {self.height:g}"'
            f' width="{self.width:g}" height="{self.height:g}" role="img"'
            ' font-family="Liberation Sans, Arial, Helvetica, sans-serif">\n'
            f"<title>{escape(self.about)}</title>\n"
            f'<rect width="100%" height="100%" rx="6" fill="#ffffff"/>\n{body}\n</svg>\n'
        )

    def save(self, path: Path) -> None:
        """Write an ``.svg`` or a ``.png``.

        :raises MtlError: as :func:`check_file`
        """
        check_file(path)
        if path.suffix == ".svg":
            write_text(path, self.svg())
        else:
            write_atomically(path, self._save_png)

    def _save_png(self, path: Path) -> None:
        from PIL import Image, ImageDraw

        zoom = _SCALE * _SMOOTH
        large = Image.new("RGB", (round(self.width * zoom), round(self.height * zoom)), "#ffffff")
        canvas = Canvas(ImageDraw.Draw(large), zoom)
        for shape in self.shapes:
            shape.paint(canvas)
        size = round(self.width * _SCALE), round(self.height * _SCALE)
        large.resize(size, Image.Resampling.LANCZOS).save(path, "PNG")


def check_file(path: Path) -> None:
    """A drawing can be written there.

    :raises MtlError: another ending than .svg and .png, no such folder, or what a PNG needs is not installed
    """
    if path.suffix not in (".svg", ".png"):
        raise MtlError(f"{path}: expected the name of a picture that ends in .svg or .png")
    if not path.parent.is_dir():
        raise MtlError(f"{path}: there is no folder {path.parent}")
    if path.suffix == ".png":
        _font_of(12, bold=False)


@cache
def _font_of(size: float, bold: bool) -> FreeTypeFont:
    """A font of this machine.

    :raises MtlError: there is none, or no Pillow
    """
    try:
        from PIL import ImageFont
    except ImportError as error:
        raise MtlError("a PNG needs Pillow: pip install 'mtl-suite[png]', or name an .svg") from error
    for pair in _FONTS:
        try:
            return ImageFont.truetype(pair[bold], size)
        except OSError:  # another system's
            continue
    names = ", ".join(regular for regular, _ in _FONTS)
    raise MtlError(f"a PNG needs a font, one of {names}; none is installed: name an .svg")


def width_of(text: str, size: float) -> float:
    """About the width of a text, rather more than less: what font a viewer has is not known."""
    return size * sum(_width(letter) for letter in text)


def _width(letter: str) -> float:
    if letter in _NARROW:
        return 0.36
    if letter in _WIDE or ord(letter) > 0x2E7F:  # from here on Chinese, Japanese, Korean
        return 1.0
    return 0.74 if letter.isupper() else 0.6
