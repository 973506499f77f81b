"""The report of a run, and the pictures in it."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from mtl_core import (
    BinaryEdges,
    Classification,
    Depth,
    MtlError,
    Normals,
    Regression,
    RunFolder,
    Segmentation,
    Tasks,
    palette,
)
from mtl_report.charts import charts
from mtl_report.curves import chart
from mtl_report.keys import key_of
from mtl_report.pictures import _drawn_pair, sheet
from mtl_report.report import write_report

SVG = re.compile(r"<svg.*?</svg>", re.DOTALL)
GROUPS = ("train/loss", "jtr", "ial/sigma", "encoder/weight", "encoder/norm", "encoder/cosine")


def epoch(number: int) -> dict[str, Any]:
    record: dict[str, Any] = {"event": "epoch", "epoch": number, "step": 10 * number, "seconds": 1.5, "train/loss": 3.0}
    record["validation/loss/depth"] = 2.0
    for task in ("segmentation", "depth"):
        record |= {f"{group}/{task}": number + 0.5 for group in GROUPS if group not in ("jtr", "encoder/cosine")}
    record |= {"jtr/distance": 0.5 / (number + 1), "encoder/cosine/segmentation|depth": -0.1}
    return record | {"val/segmentation/miou": None if number == 1 else 10.0 + number, "val/depth/abs_err": 1.0}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run whose name, tasks and settings hold characters of HTML."""
    (tmp_path / "experiment.toml").write_text('name = "<u>rooms</u> & more"\n')
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(epoch(n)) + "\n" for n in range(4)))
    metrics = {"segmentation/miou": 12.345, "depth/abs_err": None, "<em>x/top1": 1.0}
    headline = {"segmentation/miou": True, "depth/abs_err": False}
    about = {"name": "<u>rooms</u> & more", "seed": 7, "split": "test", "checkpoint": "last", "runtime_seconds": 90}
    (tmp_path / "results.json").write_text(json.dumps({**about, "metrics": metrics, "headline": headline}))
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (5, 3), "red").save(tmp_path / "pictures" / "a'b.png")
    return tmp_path


def written(run: Path) -> str:
    return write_report(run).read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Tags, attributes and visible text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_every_logged_group_has_a_chart(run: Path) -> None:
    page = written(run)
    shown = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    # one chart of jtr/*, one per task's losses, one per validation metric, one per other group
    assert len(shown) == len(set(shown)) == len(GROUPS) + 2 + 2
    assert {"loss of depth", "segmentation/miou ↑", "depth/abs_err ↓", "jtr/distance", "ial/sigma"} <= set(shown)
    drawings = [ElementTree.fromstring(svg) for svg in SVG.findall(page)]
    assert len(drawings) == len(shown)
    assert [len(svg.findall("polyline")) for svg in drawings].count(2) == 4
    assert "epochs" in Reader(page).text


def test_a_probe_has_a_chart_of_cosines_and_one_of_sizes_for_each_term() -> None:
    names = [f"probe/{term}/{task}/head/{what}" for term in ("jtr/distance", "labels") for task in ("depth", "normals")
             for what in ("cosine", "ratio")]  # fmt: skip
    history = [epoch(n) | dict.fromkeys(names, 0.25 * n) for n in range(3)]
    shown = charts(history, {}).main
    titles = [found for one in shown for found in re.findall("<figcaption>(probe[^<]*)", one)]
    assert titles == [
        "probe: cosine of jtr/distance with the gradient of the withheld labels",
        "probe: size of the gradient of jtr/distance, in multiples of that of the withheld labels",
        "probe: cosine of labels with the gradient of the withheld labels",
        "probe: size of the gradient of labels, in multiples of that of the withheld labels",
    ]
    assert all("depth, head" in one and "normals, head" in one for one in shown if "probe" in one)


def test_results_seed_and_runtime(run: Path) -> None:
    text = Reader(written(run)).text
    for part in ("miou ↑", "12.35", "abs_err ↓", "–", "seed 7", "test split", "4 epochs", "1.5 min"):
        assert part in text


def test_why_the_numbers_cannot_be_used(run: Path) -> None:
    assert "cannot be used" not in written(run)
    file = run / "results.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"problems": ["all <4> steps", "depth"]}))
    assert "The numbers of this run cannot be used: all &lt;4&gt; steps; depth." in written(run)


def test_what_a_user_wrote_is_text_and_no_html(run: Path) -> None:
    reader = Reader(written(run))
    assert not {"u", "em"} & {tag for tag, _ in reader.tags}
    assert all(part in reader.text for part in ("<u>rooms</u> & more", "<em>x", 'name = "<u>rooms'))
    assert [attributes["alt"] for tag, attributes in reader.tags if tag == "img"] == ["a'b"]


def test_the_page_needs_no_other_file(run: Path) -> None:
    reader = Reader(written(run))
    links = [a[key] or "" for _, a in reader.tags for key in ("src", "href") if key in a]
    assert [link.partition(",")[0] for link in links] == ["data:image/png;base64"]
    assert base64.b64decode(links[0].partition(",")[2]) == (run / "pictures" / "a'b.png").read_bytes()
    assert not {tag for tag, _ in reader.tags} & {"script", "link", "iframe"}


def test_a_run_that_is_not_finished(run: Path) -> None:
    (run / "results.json").unlink()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"event": "epo')
    assert "not finished: 4 epochs so far" in Reader(written(run)).text


def test_a_run_that_only_began(tmp_path: Path) -> None:
    (tmp_path / "experiment.toml").write_text('name = "x"\n')
    page = written(tmp_path)
    assert not SVG.findall(page)
    assert 'name = "x"' in Reader(page).text


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(MtlError, match="not a run folder"):
        write_report(tmp_path / "nothing")


@pytest.mark.parametrize("values", [[1.0], [0.0, 0.0], [1e-12, 3e-12], [-1e9, 1e9], [math.nan, 2.0, math.inf, 3.0]])
def test_a_chart_stays_inside_its_frame(values: list[float]) -> None:
    (text,) = SVG.findall(chart("t", {"<a>": list(enumerate(values, start=1))}))
    svg = ElementTree.fromstring(text)
    width, height = (float(x) for x in svg.attrib["viewBox"].split()[2:])
    line = svg.find("polyline")
    assert line is not None
    points = [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]
    assert len(points) == sum(map(math.isfinite, values))
    assert all(0 <= x <= width and 0 <= y <= height for x, y in points)
    assert len(svg.findall("line")) >= 2
    heights = [y for _, y in points]
    finite = [v for v in values if math.isfinite(v)]
    assert heights == sorted(heights, reverse=finite == sorted(finite))


def test_a_chart_without_a_finite_value_is_none() -> None:
    assert chart("t", {"a": [(1, math.nan)]}) == ""


def test_training_stands_against_validation(run: Path) -> None:
    page = written(run)
    both = page.partition("<figcaption>loss of depth</figcaption>")[2].partition("</figure>")[0]
    svg = ElementTree.fromstring(SVG.findall(both)[0])
    titles = {line.findtext("title"): line.attrib.get("class") for line in svg.findall("polyline")}
    assert titles == {"training": "d", "validation": None}
    alone = page.partition("<figcaption>loss of segmentation</figcaption>")[2].partition("</figure>")[0]
    assert ">training<" in alone
    assert ">validation<" not in alone


def texts(chart_of: str) -> list[str]:
    (svg,) = SVG.findall(chart_of)
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("text")]


def test_axes_have_titles_and_epochs_are_whole() -> None:
    shown = texts(chart("t", {"a": [(n, float(n)) for n in range(1, 4)]}, "abs_err, m"))
    assert "abs_err, m" in shown
    assert "epoch" in shown
    assert [text for text in shown if text in ("1", "2", "3", "1.5", "2.5")].count("2") >= 1
    assert not [text for text in texts(chart("t", {"a": [(1, 0.0), (2, 50.0)]})) if text == "1.5"]


@pytest.mark.parametrize("values", [[1e-7, 3e-7], [123456.0, 987654.0], [-1e9, 1e9], [0.98, 0.981], [12.5, 13.0]])
def test_tick_labels_fit_beside_their_chart(values: list[float]) -> None:
    (text,) = SVG.findall(chart("t", {"a": list(enumerate(values))}))
    svg = ElementTree.fromstring(text)
    lefts = {float(line.attrib["x1"]) for line in svg.findall("line")}
    labels = [label for label in svg.findall("text") if label.attrib.get("class") == "e"]
    assert len({label.text for label in labels}) == len(labels) >= 3
    assert len(lefts) == 1
    widest = max(len(label.text or "") for label in labels)
    assert 6.0 * widest <= float(labels[0].attrib["x"])


def test_the_overlap_of_each_class(run: Path) -> None:
    file = run / "results.json"
    details = {"segmentation/iou/wall": 40.25, "segmentation/iou/<b>": None, "depth/other": 1.0}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"details": details}))
    table = written(run).partition("IoU of each class")[2].partition("</table>")[0]
    assert "wall<td class='n'>40.25" in table
    assert "&lt;b&gt;<td class='n'>–" in table
    assert "other" not in table


def test_warnings_parameters_device_and_versions(run: Path) -> None:
    RunFolder(run).warn(1, 'epoch 1: no label reached the head of "<i>"')
    file = run / "results.json"
    about = {"parameters": {"encoder": 1200, "head depth": 34}, "device": "cpu (x)"}
    file.write_text(json.dumps(json.loads(file.read_text()) | about))
    (run / "versions.json").write_text('{"python": "3.12.1", "commit": "abc123 with changes"}')
    text = Reader(written(run)).text
    for part in ('no label reached the head of "<i>"', "1,200", "1,234", "on cpu (x)", "3.12.1", "abc123 with changes"):
        assert part in text


def test_a_phone_shows_the_page_at_its_own_width(run: Path) -> None:
    found = [attributes for tag, attributes in Reader(written(run)).tags if tag == "meta"]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in found


def test_colours_of_a_picture_are_explained(run: Path) -> None:
    kept = {"keys": [key_of(task, (1.0, 5.0)) for task in TASKS.dense], "rows": ["first", "second"]}
    (run / "pictures" / "a'b.json").write_text(json.dumps(kept))
    page = written(run)
    text = Reader(page).text
    assert "rows: first, second" in text
    assert "≤ 1 m" in text
    assert "≥ 5 m" in text
    red, green, blue = palette(5)[3]
    assert f"#{red:02x}{green:02x}{blue:02x}" in page
    ball = re.search("alt='colours of normals on a ball' width='72' src='data:image/png;base64,([^']+)'", page)
    assert ball is not None
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(ball[1]))))
    middle = len(pixels) // 2
    # in the middle the surface faces the camera: normal (0, 0, -1); at the right edge it looks right
    assert pixels[middle, middle].tolist() == pytest.approx([127, 127, 0, 255], abs=3)
    assert pixels[middle, -3].tolist() == pytest.approx([250, 127, 127, 255], abs=40)
    assert pixels[0, 0, 3] == 0


TASKS = Tasks(
    [
        Segmentation(name="segmentation", channels=5), Depth(name="depth"), Normals(name="normals"),
        BinaryEdges(name="edges"), Regression(name="shading", channels=1), Classification(name="kind", channels=3),
    ]
)  # fmt: skip


def labels(height: int, width: int) -> dict[str, torch.Tensor]:
    """Labels whose right half does not count."""
    normals = torch.zeros(3, height, width)
    normals[2] = -1
    found = {
        "segmentation": torch.ones(height, width, dtype=torch.long),
        "depth": torch.linspace(1, 5, height)[None, :, None].repeat(1, 1, width),
        "normals": normals,
        "edges": torch.zeros(1, height, width),
        "shading": torch.rand(1, height, width, generator=torch.Generator().manual_seed(0)),
    }
    for name, label in found.items():
        label[..., width // 2 :] = TASKS[name].ignored
    return {**found, "kind": torch.tensor(1)}


@pytest.mark.parametrize("labelled", [True, False])
def test_a_sheet_has_a_column_per_picture(labelled: bool) -> None:
    height = 64
    width = 96
    truth = labels(height, width)
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    row = (image, {name: (label, label if labelled else None) for name, label in truth.items()})
    made = sheet([row, row], TASKS)
    columns = 1 + len(TASKS.dense) * (2 if labelled else 1)
    assert made.width // columns == pytest.approx(2 * width, abs=4)
    assert made.height == pytest.approx(2 * 2 * height, abs=30)


def test_small_pixels_are_enlarged_by_whole_factors() -> None:
    image = torch.randint(0, 256, (3, 64, 96), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    made = np.asarray(sheet([(image, {})], Tasks([])))[-128:]
    assert np.array_equal(made[::2, ::2], image.permute(1, 2, 0).numpy())
    assert np.array_equal(made[1::2, 1::2], made[::2, ::2])


@pytest.mark.parametrize("task", TASKS.dense, ids=lambda task: task.name)
def test_pixels_that_do_not_count_are_grey_stripes(task: Any) -> None:
    label = labels(8, 12)[task.name]
    prediction = task.encode(label[None])[0] if task.name != "segmentation" else label.clamp(min=0)
    found, drawn = _drawn_pair(task, prediction, label)
    assert np.array_equal(found[:, :6], drawn[:, :6])
    striped = drawn[:, 6:]
    assert (striped == striped[..., :1]).all()
    assert set(striped[..., 0].ravel()) == {70, 100}


def test_prediction_and_label_share_one_scale() -> None:
    label = labels(8, 12)["depth"]
    found, drawn = _drawn_pair(TASKS["depth"], label.clamp(min=1) + 2, label)
    # 2 m further away: the prediction's first row looks like the label's row of 3 m
    near = label[0, :, 0] + 2
    far = label[0, :, 0]
    row = int((far - near[0]).abs().argmin())
    assert np.abs(found[0, 0].astype(int) - drawn[row, 0]).max() < 30
    assert not np.array_equal(found[0, 0], drawn[0, 0])


def test_rare_edges_are_drawn_from_black_to_white() -> None:
    label = torch.zeros(1, 40, 40)
    label[0, 0, :3] = 1
    found, drawn = _drawn_pair(TASKS["edges"], torch.full((1, 40, 40), 0.2), label)
    assert np.unique(found).tolist() == [51]
    assert np.unique(drawn).tolist() == [0, 255]


def test_colours_of_normals_and_classes() -> None:
    normals = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]], [[0.0, -1.0]]])
    assert TASKS["normals"].picture(normals, (0.0, 1.0)).tolist() == [[[255, 127, 127], [127, 127, 0]]]
    assert len(np.unique(palette(40), axis=0)) == 40


@pytest.mark.parametrize("task", [t for t in TASKS.dense if t.name != "segmentation"], ids=lambda task: task.name)
def test_a_network_that_diverged_is_drawn(task: Any) -> None:
    label = labels(8, 12)[task.name]
    found, _ = _drawn_pair(task, torch.full_like(label, math.nan), label)
    assert found.shape == (8, 12, 3)


@pytest.mark.parametrize("module", ["report", "curves", "several", "commands"])
def test_no_torch_is_imported(module: str) -> None:
    code = f"import sys, mtl_report.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
