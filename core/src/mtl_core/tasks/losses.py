"""The losses that an experiment may choose for a task, one function each.

Shape letters: B samples, C classes, O channels of a task, H and W image size. Every function gives the loss of each
pixel, (B, 1, H, W), or of each image, (B, 1); a task's own :meth:`~mtl_core.Task.loss` is the mean over the valid ones.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional as F


@functools.lru_cache(maxsize=256)
def row(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Numbers as a tensor on a device; it is kept there, so that no step copies it from the host."""
    # a tensor that is made in inference mode could not be used in training later
    with torch.inference_mode(False):
        return torch.tensor(values, device=device)


def cross_entropy(logits: Tensor, classes: Tensor, weights: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy: −w_y ln p_y; with smoothing ε: −(1 − ε) w_y ln p_y − (ε / C) Σ_c w_c ln p_c. In nats.

    Label smoothing: Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, Sec. 7.

    :param logits: (B, C, …)
    :param classes: long (B, …), from 0
    :param weights: w (C,)
    """
    return F.cross_entropy(logits, classes, weights, reduction="none", label_smoothing=smoothing).unsqueeze(1)


def focal(logits: Tensor, classes: Tensor, weights: Tensor | None = None, gamma: float = 2.0) -> Tensor:
    """Focal loss: −w_y (1 − p_y)^γ ln p_y, which counts pixels less that are right already. In nats.

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, Eq. 5, for C classes by a softmax; the paper has
    two classes by a sigmoid.

    :param logits: (B, C, …)
    :param classes: long (B, …), from 0
    :param weights: w (C,), the paper's α
    """
    log_p = logits.log_softmax(1).gather(1, classes.unsqueeze(1))
    loss = -((1 - log_p.exp()) ** gamma) * log_p
    return loss if weights is None else loss * weights[classes].unsqueeze(1)


def l1(prediction: Tensor, target: Tensor) -> Tensor:
    """|ŷ − y|, the mean over the channels, in the label's unit. Both (B, O, …)."""
    return _channel_mean((prediction - target).abs())


def l2(prediction: Tensor, target: Tensor) -> Tensor:
    """(ŷ − y)², the mean over the channels, in the square of the label's unit. Both (B, O, …)."""
    return _channel_mean((prediction - target).square())


def _channel_mean(error: Tensor) -> Tensor:
    """(B, O, …) → (B, 1, …)."""
    # most have one channel: its mean would be two kernels for nothing
    return error if error.shape[1] == 1 else error.mean(1, keepdim=True)


def berhu(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Reverse Huber: |e| where |e| ≤ c, else (e² + c²) / 2c, with e = ŷ − y and c = max |e| / 5, in the label's unit.

    Laina et al., "Deeper Depth Prediction with Fully Convolutional Residual Networks", 3DV 2016, Sec. 3.2. The paper
    takes the maximum over all images of a batch; here it is over the valid pixels of each image, so that an image's
    loss does not depend on the others. No gradient goes through c.

    :param prediction: (B, O, H, W)
    :param target: (B, O, H, W), finite everywhere
    :param valid: bool (B, 1, H, W)
    """
    error = (prediction - target).abs()
    known = torch.where(valid, error.detach(), torch.zeros_like(error))
    c = known.flatten(1).amax(1).view(-1, *[1] * (error.ndim - 1)) / 5
    # without an error c is 0: the part that is not chosen would still give a gradient of 0/0
    c = torch.where(c > 0, c, torch.ones_like(c))
    return torch.where(error <= c, error, (error.square() + c.square()) / (2 * c)).mean(1, keepdim=True)


_LEAST_DEPTH = 0.1
"""Below this value, in the label's unit, :func:`_log_of` goes on as its tangent."""


def _log_of(value: Tensor) -> Tensor:
    """ln v, and below :data:`_LEAST_DEPTH` its tangent there, which zero and negative predictions have too."""
    above = value.clamp(min=_LEAST_DEPTH)
    return above.log() + (value - above) / _LEAST_DEPTH


def silog(prediction: Tensor, target: Tensor, valid: Tensor, variance_focus: float = 0.5) -> Tensor:
    """Scale-invariant logarithmic error: mean of d² − λ (mean of d)², d = ln ŷ − ln y, the means over an image.

    Eigen et al., "Depth Map Prediction from a Single Image", NeurIPS 2014, Eq. 4: with λ = 1 an error of scale costs
    nothing, with 0 it is the squared logarithmic error, the paper trains with 0.5. A pixel's part is d² − λ d · (mean
    of d), whose mean is the formula. The paper's network predicts ln ŷ; here it predicts ŷ, and below 0.1 the logarithm
    goes on as its tangent, so that a network that begins near zero has a gradient.

    :param prediction: (B, 1, H, W)
    :param target: (B, 1, H, W), above 0 where valid
    :param valid: bool (B, 1, H, W)
    :param variance_focus: λ
    """
    d = _log_of(prediction) - torch.where(valid, target, torch.ones_like(target)).clamp(min=1e-9).log()
    d = torch.where(valid, d, torch.zeros_like(d))
    count = valid.flatten(1).sum(1).clamp(min=1)
    mean = (d.flatten(1).sum(1) / count).view(-1, *[1] * (d.ndim - 1))
    return d.square() - variance_focus * d * mean


def cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """1 − cos of the angle between two directions, 0 to 2. Both (B, 3, H, W)."""
    return 1 - F.cosine_similarity(prediction, target, dim=1).unsqueeze(1)


def unit_l1(prediction: Tensor, target: Tensor) -> Tensor:
    """|n̂ / ‖n̂‖ − n|, the mean over the three components. Both (B, 3, H, W), the target of unit length."""
    return l1(F.normalize(prediction, dim=1), target)
