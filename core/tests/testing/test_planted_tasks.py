"""Faults planted in a right kind of task: the contract finds each of them and says what it is."""

import re
from typing import Any, ClassVar

import attrs
import pytest
import torch
from torch.nn import functional as F
from torchmetrics import Metric

from mtl_core.tasks.task import Task
from mtl_core.testing import TaskContract, failures


class Error(Metric):
    """Root of the mean square error over valid pixels, and its negative as a score."""

    full_state_update = False

    def __init__(self, task):
        super().__init__()
        self.task = task
        self.add_state("square", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, prediction, target):
        valid = self.task.valid(target)
        square = (self.task.to_label_space(prediction) - self.task.encode(target)).square().mean(1, keepdim=True)
        self.square += torch.where(valid, square, 0.0).sum()
        self.count += valid.sum()

    def compute(self):
        rmse = (self.square / self.count).sqrt()
        return {"rmse": rmse, "score": -rmse}


@attrs.frozen(kw_only=True)
class Heat(Task):
    """A map of directions and sizes: a right kind with geometry. Labels float (B, 2, H, W), NaN where invalid."""

    channels: int = 2
    interpolation: ClassVar[Any] = "bilinear"
    ignored: ClassVar[float] = float("nan")
    also_invalid: ClassVar[float | None] = float("inf")
    headline: ClassVar[str] = "rmse"

    def pixel_loss(self, prediction, target):
        return self.soft_loss(prediction, self.encode(target))

    def soft_loss(self, prediction, target):
        return (prediction - target).square().mean(1, keepdim=True)

    def valid(self, target):
        return target.isfinite().all(1, keepdim=True)

    def encode(self, target):
        return torch.where(self.valid(target), target, torch.zeros_like(target))

    def flip(self, target):
        return target * torch.tensor([-1.0, 1.0], device=target.device)[:, None, None]

    def rotate(self, target, radians):
        c, s = torch.cos(torch.tensor(radians)), torch.sin(torch.tensor(radians))
        x, y = target.unbind(-3)
        return torch.stack((c * x - s * y, s * x + c * y), -3)

    def zoom(self, target, scale):
        return target * scale

    def metrics(self):
        return Error(self)


FAULTS: dict[str, tuple[Any, str, str]] = {}


def fault(check, words, **fields):
    def add(kind):
        made = attrs.frozen(kw_only=True)(kind)
        FAULTS[kind.__name__] = (made, f"test_{check}", words)
        globals()[kind.__name__] = made  # pickled by name
        return made

    return add


@fault("loss_is_one_value_per_sample", r"loss .*, expected|pixel_loss")
class LossPerChannel(Heat):
    def soft_loss(self, prediction, target):
        return (prediction - target).square()


@fault("loss_is_one_value_per_sample", r"loss \(\), expected")
class LossOfTheBatch(Heat):
    def loss(self, prediction, target):
        return super().loss(prediction, target).mean()


@fault("samples_do_not_see_each_other", "one by one")
class DividesByTheBatchesPixels(Heat):
    def loss(self, prediction, target):
        valid = self.valid(target)
        return (
            torch.where(valid, self.pixel_loss(prediction, target), 0.0).flatten(1).sum(1) / valid.sum() * len(target)
        )


@fault("a_blank_label_trains_nothing", "expected 0")
class LearnsFromBlanks(Heat):
    def loss(self, prediction, target):
        return self.pixel_loss(prediction, target).flatten(1).mean(1)


@fault("a_blank_label_trains_nothing", "expected 0|nan")
class DividesByNoPixel(Heat):
    def loss(self, prediction, target):
        valid = self.valid(target)
        return torch.where(valid, self.pixel_loss(prediction, target), 0.0).flatten(1).sum(1) / valid.flatten(1).sum(1)


@fault("invalid_pixels_count_for_nothing", "not finite; torch.where")
class MasksBehindTheLoss(Heat):
    def pixel_loss(self, prediction, target):
        return (prediction - target).square().mean(1, keepdim=True).sqrt()


@fault("invalid_pixels_count_for_nothing", "gives a gradient|when invalid pixels changed|not finite")
class SmoothsThePrediction(Heat):
    def pixel_loss(self, prediction, target):
        return self.soft_loss(F.avg_pool2d(prediction, 3, 1, 1), self.encode(target))


@fault("valid_says_which_pixels_count", "a blank label has valid pixels")
class TakesZeroForIgnored(Heat):
    ignored = 0.0


@fault("valid_says_which_pixels_count", "expected bool")
class ValidAsNumbers(Heat):
    def valid(self, target):
        return super().valid(target).float()


@fault("valid_says_which_pixels_count", r"expected \(4, 1")
class ValidPerChannel(Heat):
    def valid(self, target):
        return target.isfinite()


@fault("label_space_has_its_channels", "encode is not finite")
class EncodesNaN(Heat):
    def encode(self, target):
        return target


@fault("label_space_has_its_channels", r"to_label_space .*, expected")
class ForgetsItsLabelChannels(Heat):
    def to_label_space(self, prediction):
        return prediction.norm(dim=1, keepdim=True)


@fault("decodes_to_a_label", "decode gives")
class DecodesToClasses(Heat):
    def decode(self, prediction):
        return prediction.argmax(1)


@fault("labels_have_their_form", "its own example of a label")
class SaysAnotherLabelType(Heat):
    label_dtype = torch.float64


@fault("labels_have_their_form", "without H and W|shape")
class SaysAnotherShape(Heat):
    def label_shape(self, size):
        return (size[0], size[1], 2)


@fault("training_improves_its_metrics", "higher is said to be better")
class SaysTheWrongDirection(Heat):
    higher_is_better = True


@fault("training_improves_its_metrics", "score went from .*lower is said to be better")
class CallsAScoreAnError(Heat):
    errors = frozenset({"score"})


@fault("training_improves_its_metrics", "went from")
class HasALossOfTheWrongSign(Heat):
    def soft_loss(self, prediction, target):
        return -(prediction - target).square().mean(1, keepdim=True)


@fault("training_improves_its_metrics", "is no metric")
class NamesAnUnknownHeadline(Heat):
    headline = "accuracy"


@fault("training_improves_its_metrics", "went from|did not move")
class ScoresSomethingElse(Heat):
    def metrics(self):
        class Other(Error):
            def update(self, prediction, target):
                super().update(-prediction, target)

        return Other(self)


@fault("metrics_are_declared", "which are no metrics")
class GivesAUnitToNothing(Heat):
    units = {"angle": "°"}


@fault("metrics_add_up", "over two; keep sums")
class AveragesOverBatches(Heat):
    def metrics(self):
        class Means(Error):
            def update(self, prediction, target):
                valid = self.task.valid(target)
                square = (prediction - self.task.encode(target)).square().mean(1, keepdim=True)
                self.square += torch.where(valid, square, 0.0).sum() / valid.sum().clamp(min=1)
                self.count += 1

        return Means(self)


@fault("metrics_add_up", "over two; keep sums")
class RemembersTheLastBatch(Heat):
    def metrics(self):
        class Last(Error):
            def update(self, prediction, target):
                self.square, self.count = torch.zeros_like(self.square), torch.zeros_like(self.count)
                super().update(prediction, target)

        return Last(self)


@fault("metrics_leave_out_invalid_pixels", "when invalid pixels changed")
class ScoresInvalidPixels(Heat):
    def metrics(self):
        class All(Error):
            def update(self, prediction, target):
                self.square += (prediction - target.nan_to_num(0, 9, -9)).square().sum()
                self.count += prediction.numel()

        return All(self)


@fault("metrics_without_a_label_are_nan", "expected NaN")
class ScoresNothingAsPerfect(Heat):
    def metrics(self):
        class Clamped(Error):
            def compute(self):
                rmse = (self.square / self.count.clamp(min=1)).sqrt()
                return {"rmse": rmse, "score": -rmse}

        return Clamped(self)


@fault("leaves_its_input_as_it_was", "target was changed in place")
class EncodesInPlace(Heat):
    def encode(self, target):
        return target.nan_to_num_(0)


@fault("leaves_its_input_as_it_was", "flip: target was changed")
class FlipsInPlace(Heat):
    def flip(self, target):
        target[:, 0] *= -1
        return target


@fault("geometry_can_be_undone", "rotate and its inverse")
class TurnsOneComponent(Heat):
    def rotate(self, target, radians):
        return target * torch.cos(torch.tensor(radians))


@fault("geometry_can_be_undone", "zoom and its inverse")
class ZoomsByAConstant(Heat):
    def zoom(self, target, scale):
        return target * 2.0


@fault("geometry_can_be_undone", "flip and its inverse")
class FlipsToTheRightAlways(Heat):
    def flip(self, target):
        return target.abs()


@fault("zoom_takes_a_scale_per_sample", "scale|Tensor|bool|float|ambiguous|only one element")
class ZoomsByANumberAlone(Heat):
    def zoom(self, target, scale):
        return target * float(scale)


@fault("invalid_stays_invalid_in_geometry", "zoom: a blank label")
class FillsBlanksInZoom(Heat):
    def zoom(self, target, scale):
        return target.nan_to_num(0) * scale


@fault("losses_agree", "soft_loss of an encoded label")
class TeachesOnAnotherScale(Heat):
    def pixel_loss(self, prediction, target):
        return 2 * self.soft_loss(prediction, self.encode(target))


@fault("probabilities_add_up", "does not add up to 1")
class SaysItIsADistribution(Heat):
    is_distribution = True


@fault("its_name_is_checked", "takes the name 'a/b'")
class TakesAnyName(Heat):
    name: str = attrs.field()
    channels: int = 2


@fault("a_network_of_labels_has_a_loss", "label_loss of 1 channels")
class HeadOfBinsWithoutALabelLoss(Heat):
    channels: int = 6

    label_channels = 1

    def soft_loss(self, prediction, target):
        return F.cross_entropy(prediction, target[:, 0].clamp(0, 5).long(), reduction="none").unsqueeze(1)


@fault("wrong_labels_are_reported", "is taken for one of its form")
class TakesEverything(Heat):
    def form_problems(self, label, size):
        return []

    def value_problems(self, label):
        return []


@fault("examples_come_from_their_generator", "global generator")
class DrawsExamplesFromTorch(Heat):
    def labels_from(self, noise, generator):
        return noise + torch.randn(noise.shape)


@fault("runs_on_the_meta_device", "loss: .*read on the host")
class LoopsOverSamples(Heat):
    def loss(self, prediction, target):
        kept = [bool(valid.any()) for valid in self.valid(target)]
        return super().loss(prediction, target) * torch.tensor(kept, device=target.device)


@fault("runs_on_the_meta_device", "another device")
class KeepsAConstantOnTheHost(Heat):
    def soft_loss(self, prediction, target):
        return ((prediction - target).square() * torch.ones(2, 1, 1)).mean(1, keepdim=True)


@fault("takes_odd_sizes_and_one_sample", "one odd-sized sample")
class DividesByTheSpreadOfSamples(Heat):
    def loss(self, prediction, target):
        return super().loss(prediction, target) / prediction.detach().mean((1, 2, 3)).std()


@fault("can_be_drawn_and_written", "expected uint8")
class DrawsFloats(Heat):
    def picture(self, label, limits):
        return label.numpy()[:1].repeat(3, 0).transpose(1, 2, 0)


@fault("can_be_drawn_and_written", "file_ending")
class WritesAnUnknownFormat(Heat):
    file_ending = ".exr"


@fault("can_be_drawn_and_written", "expected uint8 or uint16")
class WritesFloatsAsPng(Heat):
    file_ending = ".png"


@fault("a_checkpoint_can_hold_it", "no checkpoint can hold")
class HoldsAFunction(Heat):
    curve: Any = torch.sigmoid


@pytest.mark.parametrize("name", list(FAULTS))
def test_the_fault_is_named(name: str) -> None:
    kind, check, words = FAULTS[name]
    with pytest.raises((Exception, pytest.fail.Exception), match=re.compile(words, re.DOTALL)):
        getattr(TaskContract(), check)(kind(name="heat"))


def test_a_known_gap_is_one() -> None:
    """A weight of pixels may be meant or not; loss and metric still agree in direction."""

    @attrs.frozen(kw_only=True)
    class Weighted(Heat):
        """As Heat."""

        def soft_loss(self, prediction, target):
            weight = torch.linspace(0.1, 2, prediction.shape[-1], device=prediction.device)
            return weight * super().soft_loss(prediction, target)

    globals()["Weighted"] = Weighted
    Weighted.__qualname__ = "Weighted"
    assert failures(TaskContract, Weighted(name="heat")) == {}


def test_what_is_right_passes() -> None:
    assert failures(TaskContract, Heat(name="heat")) == {}
