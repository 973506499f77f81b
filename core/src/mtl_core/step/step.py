"""What regularizers and loss rules see of one training step.

Shape letters: V views, B samples, K tasks, O_t channels of task t, H and W image size.
"""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from mtl_core.errors import ContractError
from mtl_core.step.crops import label_views
from mtl_core.tasks.tasks import Tasks

Features = Tensor | tuple[Tensor, ...]


@attrs.define(eq=False)
class Step:
    """One training step, as far as it has come.

    ``images`` (V, B, 3, H, W); ``predictions`` task → (V, B, O_t, H, W) or (V, B, O_t), as the heads give them;
    ``targets`` task → (B, …), blank where ``labelled`` (B, K) is False; ``features`` z of all views, (V·B, C, h, w) or
    a tuple of them; ``index`` (B,) positions in the training data; ``losses`` (B, K), 0 where there is no label;
    ``task_losses``, ``task_means`` (K,) L_t and L̄_t of the global batch; ``active`` bool (K,);
    ``generator`` a CPU generator seeded by (seed, step, rank), ``shared`` one that is the same on every rank, for loss
    rules and gradient shapers; ``deepest`` the encoder's coarsest features of all views, (V·B, C, h, w), where the
    step has run a backbone; ``windows`` (V − 1, B, 3) what the views after the first show of it, None where all show
    the whole image; ``progress`` the share of the training that is done, 0 in its first step, 1 outside a run.
    """

    tasks: Tasks
    images: Tensor
    predictions: dict[str, Tensor]
    targets: dict[str, Tensor]
    labelled: Tensor
    features: Features
    index: Tensor
    losses: Tensor
    task_losses: Tensor
    task_means: Tensor
    active: Tensor
    generator: torch.Generator
    shared: torch.Generator = attrs.field(factory=torch.Generator)
    logged: dict[str, Tensor] = attrs.field(factory=dict)
    deepest: Tensor | None = None
    windows: Tensor | None = None
    progress: float = 1.0

    def log(self, name: str, value: Tensor) -> None:
        """Average a scalar over the epoch and write it to ``metrics.jsonl``; the plugin's name is put before it.

        :raises ContractError: the value is no tensor of shape ()
        """
        if not isinstance(value, Tensor) or value.ndim:
            found = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
            raise ContractError(f'step.log("{name}", ...) was given {found}, expected a scalar: a tensor of shape ()')
        self.logged[name] = value.detach()

    def targets_of(self, view: int) -> dict[str, Tensor]:
        """Labels of one view, task → (B, …)."""
        if view == 0 or self.windows is None:
            return self.targets
        # enlarging an image changes labels that are no classes, such as metric depth
        return label_views(self.tasks, self.targets, self.windows[view - 1])

    def valid(self, name: str) -> Tensor:
        """Pixels of a task's label that exist and count: bool (B, 1, H, W); all False for a withheld label."""
        return self.tasks[name].valid(self.targets[name])
