"""Mistakes in the description: every one at once, a line each with key, what was found, what was expected."""

from __future__ import annotations

from typing import Any

import pytest

from mtl_core import DataError
from mtl_folder.description import _read_description

GOOD: dict[str, Any] = {
    "images": "images/{name}.jpg",
    "splits": {"test": 0.2},
    "tasks": {"parts": {"kind": "segmentation", "files": "masks/{name}.png", "classes": ["a", "b"]}},
}


def mistakes(**tables: Any) -> list[str]:
    given = {**GOOD, **tables}
    with pytest.raises(DataError) as caught:
        _read_description({name: table for name, table in given.items() if table is not None}, "mtl-folder.toml")
    head, *lines = str(caught.value).split("\n  ")
    if not lines:
        return [head.removeprefix("mtl-folder.toml: ")]
    assert head == f"mtl-folder.toml: {len(lines)} problems"
    return lines


def task(**keys: Any) -> list[str]:
    """The mistakes of a segmentation task with other keys; None takes one away."""
    table = {**GOOD["tasks"]["parts"], **keys}
    found = mistakes(tasks={"parts": {key: value for key, value in table.items() if value is not None}})
    return [line.removeprefix("tasks.parts.") for line in found]


def of_kind(kind: str, **keys: Any) -> list[str]:
    found = mistakes(csv="labels.csv", tasks={"t": {"kind": kind, **keys}})
    return [line.removeprefix("tasks.t.") for line in found]


def test_a_good_one() -> None:
    assert _read_description(GOOD, "x").tasks["parts"].task("parts").channels == 2


TABLE: dict[str, tuple[dict[str, Any], list[str]]] = {
    "an unknown table": (
        {"task": {}},
        ['task: unknown key; did you mean "tasks"?'],
    ),
    "no tasks": ({"tasks": {}}, ["tasks: expected a table for each task, such as [tasks.parts], found none"]),
    "tasks of another type": ({"tasks": ["parts"]}, ["tasks: expected a table for each task, found ['parts'] (list)"]),
    "a task of another type": ({"tasks": {"parts": "masks"}}, ['tasks.parts: expected a table, found "masks" (text)']),
    "a task without a kind": (
        {"tasks": {"parts": {"files": "masks/{name}.png"}}},
        [
            "tasks.parts.kind: missing; expected one of segmentation, depth, disparity, normals, edges, regression,"
            " classification, image-regression"
        ],
    ),
    "an unknown kind": (
        {"tasks": {"parts": {"kind": "segmentaton"}}},
        [
            'tasks.parts.kind: there is no kind "segmentaton" (text); did you mean "segmentation"? (there are:'
            " segmentation, depth, disparity, normals, edges, regression, classification, image-regression)"
        ],
    ),
    "a name with a slash": (
        {"tasks": {"a/b": GOOD["tasks"]["parts"]}},
        ['tasks."a/b": a task\'s name is a word without "/" and "."'],
    ),
    "no images": (
        {"images": None, "tasks": {"x": {"kind": "image-regression", "column": "x"}}},
        [
            'images: missing; expected the path of the images, such as "images/{name}.jpg", or a csv',
            'tasks.x.column: "x" needs a csv with this column',
        ],
    ),
    "one image": (
        {"images": "images/a.jpg"},
        [
            'images: "images/a.jpg" is one file; expected {name} in it',
            "tasks.parts.files: images has no placeholder {name} (it has: none)",
        ],
    ),
    "images of another type": ({"images": 3}, ['images: expected text or "none", found 3 (whole number)']),
    "an absolute path": (
        {"images": "/data/{name}.jpg"},
        ['images: expected a path below the root of the data, found "/data/{name}.jpg"'],
    ),
    "a backslash": (
        {"images": "images\\{name}.jpg"},
        ['images: found a backslash in "images\\{name}.jpg"; write / between folders'],
    ),
    "a brace": ({"images": "images/{name.jpg"}, ['images: a brace without its partner in "images/{name.jpg"']),
    "an empty placeholder": (
        {"images": "images/{}.jpg"},
        ['images: "{}" is no placeholder; expected a word such as {name} in braces'],
    ),
    "no splits": (
        {"splits": None},
        [
            "splits: missing; expected [splits] with a seeded share (test = 0.2), text files of names (train ="
            ' "train.txt", test = "test.txt"), or {split} in images for a folder of each'
        ],
    ),
    "splits of another type": ({"splits": "train.txt"}, ['splits: expected a table, found "train.txt" (text)']),
    "a split of another name": (
        {"splits": {"tets": 0.2}},
        ['splits.tets: unknown option; did you mean "test"?'],
    ),
    "a share in per cent": (
        {"splits": {"test": 20}},
        ["splits.test: expected a share between 0 and 1, or text, found 20"],
    ),
    "a share for training": ({"splits": {"train": 0.8}}, ['splits.train: expected text or "none", found 0.8 (number)']),
    "shares above 1": (
        {"splits": {"val": 0.5, "test": 0.5}},
        ["splits.test: expected shares below 1 together, found 1"],
    ),
    "a column without a csv": (
        {"splits": {"column": "fold", "train": "a", "test": "b"}},
        ["splits.column: needs a csv"],
    ),
    "a range upside down": ({"image_range": [1, 0]}, ["image_range: expected [lowest, highest], found [1, 0]"]),
    "a csv without a file": (
        {"csv": {"key": "image"}},
        ['csv.file: missing; expected text (path of the CSV, such as "labels.csv")'],
    ),
    "a csv with a placeholder": (
        {"csv": "{name}.csv"},
        ['csv.file: a CSV\'s path has no placeholder but {split}, found "{name}"'],
    ),
    "a csv outside of the root": (
        {"csv": "/data/labels.csv"},
        ['csv: expected a path below the root of the data, found "/data/labels.csv"'],
    ),
    "a csv of another type": ({"csv": 3}, ["csv: expected a table or text, found 3 (whole number)"]),
}


@pytest.mark.parametrize("mistake", TABLE)
def test_tables(mistake: str) -> None:
    tables, expected = TABLE[mistake]
    assert mistakes(**tables) == expected


A_COLOUR = 'expected "#rrggbb" or [red, green, blue] of 0 to 255 or, for ignored, "others"'
TASK: dict[str, tuple[dict[str, Any], list[str]]] = {
    "an unknown key": ({"clases": ["a"]}, ['clases: unknown option; did you mean "classes"?']),
    "another spelling": ({"colors": {}}, ['colors: unknown option; did you mean "colours"?']),
    "no files": (
        {"files": None},
        ['files: missing; expected text (path of the label files, such as "masks/{name}.png")'],
    ),
    "one file": ({"files": "masks/a.png"}, ['files: "masks/a.png" is one file for every image; expected {name} in it']),
    "an unknown placeholder": (
        {"files": "masks/{nmae}.png"},
        ['files: images has no placeholder {nmae}; did you mean "name"? (it has: {name})'],
    ),
    "no classes": ({"classes": None}, ["classes: expected classes (ids) or colours, found neither"]),
    "classes and colours": (
        {"colours": {"a": "#000000", "b": "#ffffff"}},
        ["classes: expected classes (ids) or colours, found both"],
    ),
    "one class": ({"classes": ["a"]}, ["classes: expected two classes or more, found 1"]),
    "a class twice": ({"classes": ["a", "b", "a"]}, ['classes: the class "a" is there twice']),
    "a class that is no text": ({"classes": ["a", 1]}, ["classes[1]: expected text, found 1 (whole number)"]),
    "an id that is text": (
        {"classes": {"a": 0, "b": "1"}},
        ['classes.b: expected a whole number or a list (a whole number each), found "1" (text)'],
    ),
    "an id twice": ({"classes": {"a": 0, "b": [1, 0]}}, ['classes: "b": 0 is "a" already']),
    "an ignored class": ({"ignored": [255, 1]}, ['ignored: 1 is "b" already']),
    "a word for ignored": (
        {"ignored": "rest"},
        ['ignored: expected an id (a whole number) or, for ignored, "others"; found "rest"'],
    ),
    "a colour that is none": (
        {"classes": None, "colours": {"a": "black", "b": [0, 0, 300]}},
        [
            f'colours: "a": {A_COLOUR}; found "black"',
            f'colours: "b": {A_COLOUR}; found [0, 0, 300]',
        ],
    ),
}


@pytest.mark.parametrize("mistake", TASK)
def test_a_task(mistake: str) -> None:
    keys, expected = TASK[mistake]
    assert task(**keys) == expected


KINDS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "a unit that is none": (
        "depth",
        {"files": "d", "unit": "km"},
        ['unit: expected one of "m", "cm", "mm" or "none", found "km" (text)'],
    ),
    "no scale": ("depth", {"files": "d", "scale": 0}, ["scale: expected a number other than 0, found 0"]),
    "a range of three": (
        "depth",
        {"files": "d", "range": [1, 2, 3]},
        ['range: expected a list of 2 (a number, a number) or "none", found [1, 2, 3] (list)'],
    ),
    "an axis that is none": (
        "normals",
        {"files": "n", "flip": ["y", "up"]},
        ['flip[1]: expected one of "x", "y", "z", found "up" (text)'],
    ),
    "no channels": ("regression", {"files": "r", "channels": 0}, ["channels: expected 1 or more, found 0"]),
    "true for a number": (
        "regression",
        {"files": "r", "channels": True},
        ["channels: expected a whole number, found true (boolean)"],
    ),
    "text for true": (
        "edges",
        {"files": "e", "inverted": "yes"},
        ['inverted: expected true or false, found "yes" (text)'],
    ),
    "no column": (
        "classification",
        {},
        [
            "column: missing; expected text or a list (text each) (column of the CSV, or a placeholder of images as"
            ' "{class}")'
        ],
    ),
    "two columns of classes": (
        "classification",
        {"column": ["a", "b"]},
        ["column: expected one column, found a list; for several classes write a task for each"],
    ),
    "a cell of two classes": (
        "classification",
        {"column": "a", "classes": {"x": "1", "y": [1, 2]}},
        ['classes: "y": the cell "1" is "x" already'],
    ),
    "a placeholder that is none": (
        "classification",
        {"column": "{class}"},
        ["column: images has no placeholder {class} (it has: {name})"],
    ),
    "two means for one column": (
        "image-regression",
        {"column": "a", "mean": [1, 2]},
        ["mean: expected 1 (one per column), found 2"],
    ),
    "a deviation of zero": (
        "image-regression",
        {"column": "a", "deviation": 0},
        ["deviation: expected numbers above 0, found 0.0"],
    ),
    "another loss": (
        "image-regression",
        {"column": "a", "loss": "huber"},
        ['loss: expected one of "l1", "l2", found "huber" (text)'],
    ),
}


@pytest.mark.parametrize("mistake", KINDS)
def test_kinds(mistake: str) -> None:
    kind, keys, expected = KINDS[mistake]
    assert of_kind(kind, **keys) == expected


def test_every_mistake_at_once() -> None:
    found = mistakes(
        imges="x",
        splits={"test": 2.0},
        tasks={
            "parts": {"kind": "segmentation", "files": "masks/{id}.png", "classes": ["a", "b"]},
            "depth": {"kind": "depth", "files": "depth/{name}.png", "unit": "km", "rnage": [0, 1]},
            "age": {"kind": "image-regression", "column": "age"},
        },
    )
    assert found == [
        'imges: unknown key; did you mean "images"?',
        "splits.test: expected a share between 0 and 1, or text, found 2",
        'tasks.depth.rnage: unknown option; did you mean "range"?',
        'tasks.depth.unit: expected one of "m", "cm", "mm" or "none", found "km" (text)',
        "tasks.parts.files: images has no placeholder {id} (it has: {name})",
        'tasks.age.column: "age" needs a csv with this column',
    ]


def test_a_file_that_is_not_toml(tree: Any) -> None:
    tree.describe("images = images/{name}.jpg")
    with pytest.raises(DataError, match=r"mtl-folder\.toml: not valid TOML: .*line 1"):
        tree.open()


def test_the_file_is_named(dense: Any) -> None:
    path = dense.root / "mtl-folder.toml"
    path.write_text(path.read_text("utf-8").replace('"mm"', '"km"'), "utf-8")
    with pytest.raises(DataError) as caught:
        dense.open()
    assert str(caught.value).startswith(f"{path}: tasks.depth.unit: expected")


def test_the_experiment_takes_the_place_of_the_files_tables(dense: Any) -> None:
    data = dense.open(tasks={"heat": {"kind": "regression", "files": "heat"}})
    assert data.tasks.names == ("heat",)
    with pytest.raises(DataError) as caught:
        dense.open(splits={"test": "no.txt"}, tasks={"heat": {"kind": "regresion", "files": "heat"}})
    assert str(caught.value).startswith(f"{dense.root / 'mtl-folder.toml'} and plugins.folder: tasks.heat.kind: there")


def test_another_file(dense: Any) -> None:
    (dense.root / "mtl-folder.toml").rename(dense.root / "other.toml")
    assert dense.open(description="other.toml").tasks.names[0] == "parts"
