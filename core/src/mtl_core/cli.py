"""The ``mtl`` command. Imports no torch until a command needs it."""

from __future__ import annotations

import contextlib
import errno
import json
import platform
import re
import signal
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mtl_core.commands.help_pages import Group, use_plain_flags
from mtl_core.errors import MtlError, Terminated

if TYPE_CHECKING:
    from typer.models import CommandInfo

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


@app.command(epilog="Example: mtl explain ial")
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


INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
_TERMINATED = 143
"""Exit code after SIGTERM, as shells have it."""
_GO_ON = "mtl train goes on with --resume, mtl suite when it is started again"


def join_commands() -> None:
    """Add the commands of other distributions: entry points of the group ``mtl.commands``, functions or typer apps.

    Several distributions may share a group, such as ``mtl data``. What cannot be imported, or has a name that is taken,
    is reported and left out; the others go on working.
    """
    taken = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    taken |= {group.name or "" for group in app.registered_groups}
    groups: dict[str, typer.Typer] = {}
    entries = sorted(entry_points(group="mtl.commands"), key=lambda entry: (entry.name, entry.value))
    for entry in entries:
        if entry.name in taken:
            continue
        try:
            command = entry.load()
        except Exception as error:
            _report(entry, f"cannot be imported ({error}); install it again")
            continue
        if isinstance(command, typer.Typer):
            _join(groups, entry, command)
        else:
            taken.add(entry.name)
            app.command(entry.name)(command)
    for name, group in groups.items():
        app.add_typer(group, name=name)
    use_plain_flags([app, *groups.values()])


def _join(groups: dict[str, typer.Typer], entry: EntryPoint, command: typer.Typer) -> None:
    """Add a distribution's group of commands to those of the same name."""
    if entry.name not in groups:
        groups[entry.name] = typer.Typer(
            cls=Group, help=command.info.help if isinstance(command.info.help, str) else None, no_args_is_help=True
        )
    group = groups[entry.name]
    names = {_name(one) for one in group.registered_commands}
    for one in command.registered_commands:
        if _name(one) in names:
            _report(entry, f"has {_name(one)}, which another distribution has too; uninstall one of the two")
        else:
            group.registered_commands.append(one)


def _name(command: CommandInfo) -> str | None:
    return command.name or (command.callback.__name__ if command.callback else None)


def _report(entry: EntryPoint, problem: str) -> None:
    owner = entry.dist.name if entry.dist else "?"
    print(f"mtl: command {entry.name} of {owner} {problem}", file=sys.stderr)


def main(arguments: list[str] | None = None) -> None:
    """Run the command; an error that the user can put right is one message on standard error, without a traceback."""
    _end_like_an_interrupt_on_sigterm()
    join_commands()
    run: Callable[..., object] = app
    try:
        run(arguments)
    except MtlError as error:
        notes = "".join(f"\n  ({note})" for note in getattr(error, "__notes__", ()))
        _fail(f"{error}{notes}", error.exit_code)
    except OSError as error:
        if not (message := _os_error(error)):
            raise
        _fail(message, 1)
    except RuntimeError as error:
        if not (message := _lost_process(error)):
            raise
        _fail(message, 1)
    except SystemExit as ended:
        if ended.code in (INTERRUPTED, _TERMINATED):
            print(f"mtl: stopped; {_GO_ON}", file=sys.stderr)
        raise


def _leave_process_group() -> None:
    """End the threads of torch.distributed: an interpreter that ends with them aborts, with another exit code."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;]*m")
"""Colours that torch puts into its messages."""


def _fail(message: str, code: int) -> None:
    _leave_process_group()
    message = _TERMINAL_CODES.sub("", message)
    print(f"mtl: {message}", file=sys.stderr)
    sys.exit(code)


def _end_like_an_interrupt_on_sigterm() -> None:
    """SIGTERM unwinds the program as Ctrl-C does, so that loader processes and half-written files go away."""

    def ended(number: int, frame: object) -> None:
        raise Terminated(_TERMINATED)

    with contextlib.suppress(ValueError):  # not the main thread: whoever embeds the command handles signals
        signal.signal(signal.SIGTERM, ended)


def _os_error(error: OSError) -> str:
    """One line for an error of the operating system, or an empty string for one that names no reason."""
    if error.strerror is None:
        return ""
    where = f"{error.filename}: " if error.filename is not None else ""
    other = f" (with {error.filename2})" if error.filename2 is not None else ""
    remedy = {
        errno.ENOSPC: "; free some space, then go on: " + _GO_ON,
        errno.EDQUOT: "; free some space, then go on: " + _GO_ON,
        errno.EACCES: "; change its permissions, or choose another folder",
        errno.EROFS: "; choose another folder",
        errno.ENOTDIR: "; a file stands where a folder is expected: move it, or choose another folder",
        errno.EISDIR: "; a folder stands where a file is expected: move it, or choose another folder",
        errno.EEXIST: "; a file stands where a folder is expected: move it, or choose another folder",
        errno.ENAMETOOLONG: "; choose a shorter name",
        errno.ELOOP: "; a link leads to itself: remove it",
    }.get(error.errno or 0, "")
    return f"{where}{error.strerror}{other}{remedy}"


_LOST = ("DataLoader worker", "Connection closed by peer", "Connection reset by peer", "Connection was reset", "gloo")
"""What torch says when another process of the run is gone; a test holds these to the installed version."""


def _lost_process(error: RuntimeError) -> str:
    """One line where another process of the run was killed, or an empty string."""
    text = str(error)
    if not any(part in text for part in _LOST):
        return ""
    what = "a process that loads data" if "DataLoader worker" in text else "another process of the run"
    return f"{what} was killed (out of memory?); {_GO_ON}"


if __name__ == "__main__":
    main()
