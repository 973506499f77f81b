"""`make demo`: two networks on images that carry one of three labels each, with the same budget; table and pictures."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from rich.console import Console

from mtl_core import RunFolder, load_experiment, progress, train
from mtl_suite.compare import compare, table

HERE = Path(__file__).parent
console = Console()


def run_one(file: Path, out: Path) -> RunFolder:
    experiment = load_experiment(file)
    shutil.rmtree(out, ignore_errors=True)
    with progress(experiment) as watch:
        return train(experiment, out, watch=watch)


def main(runs: Path = Path("runs/demo")) -> None:
    began = time.monotonic()
    console.print("Rendered rooms, 256 images; each carries [bold]one[/bold] of segmentation, depth and normals.")
    names = ("demo-supervised", "demo-jtr-ial")
    done = [run_one(HERE / f"{name}.toml", runs / name) for name in names]
    console.print(table(compare([done[0].folder], [run.folder for run in done])))
    for run in done:
        console.print(
            f"pictures {run.pictures / 'predictions.png'}\nreport   {run.folder / 'report.html'}", soft_wrap=True
        )
    console.print(f"One seed and {time.monotonic() - began:.0f} s: see docs/results.md for what longer runs measured.")


if __name__ == "__main__":
    main(*(Path(a) for a in sys.argv[1:2]))
