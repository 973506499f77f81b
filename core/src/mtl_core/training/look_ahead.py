"""A look at the network one step ahead: its losses at other parameters and on another batch, without a trace.

Shape letters: B samples of a rank, K tasks, W ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs
import torch
import torch.distributed as dist
from torch import Tensor
from torch.func import functional_call
from torch.optim import Optimizer

from mtl_core.data.sample import Batch
from mtl_core.seeds import generator_for, seed_torch
from mtl_core.step.look_ahead import LookAhead, Parameters, Source
from mtl_core.training import losses as loss
from mtl_core.training.network import as_float
from mtl_core.training.step import TrainingStep


@attrs.frozen(eq=False)
class StepAhead(LookAhead):
    """The :class:`LookAhead` of a run.

    Nothing that is asked of it changes parameters, their gradients, batch-norm statistics or the step that follows.
    Losses are those of the supervised tasks in the network's current mode, in the parameters' own precision, without
    regularizers; dropout draws the same masks every time.

    :param step: the run's
    :param batch: the one that the step will see, as the loader gives it
    :param number: of the step's first micro-batch
    :param optimizer: of the run; rate, momentum and weight decay of a parameter's group are those of a virtual step
    :param second: where :meth:`second_batch` comes from, on the step's device
    """

    step: TrainingStep
    batch: Batch
    number: int
    optimizer: Optimizer
    second: Callable[[Source], Batch]
    made: dict[str, Batch] = attrs.field(factory=dict, init=False)
    """Batches that a plugin has asked for, so that several plugins see the same ones."""

    @property
    def learning_rate(self) -> float:
        """η, of the main parameter group, as the schedule has it now."""
        rate: float = self.optimizer.param_groups[0]["lr"]
        return rate

    @property
    def train_batch(self) -> Batch:
        """The step's batch, augmented as the step itself will do it: its view 0."""
        return self._once("step", self._step_batch)

    def second_batch(self, source: Source = "training") -> Batch:
        """B other samples, in an order of their own that (seed, step) fixes.

        :param source: training data, transformed and augmented, or the validation data, as they are
        :raises MtlError: there is no validation data
        """
        return self._once(source, lambda: self._augmented_second(source))

    def _once(self, name: str, make: Callable[[], Batch]) -> Batch:
        if name not in self.made:
            self.made[name] = make()
        return self.made[name]

    def _step_batch(self) -> Batch:
        step = self.step
        images = self.batch.images
        generator = generator_for(step.seed, "step", self.number, step.rank)
        views, _ = step.views_of(images, generator)
        return self.batch._replace(images=views[0])

    def _augmented_second(self, source: Source) -> Batch:
        batch = self.second(source)
        step = self.step
        images = as_float(batch.images)
        if source == "training":
            generator = generator_for(step.seed, "look-ahead", self.number, step.rank)
            images = step.hooks.augment(images, generator)
        return batch._replace(images=images)

    def parameters(self, heads: bool = True) -> Parameters:
        """The network's trained parameters, shared and heads', as leaves of their own.

        :param heads: False for the shared ones only
        """
        network = self.step.network
        kept = {n: p for n, p in network.named_parameters() if p.requires_grad and (heads or n.startswith("backbone."))}
        # detached: they share the values, but their gradients do not reach the .grad of the network
        return {name: p.detach().requires_grad_() for name, p in kept.items()}

    def losses(self, batch: Batch, parameters: Parameters | None = None) -> Tensor:
        """L_t of a batch, (K,): the global batch's, with this rank's gradients; 0 for a task without a label.

        :param batch: :attr:`train_batch` or :meth:`second_batch`
        :param parameters: in place of the network's own; those that are missing are its own
        """
        step = self.step
        network = self.step.network
        # copies: batch norm writes its running statistics in the forward pass, and this one leaves no trace
        buffers = {name: b.clone() for name, b in network.named_buffers()}
        # the same masks of dropout for every set of parameters: a difference of two losses is then not noise
        seed_torch(batch.images.device, step.seed, "look-ahead", self.number, step.rank)
        # functional_call swaps parameters, which a compiled module was not traced for
        with torch.compiler.set_stance("force_eager"):
            predictions = functional_call(network, {**(parameters or {}), **buffers}, (batch.images,))
        losses = loss.sample_losses(step.tasks, predictions, batch.targets, batch.labelled)
        found = loss.task_losses(losses, batch.labelled, step.normalize, step.group)[0]
        # x + (mean - x) may differ in its last bit between ranks; a mean of it does not
        return found if found.requires_grad else loss.summed(found, step.group) / loss.world(step.group)

    def active(self, batch: Batch) -> Tensor:
        """Which tasks have a label in the global batch, bool (K,)."""
        return loss.summed(batch.labelled.sum(0), self.step.group) > 0

    def gradient(self, total: Tensor, parameters: Parameters) -> Parameters:
        """Gradient of a scalar, the mean over the ranks as the step's own; 0 where it does not depend on a parameter.

        :param total: made of :meth:`losses` at these parameters
        """
        found = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
        pairs = zip(parameters.items(), found, strict=True)
        gradient = {name: torch.zeros_like(p) if g is None else g for (name, p), g in pairs}
        return gradient if self.step.group is None else _averaged(gradient, self.step.group)

    def stepped(self, parameters: Parameters, gradient: Mapping[str, Tensor]) -> Parameters:
        """Parameters after a virtual step: θ − η(g + weight decay·θ + momentum·velocity), new leaves.

        Adam's scaling is left out, its weight decay is not.
        """
        groups = self.optimizer.param_groups
        own = dict(self.step.network.named_parameters())
        group_of = {id(p): group for group in groups for p in group["params"]}
        moved = {}
        for name, p in parameters.items():
            group = group_of.get(id(own[name]), groups[0])
            decay = group.get("weight_decay", 0.0)
            momentum = group.get("momentum", 0.0)
            # none before the first step, and none with Adam or without momentum
            velocity = self.optimizer.state.get(own[name], {}).get("momentum_buffer")
            push = 0.0 if velocity is None else momentum * velocity
            moved[name] = (p.detach() - group["lr"] * (gradient[name] + decay * p.detach() + push)).requires_grad_()
        return moved


def _averaged(gradient: Parameters, group: dist.ProcessGroup) -> Parameters:
    """The mean over the ranks, sent in one piece."""
    flat = loss.summed(torch.cat([g.flatten() for g in gradient.values()]), group) / loss.world(group)
    parts = torch.split(flat, [g.numel() for g in gradient.values()])
    return {name: part.view_as(g) for (name, g), part in zip(gradient.items(), parts, strict=True)}
