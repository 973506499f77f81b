"""The ``mtl`` command. Imports no torch until a command needs it."""

from __future__ import annotations

import contextlib
import json
import platform
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mtl_core.commands import other_commands
from mtl_core.commands.failures import GO_ON, INTERRUPTED, TERMINATED, lost_process, os_error
from mtl_core.commands.help_pages import Group
from mtl_core.errors import MtlError, Terminated

app = typer.Typer(
    cls=Group, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich",
    help="Multi-task learning when labels are missing and tasks fight.",
)  # fmt: skip

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting.")]
_With = Annotated[list[str] | None, typer.Option("--with", metavar="PLUGIN", help="Add a plugin, with its defaults.")]
_Without = Annotated[list[str] | None, typer.Option("--without", metavar="PLUGIN", help="Leave a plugin out.")]
_RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")]
_Checkpoint = Annotated[str, typer.Option(help="last, or best on validation data.")]


def _show_version(asked: bool) -> None:
    if not asked:
        return
    from importlib.metadata import PackageNotFoundError, version

    with contextlib.suppress(PackageNotFoundError):
        print(f"mtl {version('mtl-core')} (torch {version('torch')}, Python {platform.python_version()})")
    raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Multi-task learning when labels are missing and tasks fight."""


@app.command(epilog="Example: mtl train rooms.toml --out runs/rooms --set epochs=5")
def train(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An experiment (TOML).")],
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/NAME-SEED by default.")] = None,
    overrides: _Overrides = None,
    added: _With = None,
    dropped: _Without = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the folder's run stopped.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Train an experiment, evaluate it on the test split and write its report."""
    from mtl_core.commands.train import train_and_print
    from mtl_core.settings.toml_file import load_experiment

    experiment = load_experiment(file, overrides or (), added or (), dropped or ())
    train_and_print(experiment, out or Path("runs") / f"{experiment.name}-{experiment.seed}", resume, quiet)


@app.command(epilog="Example: mtl probe rooms.toml --out runs/rooms-probe --batches 8")
def probe(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An experiment (TOML) whose mask withholds labels.")],
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/NAME-SEED-probe by default.")] = None,
    overrides: _Overrides = None,
    batches: Annotated[int, typer.Option(min=1, help="Training batches on which gradients are compared.")] = 4,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the folder's run stopped.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
    as_json: _Json = False,
) -> None:
    """Train, and measure whether each regularizer's gradient agrees with that of the labels that are withheld."""
    from mtl_core.commands.probe import probe as probe_gradients
    from mtl_core.commands.probe import show
    from mtl_core.settings.toml_file import load_experiment

    experiment = load_experiment(file, overrides or [])
    folder = out or Path("runs") / f"{experiment.name}-{experiment.seed}-probe"
    found = probe_gradients(experiment, folder, batches, resume, quiet or as_json)
    if as_json and found:
        print(json.dumps(found, ensure_ascii=False))
    elif found:
        show(found, Console())


@app.command(epilog="Example: mtl evaluate runs/rooms-0 --split test --json")
def evaluate(
    run: _RunArgument,
    split: Annotated[str, typer.Option(help="The data set's split; val: what best.ckpt was chosen by.")] = "test",
    checkpoint: _Checkpoint = "last",
    overrides: _Overrides = None,
    as_json: _Json = False,
) -> None:
    """Evaluate a run's network on a split.

    The last checkpoint on the test split is written to results.json, everything else to results-SPLIT-CHECKPOINT.json.
    """
    from mtl_core.commands.evaluate import evaluate_run
    from mtl_core.console import is_rank_zero, print_metrics
    from mtl_core.run_folder import RunFolder, to_json

    metrics = evaluate_run(RunFolder(run), split, checkpoint, tuple(overrides or ()))
    if not is_rank_zero():
        return
    if as_json:
        print(to_json({"metrics": metrics}))
    else:
        print_metrics(metrics, f"{run}: {split}, {checkpoint} checkpoint")


@app.command(epilog="Example: mtl predict runs/rooms-0 photo.jpg --out predictions")
def predict(
    run: _RunArgument,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Images (JPEG, PNG).")],
    out: Annotated[Path, typer.Option(help="Folder for labels and pictures.")] = Path("predictions"),
    checkpoint: _Checkpoint = "last",
    size: Annotated[
        str, typer.Option(help="Size of the files: trained (the network's), or original (each image's).")
    ] = "trained",
    overrides: _Overrides = None,
    as_json: _Json = False,
) -> None:
    """Predict every task of images: labels as files, and a picture."""
    from mtl_core.commands.predict import predict as predict_images
    from mtl_core.run_folder import RunFolder

    files = [str(path) for path in predict_images(RunFolder(run), images, out, checkpoint, overrides or (), size)]
    print(json.dumps(files) if as_json else "\n".join(files))


@app.command(epilog="Example: mtl plugins --hooks")
def plugins(
    hooks: Annotated[
        bool, typer.Option("--hooks", help="Import each plugin in a process of its own and list its hooks.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """List the installed plugins: what each is for, its place in a run, and the distribution that has it."""
    from mtl_core.commands.plugins import by_place, listing

    rows = listing(hooks)
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
        return
    columns = ["place", "name", "what it is", "distribution", *(["hooks"] if hooks else [])]
    shown = Table(*columns, box=None, pad_edge=False)
    for row in by_place(rows):
        about = f"{row['status']}: {row['reason']}" if row["reason"] else row["summary"] or ""
        cells = [row["place"] or "", row["name"], about, f"{row['distribution']} {row['version']}"]
        shown.add_row(*map(escape, [*cells, *([" ".join(row["hooks"] or [])] if hooks else [])]))
    Console().print(shown)


@app.command(epilog="Example: mtl explain experiment")
def explain(
    name: Annotated[str, typer.Argument(metavar="PLUGIN", help="A plugin's name, FILE.py:CLASS, or experiment.")],
    as_json: _Json = False,
) -> None:
    """Say what a plugin computes: formula, source, cost, where it departs from its source, hooks and options."""
    from mtl_core.commands.explain import explain as explain_plugin
    from mtl_core.commands.explain import show

    record = explain_plugin(name)
    if as_json:
        print(json.dumps(record, ensure_ascii=False))
    else:
        show(record, Console(highlight=False))


def join_commands() -> None:
    """Add the commands of other distributions."""
    other_commands.join_commands(app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command; an error that the user can correct is one message on standard error, without a traceback."""
    _unwind_on_sigterm()
    join_commands()
    run: Callable[..., object] = app
    try:
        run(arguments)
    except MtlError as error:
        notes = "".join(f"\n  ({note})" for note in getattr(error, "__notes__", ()))
        _fail(f"{error}{notes}", error.exit_code)
    except OSError as error:
        if not (message := os_error(error)):
            raise
        _fail(message, 1)
    except RuntimeError as error:
        if not (message := lost_process(error)):
            raise
        _fail(message, 1)
    except SystemExit as ended:
        if ended.code in (INTERRUPTED, TERMINATED):
            print(f"mtl: stopped; {GO_ON}", file=sys.stderr)
        raise
    finally:
        # however the command ended: the exit code of every rank counts
        _leave_process_group()


def _leave_process_group() -> None:
    """End the threads of torch.distributed: an interpreter that exits while they run aborts, with another exit code."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;]*m")
"""Colours that torch puts into its messages."""


def _fail(message: str, code: int) -> None:
    message = _TERMINAL_CODES.sub("", message)
    print(f"mtl: {message}", file=sys.stderr)
    sys.exit(code)


def _unwind_on_sigterm() -> None:
    """Let SIGTERM unwind the program as Ctrl-C does, so that loader processes and half-written files go away."""

    def ended(number: int, frame: object) -> None:
        raise Terminated(TERMINATED)

    # ValueError: not the main thread; a program that embeds the command handles signals itself
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGTERM, ended)


if __name__ == "__main__":
    main()
