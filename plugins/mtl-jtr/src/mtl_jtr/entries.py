"""The stacks' entries with the released code's switches.

Shape letters: B samples, O channels of all tasks together, O_t of task t, H and W image size.
"""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from mtl_core import Depth, Normals, Segmentation, Step, Task, Tasks, at_least_float32, generator_beside
from mtl_jtr.options import Switches

_MEAN = 2.3618
_DEVIATION = 1.5876
"""Metres: of NYU-v2's depth, in the released code also for other data."""


def cdf(depth: Tensor) -> Tensor:
    """Φ((d − 2.3618) / 1.5876), 0 to 1."""
    share: Tensor = torch.special.ndtr((depth - _MEAN) / _DEVIATION)
    return share


def _hard_sample(logits: Tensor, noise: Tensor) -> Tensor:
    """One-hot Gumbel-softmax samples of temperature 1 over dimension 1, with the soft samples' gradient."""
    soft = (logits + noise).softmax(1)
    hard = torch.zeros_like(soft).scatter_(1, soft.argmax(1, keepdim=True), 1.0)
    return hard + (soft - soft.detach())


def _gumbel(like: Tensor, generator: torch.Generator) -> Tensor:
    """Gumbel noise, drawn where ``like`` is."""
    uniform = torch.rand(like.shape, generator=generator_beside(like, generator), device=like.device).to(like.dtype)
    return -(-uniform.clamp(min=1e-20).log()).log()


@attrs.frozen(eq=False)
class _Part:
    """One task in one view.

    :param output: what the head gives, (B, O_t, H, W); detached where the sample has the label, if a switch says so
    :param label: in label space, 0 at invalid pixels, (B, O_t, H, W)
    :param known: which samples carry the label, bool (B, 1, 1, 1)
    :param valid: pixels of a label that count, bool (B, 1, H, W)
    """

    task: Task
    output: Tensor
    label: Tensor
    known: Tensor
    valid: Tensor

    @property
    def prediction(self) -> Tensor:
        return self.task.to_label_space(self.output)


def _part(step: Step, task: Task, targets: dict[str, Tensor], view: int, detach: bool) -> _Part:
    output = at_least_float32(step.predictions[task.name][view])
    target = targets[task.name]
    known = step.labelled[:, step.tasks.position(task.name), None, None, None]
    valid = task.valid(target)
    label = task.encode(target).to(output.dtype)
    output = torch.where(known, output.detach(), output) if detach else output
    return _Part(task, output, torch.where(valid, label, torch.zeros_like(label)), known, valid)


@attrs.frozen(eq=False)
class View:
    """The parts of one view's stacks.

    :param counted: pixels that count, bool (B, 1, H, W): with shared validity those at which every label that the
        sample carries is valid, else all
    """

    parts: list[_Part]
    counted: Tensor
    switches: Switches
    depth_scale: float
    generator: torch.Generator

    @classmethod
    def of(cls, step: Step, tasks: Tasks, view: int, switches: Switches, depth_scale: float) -> View:
        targets = step.targets_of(view)
        parts = [_part(step, task, targets, view, switches.detach_labelled) for task in tasks]
        valid = torch.stack([p.valid | ~p.known for p in parts]).all(0)
        counted = valid if switches.validity == "shared" else torch.ones_like(valid)
        return cls(parts, counted, switches, depth_scale, step.generator)

    def guess(self, soft: bool = False) -> list[Tensor]:
        """Ŷ, task by task.

        :param soft: probabilities of classes, not samples
        """
        return [self._entered(p, soft) for p in self.parts]

    def known(self) -> list[Tensor]:
        """Y, task by task, with draws of its own."""
        return [torch.where(self._taken(p), self._formed(p.task, p.label), self._entered(p)) for p in self.parts]

    def _taken(self, p: _Part) -> Tensor:
        """Where Y has the label: with shared validity also at its invalid pixels, as 0."""
        return p.known if self.switches.validity == "shared" else p.known & p.valid

    def _entered(self, p: _Part, soft: bool = False) -> Tensor:
        """A prediction as it enters; 0 in label space where a pixel does not count."""
        drawn = self._is_drawn(p) and not soft
        values = _hard_sample(p.output, _gumbel(p.output, self.generator)) if drawn else p.prediction
        return self._formed(p.task, torch.where(self.counted, values, torch.zeros_like(values)))

    def _formed(self, task: Task, values: Tensor) -> Tensor:
        if isinstance(task, Depth) and self.switches.depth_as == "cdf":
            return cdf(values)
        if isinstance(task, Normals) and self.switches.normals_as == "positive":
            return (values + 1) / 2
        return values / self._unit(task)

    def _is_drawn(self, p: _Part) -> bool:
        return isinstance(p.task, Segmentation) and self.switches.segmentation_as == "samples"

    def _unit(self, task: Task) -> float:
        """Metres that are 1 in the stacks."""
        return self.depth_scale if isinstance(task, Depth) and self.switches.depth_as == "metres" else 1.0

    def guess_targets(self, entries: list[Tensor]) -> list[Tensor]:
        """What L_Recon compares g(Ŷ) with: what entered; of classes always a sample, drawn anew."""
        targets = []
        for p, entry in zip(self.parts, entries, strict=True):
            targets.append(self._entered(p) if self._is_drawn(p) else entry * self._unit(p.task))
        return targets

    def known_targets(self, entries: list[Tensor]) -> list[Tensor]:
        """What L_Recon compares g(Y) with: of classes what entered, else labels and predictions in label space."""
        targets = []
        for p, entry in zip(self.parts, entries, strict=True):
            known = torch.where(self._taken(p), p.label, p.prediction)
            targets.append(entry if isinstance(p.task, Segmentation) else known)
        return targets
