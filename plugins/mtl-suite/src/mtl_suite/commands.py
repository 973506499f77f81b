"""The commands ``mtl compare``, ``mtl suite`` and ``mtl train-each``. Imports no torch until something is trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mtl_core import MtlError

if TYPE_CHECKING:
    from mtl_suite.jobs import Job
    from mtl_suite.plan import Suite

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Markdown = Annotated[bool, typer.Option("--markdown", help="Print the table in Markdown.")]
_Plot = Annotated[
    Path | None, typer.Option("--plot", metavar="FILE", help="Draw every seed, mean and deviation: an .svg or .png.")
]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting.")]


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
    labels: Annotated[
        list[str] | None, typer.Option("--label", metavar="RUN=NAME", help="Another name for a run; repeatable.")
    ] = None,
    picture: _Plot = None,
    as_markdown: _Markdown = False,
    as_json: Json = False,
) -> None:
    """Compare runs with a reference: every metric, and Δ% per task and in the mean.

    The plot has a panel for each metric that Δ% uses.

    Example: mtl compare runs/reference-0 runs/method-0 runs/method-1
    """
    from mtl_suite.compare import compare as compare_runs
    from mtl_suite.compare import table, with_its_seeds
    from mtl_suite.labels import read_labels
    from mtl_suite.markdown import markdown
    from mtl_suite.plot import headline_only, plot
    from mtl_suite.results import compared

    _check_output(picture, as_markdown, as_json)
    names = read_labels(labels or (), [reference, *runs])
    found = compare_runs(with_its_seeds(reference, runs, names), runs, metrics or (), names)
    if as_json:
        print(json.dumps(found.to_json()))
    elif as_markdown:
        print(markdown(compared(found)), end="")
    else:
        Console().print(table(found))
    if picture is not None:
        plot(headline_only(compared(found))).save(picture)


def _check_output(picture: Path | None, as_markdown: bool, as_json: bool) -> None:
    """What a command is asked for can be had, which is better known before anything is trained.

    :raises MtlError: JSON and Markdown together, or a picture that cannot be written
    """
    from mtl_suite.drawing import check_file

    if as_markdown and as_json:
        raise MtlError("--markdown and --json exclude each other: choose what is printed")
    if picture is not None:
        check_file(picture)


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
    picture: _Plot = None,
    as_markdown: _Markdown = False,
    as_json: Json = False,
) -> None:
    """Run every experiment of a suite that is not finished, and print the table.

    Started again it goes on where it stopped. The folder receives table.txt, .json, .tex, .html and .md, and plot.svg.

    Example: mtl suite suite.toml --parallel 2 --set plugins.nyuv2.root=data/nyuv2
    """
    from mtl_suite.engine import run_suite
    from mtl_suite.markdown import markdown
    from mtl_suite.outputs import why_unwritten
    from mtl_suite.plan import load_suite
    from mtl_suite.plot import drawn_metrics, plot
    from mtl_suite.results import collect, to_json
    from mtl_suite.tables import rich_table

    _check_output(picture, as_markdown, as_json)
    plan = load_suite(file, overrides or [], out)
    plan.set_engine(parallel=parallel, cluster=cluster)
    plan.set_reference(reference)
    failed = {} if table_only else run_suite(plan, reporter(plan))
    table = collect(plan)
    if as_json:
        print(to_json(table))
    elif as_markdown:
        print(markdown(table), end="")
    else:
        Console().print(rich_table(table))
    if picture is not None and (not failed or drawn_metrics(table)):  # without a result what failed is the message
        plot(table).save(picture)
    problems = [problem for problem in (failures(plan, failed), why_unwritten(plan)) if problem]
    if problems:
        raise MtlError("\n".join(problems))


def reporter(plan: Suite) -> Callable[[Job, str], None]:
    """What says on standard error how a suite goes on, and writes its tables."""
    from mtl_suite.outputs import why_unwritten

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


def train_each(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An experiment (TOML).")],
    primary: Annotated[
        bool, typer.Option("--primary", help="One run with each task as the primary, in place of each task alone.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="The folder of the runs; runs/NAME-each-…-SEED by default.")] = None,
    overrides: Overrides = None,
    added: Annotated[list[str] | None, typer.Option("--with", metavar="PLUGIN", help="Add a plugin.")] = None,
    dropped: Annotated[
        list[str] | None, typer.Option("--without", metavar="PLUGIN", help="Leave a plugin out.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Leave finished runs alone, go on with the others.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Train one run per task: each task alone (STL), or each in turn as the primary; one row of `mtl compare`.

    Example: mtl train-each rooms.toml --out runs/stl
    """
    from mtl_core import dump_experiment, is_rank_zero, load_experiment, train_and_print
    from mtl_suite.existing_runs import check_runs
    from mtl_suite.jobs import Job
    from mtl_suite.sets import Kind, each

    experiment = load_experiment(file, overrides or (), added or (), dropped or ())
    kind: Kind = "primary" if primary else "task"
    folder = out or Path("runs") / f"{experiment.name}-each-{kind}-{experiment.seed}"
    runs = each(experiment, kind)
    jobs: list[Job] = []
    for task, one in runs.items():
        text = dump_experiment(one, anchored=True)
        jobs.append(Job(one.name, "", one.seed, task, folder / task, text, one.epochs))
    if resume:
        check_runs(jobs)
    for job, one in zip(jobs, runs.values(), strict=True):
        if not (resume and job.done):
            train_and_print(one, job.folder, resume, quiet)
    if is_rank_zero():
        Console().print(f"set of runs {folder}", highlight=False, markup=False, soft_wrap=True)
