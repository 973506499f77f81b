"""Contract of kinds of tasks.

Shape letters: B samples, O channels of the head, L channels of label space, H and W image size.
"""

from __future__ import annotations

import pickle
from functools import partial
from typing import Any, ClassVar

import attrs
import numpy as np
import pytest
import torch
from torch import Tensor

from mtl_core.seeds import generator_for
from mtl_core.tasks.task import NAME, Task
from mtl_core.tasks.tasks import Tasks
from mtl_core.testing.contract import ODD, Contract, Untouched, attempt, on_meta_device, same, through_a_file
from mtl_core.testing.factories import other_invalid_values
from mtl_core.training.saved_tasks import tasks_from_plain, tasks_to_plain

SAMPLES = 4
STEPS = 60


class TaskContract(Contract):
    """What core relies on in a kind of task. A test class derives from it and gives a ``task`` fixture::

    class TestHeatmaps(TaskContract):
        @pytest.fixture
        def task(self) -> Heatmaps:
            return Heatmaps(name="points", channels=2)
    """

    image_size: ClassVar[tuple[int, int]] = (16, 24)
    """(H, W) in pixels."""
    learning_rate: ClassVar[float] = 0.1
    """With which a prediction is fitted to a label in 60 steps of Adam."""

    @pytest.fixture
    def task(self) -> Any:
        raise NotImplementedError(f"{type(self).__name__}: give a `task` fixture that returns the task to test")

    def labels(self, task: Task, samples: int = SAMPLES, seed: int = 0) -> Tensor:
        """Labels (B, …), a fifth of the pixels invalid."""
        return task.example(samples, self.image_size, generator_for(seed, "labels"))

    def prediction(self, task: Task, samples: int = SAMPLES, seed: int = 0) -> Tensor:
        """What a head may give: (B, O, H, W), or (B, O)."""
        shape = (samples, task.channels, *(self.image_size if task.dense else ()))
        return torch.randn(shape, generator=generator_for(seed, "predictions"))

    def fitted(self, task: Task, target: Tensor) -> Tensor:
        """A prediction that was trained on the label by the task's own loss."""
        prediction = (0.1 * self.prediction(task)).requires_grad_()
        optimizer = torch.optim.Adam([prediction], lr=self.learning_rate)
        for _ in range(STEPS):
            optimizer.zero_grad()
            torch.autograd.backward(task.loss(prediction, target).sum())
            optimizer.step()
        return prediction.detach()

    def scores(self, task: Task, *pairs: tuple[Tensor, Tensor]) -> dict[str, float]:
        metric = task.metrics()
        for prediction, target in pairs:
            metric.update(prediction, target)
        return {name: float(value) for name, value in metric.compute().items()}

    def test_first_line_of_the_docstring_says_what_it_is(self, task: Task) -> None:
        lines = (type(task).__doc__ or "").strip().splitlines()
        assert lines, f"{type(task).__name__} has no docstring"

    def test_is_a_frozen_kind(self, task: Task) -> None:
        """Tasks are shared by all plugins, compared, and sent to workers."""
        assert isinstance(task, Task), f"a {type(task).__name__}, expected a subclass of mtl_core.Task"
        try:
            task.channels = task.channels  # type: ignore[misc]
        except attrs.exceptions.FrozenInstanceError:
            pass
        else:
            raise AssertionError(f"{type(task).__name__} can be changed; declare it with @attrs.frozen(kw_only=True)")
        assert pickle.loads(pickle.dumps(task)) == task, "a pickled copy is another task; keep fields alone"

    def test_its_name_is_checked(self, task: Task) -> None:
        """It is part of file names."""
        for name in ("a/b", "", "a b", "../a"):
            try:
                attrs.evolve(task, name=name)
            except ValueError:
                continue
            raise AssertionError(
                f"takes the name {name!r}, which makes no file name (expected {NAME}); keep Task's check"
            )

    def test_a_checkpoint_can_hold_it(self, task: Task) -> None:
        rows = tasks_to_plain(Tasks([task]))
        try:
            kept = through_a_file({"tasks": rows})["tasks"]
        except Exception as error:
            raise AssertionError(f"fields that no checkpoint can hold: {rows[0]}; use plain types") from error
        found = tasks_from_plain(kept, "the contract's checkpoint")
        assert list(found) == [task], f"saved as {rows[0]}, read back as {found[0]!r}"

    def test_labels_have_their_form(self, task: Task) -> None:
        for label in self.labels(task):
            problems = task.problems(label, self.image_size)
            assert not problems, f"its own example of a label: {problems[0]}"
            if task.dense:
                assert tuple(label.shape[-2:]) == self.image_size, f"label_shape {tuple(label.shape)} without H and W"
        blank = task.blank_label(self.image_size)
        assert tuple(blank.shape) == task.label_shape(self.image_size), "blank_label has another shape than label_shape"
        problems = task.problems(blank, self.image_size)
        assert not problems, f"a blank label: {problems[0]}"

    def test_examples_come_from_their_generator(self, task: Task) -> None:
        one, other = (self.labels(task, seed=3) for _ in range(2))
        assert same(one, other), "labels_from draws from a global generator; use the one that it is given"
        assert not same(one, self.labels(task, seed=4)), "labels of two seeds are the same"

    def test_valid_says_which_pixels_count(self, task: Task) -> None:
        target = self.labels(task)
        valid = task.valid(target)
        expected = (SAMPLES, 1, *self.image_size) if task.dense else (SAMPLES, 1)
        assert valid.dtype == torch.bool, f"valid is {valid.dtype}, expected bool"
        assert tuple(valid.shape) == expected, f"valid {tuple(valid.shape)}, expected {expected}"
        assert valid.any(), "no pixel of its own example is valid"
        assert not task.valid(task.blank(target)).any(), "a blank label has valid pixels; see `ignored` and `valid`"
        blank = task.blank(target)
        assert (blank.shape, blank.dtype) == (target.shape, target.dtype), "blank changes shape or type"

    def test_loss_is_one_value_per_sample(self, task: Task) -> None:
        loss = task.loss(self.prediction(task), self.labels(task))
        assert tuple(loss.shape) == (SAMPLES,), f"loss {tuple(loss.shape)}, expected ({SAMPLES},)"
        assert loss.is_floating_point(), f"loss is {loss.dtype}"
        assert loss.isfinite().all(), f"loss {loss.tolist()}"
        pixels = task.pixel_loss(self.prediction(task), self.labels(task))
        expected = tuple(task.valid(self.labels(task)).shape)
        assert tuple(pixels.shape) == expected, f"pixel_loss {tuple(pixels.shape)}, expected {expected}"

    def test_samples_do_not_see_each_other(self, task: Task) -> None:
        prediction = self.prediction(task)
        target = self.labels(task)
        together = task.loss(prediction, target)
        alone = torch.cat([task.loss(prediction[k : k + 1], target[k : k + 1]) for k in range(SAMPLES)])
        assert torch.allclose(together, alone, rtol=1e-4, atol=1e-6), (
            f"losses {together.tolist()} in one batch, {alone.tolist()} one by one"
        )

    def test_a_blank_label_trains_nothing(self, task: Task) -> None:
        prediction = self.prediction(task).requires_grad_()
        target = self.labels(task)
        loss = task.loss(prediction, task.blank(target))
        assert (loss == 0).all(), f"the loss of blank labels is {loss.tolist()}, expected 0"
        (gradient,) = torch.autograd.grad(loss.sum(), [prediction], allow_unused=True)
        assert gradient is None or (gradient == 0).all(), "a blank label gives a gradient"

    def test_invalid_pixels_count_for_nothing(self, task: Task) -> None:
        prediction = self.prediction(task).requires_grad_()
        target = self.labels(task)
        loss = task.loss(prediction, target)
        (gradient,) = torch.autograd.grad(loss.sum(), [prediction])
        assert gradient.isfinite().all(), "the gradient is not finite; torch.where before the loss, not behind it"
        valid = task.valid(target).expand_as(gradient) if task.dense else task.valid(target)
        # a label of a whole image is valid or not as a whole: the blank label above covers it
        if task.dense:
            assert not gradient[~valid].any(), "an invalid pixel gives a gradient"
        other = task.loss(prediction, other_invalid_values(task, target))
        assert torch.allclose(loss, other), f"{loss.tolist()} became {other.tolist()} when invalid pixels changed"

    def test_label_space_has_its_channels(self, task: Task) -> None:
        rest = self.image_size if task.dense else ()
        expected = (SAMPLES, task.label_channels, *rest)
        meant = task.to_label_space(self.prediction(task))
        encoded = task.encode(self.labels(task))
        assert tuple(meant.shape) == expected, f"to_label_space {tuple(meant.shape)}, expected {expected}"
        assert tuple(encoded.shape) == expected, f"encode {tuple(encoded.shape)}, expected {expected}"
        assert encoded.is_floating_point(), f"encode gives {encoded.dtype}, expected a floating-point type"
        assert encoded.isfinite().all(), "encode is not finite at invalid pixels"
        blank = task.encode(task.blank(self.labels(task)))
        assert blank.isfinite().all(), "encode of a blank label is not finite"

    def test_probabilities_add_up(self, task: Task) -> None:
        meant = task.to_label_space(self.prediction(task))
        encoded = task.encode(self.labels(task))
        sums = torch.allclose(meant.sum(1), torch.ones(()), atol=1e-4) and bool((meant >= 0).all())
        assert sums or not task.is_distribution, "is_distribution, but to_label_space does not add up to 1"
        valid = task.valid(self.labels(task))
        if task.is_distribution:
            whole = encoded.sum(1, keepdim=True)[valid]
            assert torch.allclose(whole, torch.ones(()), atol=1e-4), "is_distribution, but encode does not add up to 1"

    def test_losses_agree(self, task: Task) -> None:
        """A label in label space is as far from a prediction as the label itself: teachers are learned like labels."""
        prediction = self.prediction(task)
        target = self.labels(task)
        valid = task.valid(target)
        hard = task.pixel_loss(prediction, target)
        soft = task.soft_loss(prediction, task.encode(target))
        assert tuple(soft.shape) == tuple(hard.shape), f"soft_loss {tuple(soft.shape)}, pixel_loss {tuple(hard.shape)}"
        assert torch.allclose(soft[valid], hard[valid], rtol=1e-3, atol=1e-5), (
            "soft_loss of an encoded label is not pixel_loss of the label"
        )

    def test_a_network_of_labels_has_a_loss(self, task: Task) -> None:
        """An autoencoder of labels gives L channels, whatever the head has."""
        rest = self.image_size if task.dense else ()
        output = torch.randn(SAMPLES, task.label_channels, *rest, generator=generator_for(5, "output"))
        what = f"label_loss of {task.label_channels} channels"
        loss = attempt(what, lambda: task.label_loss(output, task.encode(self.labels(task))))
        assert loss is not None
        expected = tuple(task.valid(self.labels(task)).shape)
        assert tuple(loss.shape) == expected, f"label_loss {tuple(loss.shape)}, expected {expected}"
        assert loss.isfinite().all(), "label_loss is not finite"

    def test_decodes_to_a_label(self, task: Task) -> None:
        decoded = task.decode(self.prediction(task))
        found = tuple(decoded.shape[1:])
        expected = task.label_shape(self.image_size)
        assert found == expected, f"decode gives {found} per sample, a label is {expected}"
        problems = task.form_problems(decoded[0], self.image_size)
        assert not problems, f"decode gives no label: {problems[0]}"
        problem = task.range_problem(decoded[0])
        assert problem is None, f"decode gives no label: {problem}"

    def test_training_improves_its_metrics(self, task: Task) -> None:
        """What the loss rewards is what the metrics call better, in the direction that the kind declares."""
        target = self.labels(task)
        before = self.scores(task, (0.1 * self.prediction(task), target))
        after = self.scores(task, (self.fitted(task, target), target))
        assert task.headline in after, f"headline {task.headline!r} is no metric (there are: {sorted(after)})"
        for name in after:
            up = task.better_when_higher(name)
            # or equal: a metric may be at its best before, such as the share of pixels within a wide bound
            fits = after[name] >= before[name] - 1e-6 if up else after[name] <= before[name] + 1e-6
            direction = "higher" if up else "lower"
            assert fits, (
                f"{name} went from {before[name]:.4g} to {after[name]:.4g} in training, and {direction} is said to be"
                " better; see higher_is_better, errors, and the sign of the loss"
            )
        assert before[task.headline] != after[task.headline], f"{task.headline} did not move in training"

    def test_metrics_are_declared(self, task: Task) -> None:
        found = self.scores(task, (self.prediction(task), self.labels(task)))
        for what, names in (("errors", task.errors), ("units", task.units)):
            unknown = sorted(set(names) - set(found))
            assert not unknown, f"{what} has {unknown}, which are no metrics (there are: {sorted(found)})"
        endless = [name for name, value in found.items() if not np.isfinite(value)]
        assert not endless, f"metrics {endless} are not finite"

    def test_metrics_add_up(self, task: Task) -> None:
        """Batches and ranks add up: over two batches as over one."""
        prediction = self.prediction(task)
        target = self.labels(task)
        # batches with different numbers of labels: a mean of their means is another number than the mean over all
        target = torch.cat((target[:1], task.blank(target[1:2]), target[2:]))
        whole = self.scores(task, (prediction, target))
        parts = self.scores(task, (prediction[:1], target[:1]), (prediction[1:], target[1:]))
        for name, value in whole.items():
            fits = np.isclose(value, parts[name], rtol=1e-4, equal_nan=True)
            assert fits, f"{name}: {value:.6g} over one batch, {parts[name]:.6g} over two; keep sums, not means"

    def test_metrics_leave_out_invalid_pixels(self, task: Task) -> None:
        prediction = self.prediction(task)
        target = self.labels(task)
        before = self.scores(task, (prediction, target))
        after = self.scores(task, (prediction, other_invalid_values(task, target)))
        for name, value in before.items():
            fits = np.isclose(value, after[name], rtol=1e-5, equal_nan=True)
            assert fits, f"{name}: {value:.6g} became {after[name]:.6g} when invalid pixels changed"

    def test_metrics_without_a_label_are_nan(self, task: Task) -> None:
        found = self.scores(task, (self.prediction(task), task.blank(self.labels(task))))
        assert np.isnan(found[task.headline]), (
            f"{task.headline} of blank labels is {found[task.headline]}, expected NaN"
        )

    def test_leaves_its_input_as_it_was(self, task: Task) -> None:
        prediction = self.prediction(task)
        target = self.labels(task)
        kept = Untouched({"prediction": prediction, "target": target})
        soft = task.encode(target.clone())
        calls = (
            partial(task.loss, prediction, target),
            partial(task.encode, target),
            partial(task.decode, prediction),
            partial(task.blank, target),
            partial(task.flip, target),
            partial(task.zoom, target, 2.0),
            partial(task.rotate, target, 0.3),
            partial(task.soft_loss, prediction, soft),
            partial(self.scores, task, (prediction, target)),
        )
        for call in calls:
            call()
            try:
                kept.check()
            except AssertionError as error:
                raise AssertionError(f"{call.func.__name__}: {error}") from None

    def test_geometry_can_be_undone(self, task: Task) -> None:
        """Mirrored twice, turned there and back, enlarged and made smaller again, a label is what it was."""
        if not task.dense:
            return
        target = self.labels(task)
        there = {
            "flip": task.flip(task.flip(target)),
            "rotate": task.rotate(task.rotate(target, 0.4), -0.4),
            "zoom": task.zoom(task.zoom(target, 2.0), 0.5),
        }
        for name, found in there.items():
            assert found.shape == target.shape, f"{name}: {tuple(target.shape)} became {tuple(found.shape)}"
            assert found.dtype == target.dtype, f"{name}: {target.dtype} became {found.dtype}"
            back = torch.allclose(found.float(), target.float(), rtol=1e-4, atol=1e-5, equal_nan=True)
            assert back, f"{name} and its inverse do not give the label back"

    def test_zoom_takes_a_scale_per_sample(self, task: Task) -> None:
        target = self.labels(task)
        if not task.dense:
            return
        scales = torch.full((SAMPLES, *[1] * (target.ndim - 1)), 2.0)
        one = task.zoom(target, 2.0)
        other = task.zoom(target, scales)
        equal_results = torch.allclose(one.float(), other.float(), equal_nan=True)
        assert equal_results, "zoom by a number and by a number per sample differ"

    def test_invalid_stays_invalid_in_geometry(self, task: Task) -> None:
        blank = task.blank(self.labels(task))
        if not task.dense:
            return
        for name, found in {
            "flip": task.flip(blank),
            "rotate": task.rotate(blank, 0.4),
            "zoom": task.zoom(blank, 2.0),
        }.items():
            assert not task.valid(found).any(), f"{name}: a blank label has valid pixels afterwards"

    def test_wrong_labels_are_reported(self, task: Task) -> None:
        label = self.labels(task)[0]
        wrong: dict[str, Any] = {
            "without its first dimension": label[0] if label.ndim else label[None],
            "a list": label.tolist(),
        }
        wrong["of another type"] = label.to(torch.float64)
        for what, value in wrong.items():
            assert task.problems(value, self.image_size), f"a label {what} is taken for one of its form"

    def test_predictions_in_half_precision(self, task: Task) -> None:
        """Under autocast a head gives bfloat16; its loss and metrics are those of the same numbers in float32."""
        half = self.prediction(task).bfloat16()
        target = self.labels(task)
        with torch.autocast("cpu", torch.bfloat16):
            loss = task.loss(half.float(), target)
        assert loss.dtype == torch.float32, f"the loss of float32 predictions under autocast is {loss.dtype}"
        assert loss.isfinite().all(), "the loss is not finite under autocast"

    def test_runs_on_the_meta_device(self, task: Task) -> None:
        """A host sync, a shape that depends on data, or a tensor left on another device raises there."""
        prediction = self.prediction(task).to("meta")
        target = self.labels(task).to("meta")
        calls = {
            "loss": partial(task.loss, prediction, target),
            "encode": partial(task.encode, target),
            "to_label_space": partial(task.to_label_space, prediction),
            "decode": partial(task.decode, prediction),
            "valid": partial(task.valid, target),
        }
        for name, call in calls.items():
            try:
                device = on_meta_device(call).device.type
            except AssertionError as error:
                raise AssertionError(f"{name}: {error}") from error
            assert device == "meta", f"{name}: came back on {device}"

    def test_takes_odd_sizes_and_one_sample(self, task: Task) -> None:
        target = task.example(1, ODD, generator_for(0, "labels"))
        prediction = torch.randn(1, task.channels, *(ODD if task.dense else ()))
        what = "the loss of one odd-sized sample"
        loss = attempt(what, lambda: task.loss(prediction, target))
        assert loss is not None
        assert loss.isfinite().all(), f"{what} is not finite"
        assert np.isfinite(self.scores(task, (prediction, target))[task.headline]), f"{task.headline} is not finite"

    def test_can_be_drawn_and_written(self, task: Task) -> None:
        label = task.decode(self.prediction(task))[0]
        written = task.export(label)
        assert task.file_ending in (".png", ".npy"), f"file_ending {task.file_ending!r}, expected .png or .npy"
        if task.file_ending == ".png":
            kind = str(written.dtype)
            assert kind in ("uint8", "uint16"), f"export gives {kind} for .png, expected uint8 or uint16"
        if task.dense:
            picture = task.picture(label, (0.0, 1.0))
            assert (str(picture.dtype), picture.shape) == ("uint8", (*self.image_size, 3)), (
                f"picture is {picture.dtype} {picture.shape}, expected uint8 {(*self.image_size, 3)}"
            )
