"""The maps that enter m: the label of a task where a sample has one, else its prediction.

A pair's source has no label and its target has one, so that no sample needs both maps of a task.
Shape letters: B samples, O channels of the task, H and W image size.
"""

from __future__ import annotations

from typing import Literal

import attrs
import torch
from torch import Tensor

from mtl_core import Depth, Normals, Segmentation, Step, Task, at_least_float32, generator_beside


@attrs.frozen(kw_only=True)
class Forms:
    """How values look when they enter m; the plugin's options of these names."""

    segmentation_as: Literal["probabilities", "samples"]
    depth_as: Literal["metres", "share"]
    normals_as: Literal["unit", "positive"]
    mask_invalid: bool


def known_or_predicted(step: Step, task: Task, view: int, target: Tensor, forms: Forms) -> Tensor:
    """y^t or ŷ^t, (B, O, H, W).

    Pixels of a label that are invalid take the prediction, detached; with ``mask_invalid`` off they are zeros.

    :param target: the labels as the view shows them
    """
    prediction = _formed(task, _predicted(step, task, view, forms), forms)
    label = task.encode(target).to(prediction.dtype)
    invalid = ~task.valid(target)
    if forms.mask_invalid:
        label = torch.where(invalid, prediction.detach(), _formed(task, label, forms))
    else:
        label = _formed(task, torch.where(invalid, torch.zeros_like(label), label), forms)
    return torch.where(_has_label(step, task), label, prediction)


def _predicted(step: Step, task: Task, view: int, forms: Forms) -> Tensor:
    """A view's prediction in label space, (B, O, H, W); classes as a sample where that is asked for."""
    given = at_least_float32(step.predictions[task.name][view])
    if isinstance(task, Segmentation) and forms.segmentation_as == "samples":
        return _hard_sample(given, step.generator)
    return task.to_label_space(given)


def _formed(task: Task, values: Tensor, forms: Forms) -> Tensor:
    if isinstance(task, Depth) and forms.depth_as == "share":
        return values / _positive(values.amax((1, 2, 3), keepdim=True))
    if isinstance(task, Normals) and forms.normals_as == "positive":
        return (values + 1) / 2
    return values


def _positive(values: Tensor) -> Tensor:
    """Values, 1 where they are not above 0: a map without depth stays as it is."""
    return torch.where(values > 0, values, torch.ones_like(values))


def _hard_sample(logits: Tensor, generator: torch.Generator) -> Tensor:
    """A one-hot sample per pixel, with the gradient of the softmax that it was drawn from.

    Jang et al., Categorical Reparameterization with Gumbel-Softmax, ICLR 2017, temperature 1, straight through.
    """
    own = generator_beside(logits, generator)
    uniform = torch.rand(logits.shape, generator=own, device=logits.device).clamp(min=torch.finfo(torch.float32).tiny)
    soft = (logits - (-uniform.log()).log()).softmax(1)
    hard = torch.zeros_like(soft).scatter_(1, soft.argmax(1, keepdim=True), 1.0)
    return hard - soft.detach() + soft


def _has_label(step: Step, task: Task) -> Tensor:
    """bool (B, 1, 1, 1)"""
    return step.labelled[:, step.tasks.position(task.name), None, None, None]
