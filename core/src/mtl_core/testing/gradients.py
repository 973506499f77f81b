"""Branch gradients to try a gradient shaper on.

Shape letters: K tasks, D entries of z.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from mtl_core.seeds import generator_for
from mtl_core.step.encoder_gradients import Branch, EncoderGradients
from mtl_core.step.step import Features, Step
from mtl_core.tasks.tasks import Tasks
from mtl_core.testing.factories import make_step, make_tasks
from mtl_core.training.branching import weighted_sum
from mtl_core.training.gramian import gramian

Z = (2, 3, 2, 2)
"""Shape of z in the bank: D = 24."""

D = 24


def encoder_gradients(
    rows: Tensor,
    tasks: Tasks | None = None,
    active: Tensor | None = None,
    decoder_weights: Tensor | None = None,
    step: Step | None = None,
) -> EncoderGradients:
    """What the seam hands out for these gradients.

    :param rows: b_t (K, 24); an all-zero row is a branch that nothing reached
    :param active: bool (K,); by default the rows that are not zero
    :param decoder_weights: (K,); by default 1 for active tasks, 0 for the others
    """
    tasks = make_tasks() if tasks is None else tasks
    active = (rows != 0).any(1) if active is None else active
    branches = tuple((row.view(Z),) for row in rows)
    losses = active * torch.arange(1, len(tasks) + 1, dtype=rows.dtype, device=rows.device)
    return EncoderGradients(
        tasks=tasks,
        gramian=gramian(branches, torch.ones((), dtype=rows.dtype, device=rows.device)),
        active=active,
        losses=losses,
        means=losses,
        decoder_weights=active.to(rows.dtype) if decoder_weights is None else decoder_weights,
        branches=branches,
        step=step,
    )


def pyramid_gradients(rows: Tensor, tasks: Tasks | None = None, step: Step | None = None) -> EncoderGradients:
    """The same for z of two levels, of which the first task uses one.

    :param rows: (K, 24); the second half of the first one is left out
    """
    half = D // 2
    branches: list[Branch] = [(row[:half].view(2, 3, 2, 1), row[half:].view(2, 6, 1, 1)) for row in rows]
    branches[0] = (branches[0][0], None)
    made = encoder_gradients(rows, tasks, step=step)
    scale = torch.ones((), dtype=rows.dtype, device=rows.device)
    return attrs.evolve(made, branches=tuple(branches), gramian=gramian(tuple(branches), scale))


def turned_round(gradients: EncoderGradients) -> EncoderGradients:
    """The same gradients with the tasks in reverse order."""
    columns = {name: getattr(gradients, name).flip(0) for name in ("active", "losses", "means", "decoder_weights")}
    tasks = Tasks(list(gradients.tasks)[::-1])
    step = None if gradients.step is None else make_step(tasks)
    return attrs.evolve(
        gradients,
        tasks=tasks,
        gramian=gradients.gramian.flip(0, 1),
        branches=gradients.branches[::-1],
        step=step,
        **columns,
    )


def random_rows(tasks: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(tasks, D, dtype=torch.float64, generator=generator_for(seed, "rows")).to(dtype)


ROWS: dict[str, Callable[[Tensor], Tensor]] = {
    "random": lambda b: b,
    "conflicting": lambda b: torch.cat((b[:1], b[1:] * 0.3 - b[:1])),
    "orthogonal": lambda b: torch.linalg.qr(b.T.double())[0].T.to(b.dtype),
    "rank deficient": lambda b: b[:1] * torch.arange(1, len(b) + 1, dtype=b.dtype)[:, None],
    "uneven": lambda b: b * torch.logspace(-3, 3, len(b), dtype=b.dtype)[:, None],
    "last row zero": lambda b: b * (torch.arange(len(b)) < len(b) - 1)[:, None],
    "first row zero": lambda b: b * (torch.arange(len(b)) > 0)[:, None],
    "first row alone": lambda b: b * (torch.arange(len(b)) == 0)[:, None],
    "all zero": lambda b: b * 0,
    "tiny": lambda b: b * 1e-10,
    "huge": lambda b: b * 1e10,
}


def bank(tasks: Tasks | None = None, dtype: torch.dtype = torch.float64, seed: int = 0) -> dict[str, EncoderGradients]:
    """Finite gradients by name: conflicting, with zero rows, alone, rank-deficient, of every size."""
    tasks = make_tasks() if tasks is None else tasks
    step = make_step(tasks, seed=seed)
    b = random_rows(len(tasks), dtype, seed)
    made = {name: encoder_gradients(change(b), tasks, step=step) for name, change in ROWS.items()}
    # labels and gradients may disagree: a ReLU that is dead everywhere stops a labelled task's gradient, and a
    # regularizer sends one through the head of a task without a label
    labelled = torch.ones(len(tasks), dtype=torch.bool)
    made["labelled and not reached"] = encoder_gradients(ROWS["first row zero"](b), tasks, labelled, step=step)
    made["reached and not labelled"] = encoder_gradients(b, tasks, ~labelled, step=step)
    # the seam without the framework gives no step
    made["outside the framework"] = encoder_gradients(b, tasks)
    return made


def entering(gradients: EncoderGradients, answer: Features) -> Tensor:
    """The gradient that enters the encoder, flat: Σ_t weights_t · b_t, or the shaped gradient itself."""
    if isinstance(answer, Tensor) and answer.ndim == 1:
        parts = weighted_sum(gradients.branches, answer)
    else:
        parts = (answer,) if isinstance(answer, Tensor) else tuple(answer)
    return torch.cat([part.reshape(-1) for part in parts if part is not None])


def to_meta(gradients: EncoderGradients) -> EncoderGradients:
    """The same gradients on the ``meta`` device."""
    names = ("gramian", "active", "losses", "means", "decoder_weights")
    moved = {name: getattr(gradients, name).to("meta") for name in names}
    branches = tuple(_branch_to_meta(levels) for levels in gradients.branches)
    return attrs.evolve(gradients, branches=branches, **moved)


def _branch_to_meta(levels: Branch) -> Branch:
    return tuple(None if level is None else level.to("meta") for level in levels)
