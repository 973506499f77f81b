"""What JTR costs: its step against the supervised step of the same network, and against the equations written naively.

Only core and mtl-jtr are needed. SegNet, B = 4, 96 × 128, three tasks of 13 + 1 + 3 channels, one label per sample.
Steps alternate, so that a noisy neighbour hits all of them; ``--clock cpu`` counts the process's own time, which a busy
machine disturbs less. Example: ``python tests/benchmarks/jtr_step.py --width 64 --pairs 15``
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtl_core import Depth, Normals, Segmentation, Step, Tasks
from mtl_core.testing import StubBackbone, make_batch, with_losses
from mtl_jtr import JTR, stacks
from mtl_nn import SegNet, SegNetHead

TASKS = Tasks([Segmentation(name="segmentation", channels=13), Depth(name="depth"), Normals(name="normals")])
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
Regularizer = Callable[[Step], Iterable[Tensor]]


def nothing(step: Step) -> Iterable[Tensor]:
    return []


def naive(jtr: JTR) -> Regularizer:
    """Eq. 5 as it is printed: four encodings, two decodings."""

    def terms(step: Step) -> Iterable[Tensor]:
        space = jtr.space
        guess, known = stacks(step, space.tasks, space.units)
        a, b = (jtr.g.encode(stack).features.flatten(1) for stack in (guess, known))
        yield jtr.c_dist * (1 - F.cosine_similarity(a, b)).mean()
        for stack in (guess.detach(), known.detach()):
            yield jtr.c_recon * torch.stack(list(space.reconstructed(jtr.g(stack), stack).values())).sum()

    return terms


def plugin(width: int, **options: bool) -> JTR:
    made = JTR(**options)
    made.setup("jtr", TASKS, StubBackbone(width), nn.ModuleDict())
    return made


def make_training(width: int, regularize: Regularizer, learned: nn.Module | None = None) -> Callable[[], None]:
    """A whole optimizer step on one batch."""
    torch.manual_seed(0)
    heads = nn.ModuleDict({task.name: SegNetHead(width, task.channels) for task in TASKS})
    trained = nn.ModuleList([SegNet(3, width), heads, *([learned] if learned else [])])
    optimizer = torch.optim.Adam(trained.parameters(), lr=1e-4, fused=True)
    batch = make_batch(TASKS, torch.eye(3, dtype=torch.bool)[torch.arange(4) % 3], size=(96, 128))

    def train() -> None:
        z = trained[0](batch.images)
        predictions = {name: head(z)[None] for name, head in heads.items()}
        unknown = torch.empty(0)
        judgement = dict.fromkeys(("losses", "task_losses", "task_means", "active"), unknown)
        step = with_losses(
            Step(tasks=TASKS, images=batch.images[None], predictions=predictions, targets=batch.targets,
                 labelled=batch.labelled, features=z, index=batch.index, generator=torch.Generator(), **judgement)
        )  # fmt: skip
        torch.stack([step.task_losses.sum(), *regularize(step)]).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return train


def measure(width: int, pairs: int, clock: Callable[[], float]) -> dict[str, object]:
    jtr = plugin(width)
    plain = plugin(width, channels_last=False)
    written_out = plugin(width, channels_last=False)
    sparing = plugin(width, checkpoint=True)
    steps = {
        "supervised": make_training(width, nothing),
        "jtr": make_training(width, lambda step: jtr.compute_regularizer(step).values(), jtr),
        "jtr, channels first": make_training(width, lambda step: plain.compute_regularizer(step).values(), plain),
        "jtr, checkpoint": make_training(width, lambda step: sparing.compute_regularizer(step).values(), sparing),
        "equations written out": make_training(width, naive(written_out), written_out),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(pairs + 1):
        for name, train in list(steps.items())[:: 1 if turn % 2 else -1]:
            started = clock()
            train()
            times[name].append(clock() - started)
    reference = times.pop("supervised")[1:]
    return {
        name: quartiles([a / b for a, b in zip(found[1:], reference, strict=True)]) for name, found in times.items()
    }


def quartiles(ratios: list[float]) -> dict[str, object]:
    low, median, high = (round(q, 3) for q in statistics.quantiles(ratios, n=4))
    return {"median": median, "quartiles": [low, high], "pairs": len(ratios)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    options = parser.parse_args()
    print(json.dumps(measure(options.width, options.pairs, CLOCKS[options.clock]), indent=2))


if __name__ == "__main__":
    main()
