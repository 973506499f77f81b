"""``mtl reproduce``: a paper's table with one command. Checks, what it costs, the runs, ours beside the paper's."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mtl_core import ExperimentError, MtlError, plain_json, write_text
from mtl_suite.commands import Json, Overrides, failures, reporter

if TYPE_CHECKING:
    from mtl_suite.cost import Estimate
    from mtl_suite.plan import Suite
    from mtl_suite.versus import Versus

_STEPS = 10
"""Steps that are timed of each experiment."""


def reproduce(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The suite (TOML) of a paper's table.")],
    published: Annotated[
        list[Path] | None,
        typer.Option(help="Published figures (TOML), repeatable; those in published/ beside FILE by default."),
    ] = None,
    cost_only: Annotated[bool, typer.Option("--cost", help="Measure what it will cost, and stop.")] = False,
    any_device: Annotated[bool, typer.Option("--any-device", help="Start on a CPU too.")] = False,
    table_only: Annotated[bool, typer.Option("--table", help="Train nothing; print what is there.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of its runs; runs/NAME by default.")] = None,
    overrides: Overrides = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="SEED,…", help="Seeds in place of the suite's, such as 0,1,2.")
    ] = None,
    parallel: Annotated[int | None, typer.Option(min=1, help="Runs at a time.")] = None,
    cluster: Annotated[str | None, typer.Option(help="local or slurm.")] = None,
    gpus: Annotated[int | None, typer.Option(min=0, help="GPUs of each Slurm job.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each experiment that are timed.")] = _STEPS,
    as_json: Json = False,
) -> None:
    """Make a paper's table: check data and device, measure the cost, run what is not finished, compare with the paper.

    Started again it goes on where it stopped. The folder receives the suite's tables, cost.json and published.json.

    Example: mtl reproduce docs/examples/suites/jtr-tab1.toml --cost
    """
    from mtl_suite.plan import load_suite
    from mtl_suite.published import beside, load_published

    plan = load_suite(file, overrides or [], out, seeds=_read_seeds(seeds))
    plan.set_engine(parallel=parallel, cluster=cluster, gpus=gpus)
    figures = [load_published(path, plan) for path in published or beside(file)]
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    failed: dict[str, str] = {}
    if cost_only or not (table_only or all(job.done for job in plan.jobs)):
        where = _check(plan, any_device or cost_only)
        place = "jobs of Slurm" if plan.engine.cluster == "slurm" and not cost_only else f"on {where}"
        errors.print(f"{plan.settings.name}: {len(plan.jobs)} runs, {place}", markup=False)
        costs = _costs_of(plan, where, steps, errors, cost_only)
        if cost_only:
            print(_cost_json(costs)) if as_json else Console().print(_cost_table(plan, costs, where))
            return
        if costs:
            errors.print(_cost_table(plan, costs, where))
        failed = _run(plan)
    _finish(plan, figures, failed, as_json)


def _read_seeds(text: str | None) -> tuple[int, ...] | None:
    """Seeds as the command line has them.

    :raises MtlError: they are not numbers with commas between them
    """
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise MtlError(f"--seeds {text}: expected numbers with commas between them, such as 0,1,2") from None


def _check(plan: Suite, any_device: bool) -> str:
    """Everything that is missing is told at once; gives what the runs train on.

    :raises ExperimentError: data, a split, weights or a device are missing
    """
    from mtl_suite.known import check_metrics
    from mtl_suite.ready import device_name, devices, missing, no_accelerator

    problems = missing(plan)
    refusal = None if any_device else no_accelerator(plan)
    if problems or refusal:
        raise ExperimentError(str(plan.source), [*problems, *([refusal] if refusal else [])])
    check_metrics(plan)
    return ", ".join(device_name(kind) for kind in devices(plan.jobs))


def _costs_of(plan: Suite, where: str, steps: int, errors: Console, asked: bool) -> list[Estimate]:
    """What is measured here. Jobs of a cluster run on other machines: for them only where the cost is asked for."""
    from mtl_suite.cost import estimate

    if plan.engine.cluster != "local" and not asked:
        errors.print("the cost is measured where the runs train: start --cost on such a machine", markup=False)
        return []
    return estimate(plan, where, steps, lambda line: errors.print(line, markup=False))


def _run(plan: Suite) -> dict[str, str]:
    from mtl_suite.engine import run_suite

    return run_suite(plan, reporter(plan))


def _finish(plan: Suite, figures: Sequence[Any], failed: dict[str, str], as_json: bool) -> None:
    """Print and write the tables; what failed is told last."""
    from mtl_suite.outputs import why_unwritten
    from mtl_suite.results import collect
    from mtl_suite.tables import rich_table
    from mtl_suite.versus import rich_versus, to_json, versus

    found = [versus(plan, one) for one in figures]
    if as_json:
        print(to_json(found))
    else:
        console = Console()
        console.print(rich_table(collect(plan)))
        for one in found:
            console.print(rich_versus(one))
        if not found:
            console.print("no published figures: name a file with --published", highlight=False)
    _write(plan, found)
    problems = [problem for problem in (failures(plan, failed), why_unwritten(plan)) if problem]
    if problems:
        raise MtlError("\n".join(problems))


def _write(plan: Suite, found: Sequence[Versus]) -> None:
    """``published.txt`` and ``published.json`` in the suite's folder."""
    from mtl_suite.versus import rich_versus, to_json

    console = Console(width=160, file=io.StringIO(), record=True)
    for one in found:
        console.print(rich_versus(one))
    plan.folder.mkdir(parents=True, exist_ok=True)
    write_text(plan.folder / "published.txt", console.export_text())
    write_text(plan.folder / "published.json", to_json(found))


def _cost_table(plan: Suite, costs: Sequence[Estimate], where: str) -> Table:
    """Hours of every row and of all, one run at a time, and the memory."""
    made = Table(
        title=escape(f"What {plan.settings.name} costs, on {where}"), title_justify="left",
        caption=escape(_cost_caption(plan, costs)), caption_justify="left",
    )  # fmt: skip
    # in 80 columns, with room for names
    made.add_column("", min_width=20)
    for header in ("runs", "left", "steps/\nepoch", "s/\nstep", "hours", "hours\nleft", "peak\nGiB"):
        made.add_column(header, justify="right")
    for name, scenario in plan.scenarios.items():
        if title := scenario.title or name:
            made.add_row(escape(title), style="bold")
        for one in costs:
            if one.scenario == name:
                made.add_row(*_cost_row(plan, one))
        made.add_section()
    runs = sum(one.runs[0] for one in costs)
    left = sum(one.runs[1] for one in costs)
    total, still, peak = _totals(costs)
    made.add_row("all", str(runs), str(left), "", "", f"{total:.3g}", f"{still:.3g}", f"{peak / 1024:.1f}")
    return made


def _cost_row(plan: Suite, one: Estimate) -> list[str]:
    """What one row of the suite costs, or why it was not measured."""
    begin = [escape(plan.entries[one.row].title or one.row), *map(str, one.runs)]
    measured = one.measured
    if measured is None or one.hours is None:
        return [*begin, *["–"] * 5]
    hours = [f"{value:.3g}" for value in one.hours]
    return [*begin, str(measured.steps), f"{measured.seconds:.3g}", *hours, f"{measured.peak_mib / 1024:.1f}"]


def _totals(costs: Sequence[Estimate]) -> tuple[float, float, float]:
    """Hours of all runs and of those that are left, and the largest peak in MiB."""
    hours = [one.hours for one in costs if one.hours is not None]
    peaks = [one.measured.peak_mib for one in costs if one.measured is not None]
    return sum(h[0] for h in hours), sum(h[1] for h in hours), max(peaks, default=0.0)


def _cost_caption(plan: Suite, costs: Sequence[Estimate]) -> str:
    lines = [
        "Hours of training steps, one run after the other; start-up, validation and the evaluation at the end of a run"
        " are not in them.",
    ]
    if plan.engine.parallel > 1:
        lines.append(f"{plan.engine.parallel} runs at a time share a device, or take less time on one each.")
    # the reasons once: in a cell they would leave no room for the other columns
    for note in dict.fromkeys(one.note for one in costs if one.measured is None):
        lines.append(f"Not measured, and not in the sum: {note}.")
    return "\n".join(lines)


def _cost_json(costs: Sequence[Estimate]) -> str:
    total, left, peak = _totals(costs)
    rows = [
        {
            "scenario": one.scenario, "row": one.row, "runs": one.runs[0], "left": one.runs[1],
            "hours": None if one.hours is None else one.hours[0],
            "hours_left": None if one.hours is None else one.hours[1],
            "seconds_per_step": None if one.measured is None else one.measured.seconds,
            "steps_per_epoch": None if one.measured is None else one.measured.steps,
            "peak_mib": None if one.measured is None else one.measured.peak_mib,
            "not_measured": one.note or None,
        }
        for one in costs
    ]  # fmt: skip
    return json.dumps(plain_json({"hours": total, "hours_left": left, "peak_mib": peak, "rows": rows}), indent=2)
