"""Plots: what is drawn is what the table says, at its place; nothing lies outside the picture."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mtl_core import MtlError
from mtl_core.testing import main
from mtl_suite.compare import compare_results
from mtl_suite.drawing import Drawing, Text, _font_of, width_of
from mtl_suite.plot import _BAR, _DOT, _MEAN, _REFERENCE, plot
from mtl_suite.result import Result
from mtl_suite.results import Line, Section, Table, compared

HEADLINE = {"segmentation/miou": True, "depth/abs_err": False}
UNITS = {"segmentation/miou": "%", "depth/abs_err": "m"}
SVG = "{http://www.w3.org/2000/svg}"


def result(name: str, seed: int, miou: float, depth: float) -> Result:
    metrics = {"segmentation/miou": miou, "depth/abs_err": depth}
    return Result(Path(f"{name}-{seed}"), name, seed, "test", metrics, HEADLINE, units=UNITS)


def line(title: str, results: list[Result], planned: int, base: list[Result]) -> Line:
    row = compare_results(base, results).rows[0] if results else None
    return Line(title, (len(results), planned), row, bool(results))


def table(*lines: Line, base: dict[str, float], title: str = "Table") -> Table:
    return Table(title, dict(HEADLINE), (Section("", lines[0].title, lines, base),), UNITS, HEADLINE)


class Picture:
    """The elements of an SVG."""

    def __init__(self, drawing: Drawing) -> None:
        self.root = ElementTree.fromstring(drawing.svg())

    @property
    def texts(self) -> list[str]:
        return [element.text or "" for element in self.root.iter(f"{SVG}text")]

    def dots(self, start: str) -> dict[str, float]:
        """What stands beside the mouse → x, of the seeds of one experiment."""
        circles = ((c.findtext(f"{SVG}title") or "", float(c.attrib["cx"])) for c in self.root.iter(f"{SVG}circle"))
        return {about: x for about, x in circles if about.startswith(start)}

    def lines(self, colour: str) -> list[float]:
        """x of the vertical lines of one colour."""
        found = [e for e in self.root.iter(f"{SVG}line") if e.attrib["stroke"] == colour]
        return [float(e.attrib["x1"]) for e in found if e.attrib["x1"] == e.attrib["x2"]]

    def bars(self) -> list[tuple[float, float]]:
        """Left and right end of the bars; the legend's is the last."""
        found = [e.attrib for e in self.root.iter(f"{SVG}rect") if e.attrib["fill"] == _BAR]
        return [(float(e["x"]), float(e["x"]) + float(e["width"])) for e in found]


def test_every_seed_mean_and_deviation_is_at_its_place() -> None:
    base = [result("plain", seed, miou, 0.5) for seed, miou in enumerate((10.0, 20.0))]
    jtr = [result("jtr", seed, miou, 0.5) for seed, miou in enumerate((20.0, 24.0, 31.0))]
    picture = Picture(plot(compared(compare_results(base, [*base, *jtr]))))
    first, second, third = (picture.dots(f"jtr, seed {seed}: {miou}") for seed, miou in ((0, 20), (1, 24), (2, 31)))
    x20, x24, x31 = (next(iter(dots.values())) for dots in (first, second, third))
    pixels = (x31 - x20) / 11
    assert pixels > 5
    assert x24 == pytest.approx(x20 + 4 * pixels, abs=0.2)
    reference, _, _ = picture.lines(_REFERENCE)  # of each panel one, and the legend's
    assert reference == pytest.approx(x20 - 5 * pixels, abs=0.2)
    deviation = math.sqrt((25 + 1 + 36) / 2)  # of 20, 24, 31
    left, right = picture.bars()[1]  # the second row's
    assert left == pytest.approx(x20 + (5 - deviation) * pixels, abs=0.2)
    assert right == pytest.approx(x20 + (5 + deviation) * pixels, abs=0.2)
    assert picture.lines(_MEAN)[1] == pytest.approx(x20 + 5 * pixels, abs=0.2)


def test_a_panel_has_its_unit_and_direction_at_the_better_end() -> None:
    base = [result("plain", 0, 10.0, 0.5), result("plain", 1, 11.0, 0.6)]
    drawing = plot(compared(compare_results(base, base)))
    texts = {shape.content: shape for shape in drawing.shapes if isinstance(shape, Text)}
    assert {"segmentation", "miou, %", "depth", "abs_err, m", "mean of plain"} < texts.keys()
    assert texts["higher is better →"].x > texts["miou, %"].x + 100
    assert texts["← lower is better"].x == texts["abs_err, m"].x
    assert "2 seeds of each experiment; in a row from top to bottom." in texts


def test_one_seed_is_called_so_and_has_no_bar() -> None:
    base = [result("plain", 0, 10.0, 0.5)]
    picture = Picture(plot(compared(compare_results(base, [*base, result("jtr", 0, 12.0, 0.4)]))))
    assert "One seed of each experiment." in picture.texts
    assert not picture.bars()
    assert not picture.lines(_MEAN)
    assert len(picture.dots("jtr")) == 2


def test_missing_values_and_failed_runs_are_told() -> None:
    base = [result("plain", seed, 10.0 + seed, 0.5) for seed in range(2)]
    gap = [result("gap", 0, 12.0, 0.4), result("gap", 1, 13.0, math.nan)]
    none = [result("none", seed, 14.0 + seed, math.nan) for seed in range(2)]
    lines = (
        line("Plain", base, 2, base), line("Gap", gap, 2, base), line("None", none, 2, base),
        line("Late", [result("late", 0, 11.0, 0.6)], 2, base), line("Failed", [], 2, base),
    )  # fmt: skip
    picture = Picture(plot(table(*lines, base={"segmentation/miou": 10.5, "depth/abs_err": 0.5})))
    assert picture.texts.count("–") == 3  # depth of None, both metrics of Failed
    assert {"no run finished", "1 of 2 seeds", "No mean where a finished seed has no value."} < set(picture.texts)
    assert any("2 seeds of each experiment, unless its row says otherwise" in text for text in picture.texts)
    assert [len(picture.dots(f"gap, seed {seed}")) for seed in (0, 1)] == [0, 0]  # called by its title
    assert [len(picture.dots(f"Gap, seed {seed}")) for seed in (0, 1)] == [2, 1]
    assert len(picture.bars()) == 2 + 1 + 1 + 1  # Plain, Gap, None, the legend


LONG = (
    "Joint-task regularization with a smooth g: average pooling and one linear map, fixed target, no batch norm",
    "a_very_long_name_without_any_space_at_all_which_goes_on_and_on_for_ever_and_a_day",
    'JTR <c_dist=1> & "more"',
)


def many(count: int, metrics: int, title: str) -> Table:
    """One seed of many experiments with long names."""
    names = {f"household_electrical_devices_{place}/mean_accuracy": True for place in range(metrics)}

    def one(place: int) -> Result:
        values = dict.fromkeys(names, 50.0 + place)
        return Result(Path(str(place)), f"{place} {LONG[place % len(LONG)]}", 0, "test", values, names)

    results = [one(place) for place in range(count)]
    return compared(compare_results(results[:1], results))


@pytest.mark.parametrize(("count", "metrics"), [(1, 1), (10, 3), (3, 20)])
def test_nothing_lies_outside_the_picture_or_over_its_neighbour(count: int, metrics: int) -> None:
    drawing = plot(many(count, metrics, "T"))
    root = ElementTree.fromstring(drawing.svg())
    assert float(root.attrib["width"]) <= 1000
    placed: list[tuple[float, float, float]] = []
    for text in (shape for shape in drawing.shapes if isinstance(shape, Text)):
        width = width_of(text.content, text.size)
        left = text.x - {"start": 0.0, "middle": width / 2, "end": width}[text.anchor]
        assert left >= 0
        assert left + width <= drawing.width + 4
        assert 8 < text.y < drawing.height
        placed.append((text.y, left, left + width))
    for y, left, right in placed:
        overlapping = [p for p in placed if abs(p[0] - y) < 9 and p[1] < right - 4 and p[2] > left + 4]
        assert len(overlapping) == 1  # itself


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ((0.5, 0.5), None),
        ((-3.0, 4.0), "−2"),
        ((0.0711, 0.0712), "0.0712"),
        ((1e7, 3e7), "2e+07"),
        ((0.0, 0.0), "0.0"),
    ],
)
def test_an_axis_has_round_labels(values: tuple[float, float], labels: str | None) -> None:
    base = [result("plain", seed, value, 0.5) for seed, value in enumerate(values)]
    picture = Picture(plot(compared(compare_results(base, base))))
    numbers = [text for text in picture.texts if re.fullmatch(r"−?[\d.]+(e\+\d+)?", text)]
    assert len(set(numbers)) >= 4  # of two panels
    assert labels is None or labels in numbers


# --- the command ---


@pytest.fixture
def run(tmp_path: Path) -> Callable[[str, int, float], Path]:
    def write(name: str, seed: int, miou: float) -> Path:
        folder = tmp_path / f"{name}-{seed}"
        folder.mkdir()
        (folder / "experiment.toml").write_text(f'name = "{name}"\n')
        metrics = {"segmentation/miou": miou, "segmentation/pixel_accuracy": 50.0, "depth/abs_err": 0.5}
        record = {"name": name, "seed": seed, "split": "test", "checkpoint": "last", "epoch": 1}
        record |= {"metrics": metrics, "headline": HEADLINE, "units": UNITS}
        (folder / "results.json").write_text(json.dumps(record))
        return folder

    return write


@pytest.fixture
def font() -> None:
    """What a PNG is written with; a bare container has none."""
    try:
        _font_of(12, bold=False)
    except MtlError as error:
        pytest.skip(str(error))


def command(*arguments: object) -> object:
    with pytest.raises(SystemExit) as stop:
        main(["compare", *map(str, arguments)])
    return stop.value.code


def test_compare_draws_the_metrics_that_delta_uses(run: Callable[[str, int, float], Path], tmp_path: Path) -> None:
    runs = [run("plain", 0, 10.0), run("plain", 1, 11.0), run("jtr", 0, 12.0)]
    svg = tmp_path / "plot.svg"
    assert command(*runs, "--plot", svg) == 0
    assert "pixel_accuracy" not in svg.read_text()
    assert "jtr, seed 0: 12" in svg.read_text()
    assert svg.read_text().count(f'fill="{_DOT}"') == 2 * 3 + 1  # the legend's


@pytest.mark.usefixtures("font")
def test_a_png_shows_what_the_svg_shows(run: Callable[[str, int, float], Path], tmp_path: Path) -> None:
    from PIL import Image

    png = tmp_path / "plot.png"
    assert command(run("plain", 0, 10.0), run("jtr", 0, 12.0), "--plot", png) == 0
    with Image.open(png) as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24) or []}
        assert picture.width > 1000
        assert picture.convert("RGB").getpixel((2, 2)) == (255, 255, 255)  # white paper, in dark mode too
    assert {(0, 0x72, 0xB2), (0xD5, 0x5E, 0)} < colours


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("plot.pdf", "expected the name of a picture that ends in .svg or .png"),
        ("no/plot.svg", "there is no folder"),
    ],
)
def test_a_picture_that_cannot_be_written_is_a_message(
    run: Callable[[str, int, float], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    file: str,
    message: str,
) -> None:
    assert command(run("plain", 0, 10.0), run("jtr", 0, 12.0), "--plot", tmp_path / file) != 0
    shown = capsys.readouterr()
    assert message in shown.err
    assert not shown.out


def test_a_png_without_pillow_is_a_message(
    run: Callable[[str, int, float], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _font_of.cache_clear()
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert command(run("plain", 0, 10.0), run("jtr", 0, 12.0), "--plot", tmp_path / "plot.png") != 0
    assert "pip install 'mtl-suite[png]', or name an .svg" in capsys.readouterr().err


def test_a_png_without_a_font_is_a_message(
    run: Callable[[str, int, float], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _font_of.cache_clear()
    monkeypatch.setattr("mtl_suite.drawing._FONTS", (("no.ttf", "no-bold.ttf"),))
    assert command(run("plain", 0, 10.0), run("jtr", 0, 12.0), "--plot", tmp_path / "plot.png") != 0
    assert "a PNG needs a font, one of no.ttf; none is installed: name an .svg" in capsys.readouterr().err


def test_nothing_to_draw_is_a_message() -> None:
    with pytest.raises(MtlError, match="Table: no run is finished, so there is nothing to draw"):
        plot(table(line("Failed", [], 2, []), base={}))
