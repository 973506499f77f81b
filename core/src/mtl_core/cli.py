"""The ``mtl`` command. Imports no torch until a command needs it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from mtl_core.errors import MtlError

if TYPE_CHECKING:
    from mtl_core.experiment import Experiment
    from mtl_core.suite import Job, Suite
    from mtl_core.suite.sets import Kind

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich",
    help="Multi-task learning when labels are missing and tasks fight.",
)  # fmt: skip

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")]
Checkpoint = Annotated[str, typer.Option(help="last, or best on validation data.")]


@app.command(epilog="Example: mtl train rooms.toml --out runs/rooms --set epochs=5")
def train(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An experiment (TOML).")],
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/NAME-SEED by default.")] = None,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the folder's run stopped.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
    each_task: Annotated[
        bool, typer.Option("--each-task", help="One run per task alone (STL); together one row of `mtl compare`.")
    ] = False,
    each_primary: Annotated[
        bool, typer.Option("--each-primary", help="One run with each task as the primary; together one row.")
    ] = False,
) -> None:
    """Train an experiment, evaluate it on the test split and write its report."""
    from mtl_core.settings import load_experiment

    experiment = load_experiment(file, overrides or [])
    if each_task and each_primary:
        raise MtlError("--each-task and --each-primary exclude each other")
    if each_task or each_primary:
        train_set(experiment, "task" if each_task else "primary", out, resume, quiet)
    else:
        train_one(experiment, out or Path("runs") / f"{experiment.name}-{experiment.seed}", resume, quiet)


def train_set(experiment: Experiment, kind: Kind, out: Path | None, resume: bool, quiet: bool) -> None:
    """Every run of the set, one after the other; with ``resume``, those that are finished are left alone."""
    from mtl_core.settings import dump_experiment
    from mtl_core.suite.begun import check_runs
    from mtl_core.suite.jobs import Job
    from mtl_core.suite.sets import each

    folder = out or Path("runs") / f"{experiment.name}-each-{kind}-{experiment.seed}"
    runs = each(experiment, kind)
    jobs = [Job(r.name, "", r.seed, t, folder / t, dump_experiment(r), r.epochs) for t, r in runs.items()]
    if resume:
        check_runs(jobs)
    for job, one in zip(jobs, runs.values(), strict=True):
        if not (resume and job.done):
            train_one(one, job.folder, resume, quiet)
    Console().print(f"set of runs {folder}", highlight=False, soft_wrap=True)


def train_one(experiment: Experiment, folder: Path, resume: bool, quiet: bool) -> None:
    from mtl_core.console import progress
    from mtl_core.runner import train as run_training

    with progress(experiment, quiet) as watch:
        run = run_training(experiment, folder, resume=resume, watch=watch)
    print_metrics(
        json.loads(run.results.read_text(encoding="utf-8"))["metrics"], f"{experiment.name}: test, last epoch"
    )
    Console().print(
        f"run folder  {run.folder}\nreport      {run.folder / 'report.html'}", highlight=False, soft_wrap=True
    )


@app.command(epilog="Example: mtl evaluate runs/rooms-0 --split test --json")
def evaluate(
    run: RunFolder,
    split: Annotated[str, typer.Option(help="The data set's split.")] = "test",
    checkpoint: Checkpoint = "last",
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Judge a run's network on a split.

    The last checkpoint on the test split is written to results.json, everything else to results-SPLIT-CHECKPOINT.json.
    """
    from mtl_core.run import Run, to_json
    from mtl_core.runner import evaluate_run

    metrics = evaluate_run(Run(run), split, checkpoint, tuple(overrides or ()))
    if as_json:
        print(to_json({"metrics": metrics}))
    else:
        print_metrics(metrics, f"{run}: {split}, {checkpoint} checkpoint")


@app.command(epilog="Example: mtl compare runs/reference-0 runs/method-0 runs/method-1")
def compare(
    reference: Annotated[
        Path, typer.Argument(metavar="REFERENCE", help="The run that Δ% refers to; with its other seeds among RUN.")
    ],
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Runs; several seeds of one name become mean ± sd.")
    ],
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="TASK/METRIC", help="A task's metric for Δ%, such as depth/rmse; repeatable."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare runs with a reference: every metric, and Δ% per task and in the mean."""
    from mtl_core.compare import compare as compare_runs
    from mtl_core.compare import table, with_its_seeds

    found = compare_runs(with_its_seeds(reference, runs), runs, metrics or ())
    if as_json:
        print(json.dumps(found.to_json()))
    else:
        Console().print(table(found))


@app.command(epilog="Example: mtl suite suite.toml --parallel 2 --set plugins.nyuv2.root=data/nyuv2")
def suite(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A suite (TOML): experiments, scenarios, seeds.")],
    out: Annotated[Path | None, typer.Option(help="Folder of its runs; runs/NAME by default.")] = None,
    overrides: Overrides = None,
    parallel: Annotated[int | None, typer.Option(min=1, help="Runs at a time.")] = None,
    cluster: Annotated[str | None, typer.Option(help="local or slurm.")] = None,
    reference: Annotated[
        str | None, typer.Option(metavar="NAME", help="Experiment that Δ% refers to, in place of the suite's.")
    ] = None,
    table_only: Annotated[bool, typer.Option("--table", help="Train nothing; print what is there.")] = False,
    as_json: Json = False,
) -> None:
    """Run every experiment of a suite that is not finished, and print the table.

    Started again it goes on where it stopped. The folder receives table.txt, table.json, table.tex and table.html.
    """
    from mtl_core.suite import collect, load_suite, run_suite
    from mtl_core.suite.results import to_json
    from mtl_core.suite.tables import rich_table, why_unwritten

    plan = load_suite(file, overrides or [], out)
    plan.set_engine(parallel=parallel, cluster=cluster)
    plan.set_reference(reference)
    failed = {} if table_only else run_suite(plan, reporter(plan))
    print(to_json(collect(plan))) if as_json else Console().print(rich_table(collect(plan)))
    problems = [problem for problem in (failures(plan, failed), why_unwritten(plan)) if problem]
    if problems:
        raise MtlError("\n".join(problems))


def reporter(plan: Suite) -> Callable[[Job, str], None]:
    """What says on standard error how a suite goes on, and writes its tables."""
    from mtl_core.suite.tables import why_unwritten

    console = Console(stderr=True, highlight=False, soft_wrap=True)

    def report(job: Job, what: str) -> None:
        done = sum(other.done for other in plan.jobs)
        console.print(f"{job.title}: {what} ({done} of {len(plan.jobs)} done)", markup=False)
        if problem := why_unwritten(plan):
            console.print(problem, markup=False)

    return report


def failures(plan: Suite, failed: Mapping[str, str]) -> str:
    """One line for each run that failed, or an empty string."""
    head = f"{plan.source}: {len(failed)} of {len(plan.jobs)} runs failed; the suite started again tries them again"
    return "\n  ".join([head, *(f"{title}: {why}" for title, why in failed.items())]) if failed else ""


@app.command(epilog="Example: mtl predict runs/rooms-0 photo.jpg --out predictions")
def predict(
    run: RunFolder,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Images (JPEG, PNG).")],
    out: Annotated[Path, typer.Option(help="Folder for labels and pictures.")] = Path("predictions"),
    checkpoint: Checkpoint = "last",
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Predict every task of images: labels as files, and a picture."""
    from mtl_core.predict import predict as predict_images
    from mtl_core.run import Run

    files = [str(path) for path in predict_images(Run(run), images, out, checkpoint, overrides or ())]
    print(json.dumps(files) if as_json else "\n".join(files))


@app.command(epilog="Example: mtl plugins --hooks")
def plugins(
    hooks: Annotated[
        bool, typer.Option("--hooks", help="Import each plugin in a process of its own and list its hooks.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the installed plugins."""
    from mtl_core.discovery import listing

    rows = listing(hooks)
    if as_json:
        print(json.dumps(rows))
        return
    columns = ["name", "distribution", "version", "status", *(["hooks"] if hooks else []), "reason"]
    shown = Table(*columns, box=None)
    for row in rows:
        cells = {**row, "hooks": " ".join(row["hooks"] or []), "reason": row["reason"] or ""}
        shown.add_row(*(str(cells[c]) for c in columns))
    Console().print(shown)


@app.command(epilog="Example: mtl explain ial")
def explain(
    name: Annotated[str, typer.Argument(metavar="PLUGIN", help="A plugin's name, or experiment.")],
    as_json: Json = False,
) -> None:
    """Say what a plugin computes: formula, source, cost, where it departs from its source, hooks and options."""
    from mtl_core.explain import explain as explain_plugin
    from mtl_core.explain import show

    record = explain_plugin(name)
    if as_json:
        print(json.dumps(record, ensure_ascii=False))
    else:
        show(record, Console(highlight=False))


def print_metrics(metrics: Mapping[str, float | None], title: str) -> None:
    shown = Table("task", "metric", "value", title=title, title_justify="left")
    for name, value in metrics.items():
        task, _, metric = name.partition("/")
        shown.add_row(task, metric, "–" if value is None else f"{value:.4g}")
    Console().print(shown)


INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command; a user's mistake is one message on standard error and exit code 2."""
    run: Callable[..., object] = app
    try:
        run(arguments)
    except MtlError as error:
        notes = "".join(f"\n  ({note})" for note in getattr(error, "__notes__", ()))
        print(f"mtl: {error}{notes}", file=sys.stderr)
        sys.exit(error.exit_code)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            print("mtl: stopped; mtl train goes on with --resume, mtl suite when it is started again", file=sys.stderr)
        raise


if __name__ == "__main__":
    main()
