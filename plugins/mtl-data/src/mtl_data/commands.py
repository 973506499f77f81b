"""The commands ``mtl data show`` and ``mtl data check``.

Nothing heavy is imported before a command runs: ``mtl --help`` loads this module.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from mtl_data.check import Watch

app = typer.Typer(
    name="data", add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich",
    help="Look at a data set, check every file of it, describe your own.",
)  # fmt: skip

_Name = Annotated[str, typer.Argument(metavar="NAME", help="A data-set plugin, or a folder with mtl-folder.toml.")]
_Options = Annotated[
    list[str] | None, typer.Option("--set", metavar="OPTION=VALUE", help="An option of the plugin, such as root=PATH.")
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_BROKEN = 1
"""Exit code where a file is broken."""
_INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
_LISTED = 20
"""Broken files that the terminal shows; the report has all."""


@app.command(epilog="Example: mtl data show nyuv2 --set root=data/nyuv2 --split test")
def show(
    name: _Name,
    overrides: _Options = None,
    split: Annotated[str, typer.Option(help="The data set's split.")] = "train",
    samples: Annotated[int, typer.Option(min=1, help="Images to show, evenly spaced in the split.")] = 6,
    as_json: _Json = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="The picture; NAME-SPLIT.png by default.")] = None,
) -> None:
    """Write a sheet of pictures: images and every label, legends, units, counts and shares."""
    from mtl_data.show import look_at, save, sheet
    from mtl_data.sources import source

    made = source(name, overrides or [])
    path = out or Path(f"{Path(name).name}-{split}.png")
    shown = look_at(made, split, samples)
    save(sheet(shown, f"{name}, {split}: {shown.size} samples; {', '.join(overrides or ['no options'])}"), path)
    report = {"name": name, **shown.report(), "file": str(path)}
    if as_json:
        _print_json(report)
    else:
        _print_labels(f"{name}, {split}: {shown.size} samples, {len(shown.names)} shown", report["labels"])
        Console(soft_wrap=True, highlight=False, markup=False).print(f"picture  {path}")


@app.command(epilog="Example: mtl data check taskonomy --set root=data/taskonomy --out report.json")
def check(
    name: _Name,
    overrides: _Options = None,
    splits: Annotated[
        list[str] | None, typer.Option("--split", help="A split; repeatable. Train and test by default.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that read; by default one for each core.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Read everything; forget an interrupted check.")] = False,
    as_json: _Json = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="File for the report (JSON).")] = None,
) -> None:
    """Read every sample once: counts, ranges, broken files, images that two splits share.

    Ends with exit code 1 if a file is broken. An interrupted check goes on when it is started again; one that found
    broken files reads these again, and what is near them.
    """
    from mtl_core import write_text
    from mtl_data.check import check_split, processes, shared_images
    from mtl_data.sources import source

    made = source(name, overrides or []).changed(cache=False, check=None)  # all samples, from their files
    found = []
    for split in dict.fromkeys(splits or ("train", "test")):
        with _progress(f"{name}, {split}") as watch, _told_when_stopped(name):
            one = check_split(made, split, processes() if workers is None else workers, fresh, watch)
        found.append(one)
        if one.earlier:
            print(f"{split}: {one.earlier} samples as an earlier check found them; --fresh reads all", file=sys.stderr)
    report = {"name": name, "splits": {one.split: one.report() for one in found}, "shared": shared_images(found)}
    if out is not None:
        write_text(out, json.dumps(report, ensure_ascii=False, indent=1) + "\n")
    if as_json:
        _print_json(report)
    else:
        _print_check(report)
    if any(one.broken for one in found):
        raise typer.Exit(_BROKEN)
    for one in found:
        one.state.unlink(missing_ok=True)


@contextmanager
def _progress(title: str) -> Iterator[Watch]:
    """A bar on standard error, where that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None)

        def watch(done: int, of: int, broken: int) -> None:
            bar.update(task, completed=done, total=of, description=f"{title}  {broken} broken" if broken else title)

        yield watch


@contextmanager
def _told_when_stopped(name: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        print(f"mtl data check {name}: stopped; the same command goes on where it was", file=sys.stderr)
        raise typer.Exit(_INTERRUPTED) from None


def _print_json(report: Mapping[str, Any]) -> None:
    print(json.dumps(report, ensure_ascii=False))


def _print_check(report: Mapping[str, Any]) -> None:
    for split, found in report["splits"].items():
        sizes = ", ".join(f"{size} ({count})" for size, count in found["sizes"].items())
        _print_labels(
            f"{report['name']}, {split}: {found['samples']} samples; images of {sizes or 'no size'}", found["labels"]
        )
    out = Console(soft_wrap=True, highlight=False, markup=False)
    for row in report["shared"]:
        out.print(_shared_line(row))
    broken = [(split, one) for split, found in report["splits"].items() for one in found["broken"]]
    for split, one in broken[:_LISTED]:
        out.print(f"broken: {split} {one['name']}: {one['reason']}")
    if len(broken) > _LISTED:
        out.print(f"… and {len(broken) - _LISTED} more; --out FILE and --json have all")
    out.print(f"{len(broken)} broken" if broken else "nothing is broken")


def _shared_line(row: Mapping[str, Any]) -> str:
    one, two = row["splits"]
    first = " and ".join(row["examples"][0])
    where = f"{one} and {two} share" if one != two else f"{one} repeats"
    return f"{where} {row['images']} image{'s' * (row['images'] != 1)} (the first: {first})"


def _print_labels(title: str, labels: Mapping[str, Mapping[str, Any]]) -> None:
    table = Table("task", "kind", "labels", "empty", "valid", "values", title=title, title_justify="left")
    for name, label in labels.items():
        table.add_row(
            name, label["kind"], _count(label), str(label["empty"]), f"{100 * label['valid']:.1f} %", _values(label)
        )
    out = Console()
    out.print(table)
    for name, label in labels.items():
        if "classes" in label:
            out.print(_class_table(name, label["classes"]))


def _count(label: Mapping[str, Any]) -> str:
    """Of the labels that were looked at, and of the split's where these are more."""
    of = label.get("labels_in_split", label["labels"])
    return str(of) if of == label["labels"] else f"{of}, {label['labels']} shown"


def _values(label: Mapping[str, Any]) -> str:
    """Each channel's range and mean."""
    if "classes" in label:
        return f"{len(label['classes'])} classes"
    unit = f" {label['unit']}" if label["unit"] else ""
    rows = zip(label["low"], label["high"], label["mean"], strict=True)
    return "\n".join(f"{low:.3g} to {high:.3g}{unit}, mean {mean:.3g}" for low, high, mean in rows) or "none"


def _class_table(name: str, classes: Mapping[str, Mapping[str, int]]) -> Table:
    table = Table(f"class of {name}", "pixels", "labels", box=None)
    total = max(sum(one["pixels"] for one in classes.values()), 1)
    for title, one in classes.items():
        table.add_row(title, f"{100 * one['pixels'] / total:.2f} %", str(one["labels"]))
    return table
