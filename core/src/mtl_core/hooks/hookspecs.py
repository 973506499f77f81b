"""Every hook, in the order of a run.

Shape letters: N training samples, K tasks, V views, B samples of a batch, C channels of the features, O_t channels of
task t, H and W image size. A *place* that one plugin fills is exclusive (``firstresult``): two plugins for it are an
error at load time that shows the ``[use]`` line. A hook takes only the arguments that its signature names.

``:place:``, ``:gives:`` and ``:how many:`` are the columns of the tables in README.md and docs/writing-a-plugin.md,
which ``tests/hook_tables.py`` writes. A hook without ``:place:`` has no row in README.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mtl_core.hooks.markers import hookspec

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor, nn

    from mtl_core.data.sample import ExtraData, MultiTaskDataset, Sample
    from mtl_core.experiment import Experiment
    from mtl_core.step.encoder_gradients import EncoderGradients, Shaped
    from mtl_core.step.finished_run import FinishedRun
    from mtl_core.step.look_ahead import LookAhead
    from mtl_core.step.step import Step
    from mtl_core.tasks.tasks import Tasks

    Size = tuple[int, int]
    Term = Tensor | tuple[Tensor, Tensor]


@hookspec
def before_run(experiment: Experiment, folder: Path) -> None:
    """Do what has to be done before anything of the run is built, such as training other runs.

    Called once per run and again when it is resumed, before devices and process groups are set up, while the run's
    folder is locked: in every process of torchrun or Slurm, in the first one where the run starts its processes itself.
    A plugin keeps what takes time in the folder, and finds it there the next time. Only training calls this hook, not
    evaluation or prediction.

    :param experiment: the run's, complete
    :param folder: the run's; a plugin writes into a subfolder with its own name
    :place: other runs first
    :gives: nothing: does what must be done before a run, such as training other runs
    :how many: all
    """


@hookspec(firstresult=True)
def build_dataset(split: str) -> MultiTaskDataset | None:
    """Open the data of one split.

    Called once for each split that a command needs, in every process that loads data. Exclusive and required.

    :param split: ``"train"``, ``"test"``, or another that :func:`name_splits` names
    :return: a data set whose ``tasks`` fix K and the order of the tasks; samples are :class:`mtl_core.Sample`
    :raises mtl_core.errors.DataError: a folder or file is missing or malformed; it says which
    :place: data and tasks
    :gives: a data set for a split; its tasks
    :how many: one
    """


@hookspec
def name_splits() -> Sequence[str] | None:
    """Name the splits that :func:`build_dataset` opens, where there are others than train and test.

    Asked once per command, of the plugin that fills ``build_dataset``. A split named ``"val"`` is what validation and
    ``best.ckpt`` use in place of a share of the training data; the data of one that is named must be there.

    :return: ``"train"``, ``"test"`` and further names; None for these two
    :gives: the splits of the data, where there are others than train and test
    :how many: of the plugin that fills build_dataset
    """


@hookspec
def build_extra_datasets() -> Sequence[ExtraData] | None:
    """Open further training data, a fixed number of which is added to every batch.

    Called once per run. The samples' labels are those that the data have: label scenarios concern the main data. Each
    source is drawn in a seeded order of its own, again and again, so that the main data's order and epochs stay what
    they are. They are transformed and augmented like the main data's; their positions
    (``Step.index``) follow the main data's.

    :return: data with some or all of the main data's tasks and its image size; None for none
    :raises mtl_core.errors.DataError: a folder or file is missing or malformed; it says which
    :place: more training data
    :gives: further training data, a fixed number of it in every batch
    :how many: all, added
    """


@hookspec(firstresult=True)
def make_label_mask(size: int, tasks: Tasks, generator: torch.Generator, names: Sequence[str] | None) -> Tensor | None:
    """Say which of the training samples carry which task's label.

    Called once per run, before the first epoch, and saved with the run. Exclusive and required. The data set's own
    mask, where it has one, is intersected with this one.

    :param size: number of training samples, N
    :param tasks: the K tasks
    :param generator: seeded by the experiment; the only source of randomness to use
    :param names: the samples' names in the data set's order, or None where it has none
    :return: bool ``(N, K)``; a sample may have no label at all
    :place: label scenario
    :gives: which training sample carries which label
    :how many: one
    """


@hookspec
def relabel(dataset: MultiTaskDataset, labelled: Tensor, folder: Path | None) -> tuple[MultiTaskDataset, Tensor] | None:
    """Replace or add labels of the training data, such as pseudo-labels.

    Called once per run after :func:`make_label_mask`; each plugin gets the previous one's result, in the experiment's
    order. The label mask that the run saves is the one before this hook.

    :param dataset: training data with every label that exists; a plugin must not look at those that are withheld
    :param labelled: the label mask, bool ``(N, K)``
    :param folder: the run's; None outside a run
    :return: data of the same length, tasks and image size, and its label mask; None leaves both as they are
    :place: labels from teachers
    :gives: training data with other labels, and their label mask
    :how many: a chain
    """


@hookspec
def transform_sample(sample: Sample, generator: torch.Generator) -> Sample | None:
    """Change the geometry of one sample: image and labels together, each label as its physics asks.

    Called for every training sample in the loader's workers; each plugin gets the previous one's result, in the
    experiment's order. The plugin is sent to every worker, so it must not be an ``nn.Module``.

    :param sample: image float ``(3, H, W)`` in 0..1 or uint8, targets as their tasks define them; withheld labels are
        blank already
    :param generator: seeded by (seed, epoch, index); the only source of randomness to use
    :return: a sample of the same shapes; None leaves it as it is
    :place: geometry, in the workers
    :gives: a sample with other geometry, in the workers
    :how many: a chain
    """


@hookspec
def count_views() -> int | None:
    """Say how many views of each batch the plugin needs; as many as the plugin that needs most go through the network.

    Called when a run is built, and where plugins that work with several views have to know of each other.

    :return: V, at least 1: view 0 and others of the same images, each augmented by itself; None counts as 1
    :place: views of each batch
    :gives: how many views of each batch the plugin needs
    :how many: all, the largest counts; default: 1
    """


@hookspec
def choose_windows(views: int, samples: int, generator: torch.Generator) -> Tensor | None:
    """Let the views after the first show windows of it, of image and labels.

    Called once per training step where :func:`count_views` asks for more than one view, before :func:`augment`. A
    plugin that answers must be the only one that asks for views: pixels of different views no longer correspond.

    :param views: V, as many as plugins ask for
    :param samples: B
    :param generator: a CPU generator seeded by (seed, step, rank)
    :return: on the CPU, float ``(V - 1, B, 3)``: for views 1 to V - 1 of each sample the enlargement s, at least 1, and
        x and y in -1..1, where the window of 1/s of the image's width and height lies in the room that is left; None
        shows the whole image in every view. Labels of a view: :meth:`mtl_core.Step.targets_of`
    :place: windows that further views show
    :gives: windows of the image that further views show, on the device
    :how many: one answer; default: all of it
    """


@hookspec
def augment(images: Tensor, generator: torch.Generator) -> Tensor | None:
    """Change the photometry of whole batches on the training device; labels stay valid.

    Called once per training step, all views at once; each plugin gets the previous one's result.

    :param images: float ``(V·B, 3, H, W)`` in 0..1, view-major
    :param generator: a CPU generator seeded by (seed, step, rank); draw on the host, never from the device
    :return: images of the same shape; None leaves them as they are
    :place: photometry, on the device
    :gives: images with other photometry, on the device
    :how many: a chain
    """


@hookspec(firstresult=True)
def build_backbone(image_size: Size, in_channels: int) -> nn.Module | None:
    """Make the shared encoder.

    Called once per run, seeded by (seed, plugin). Exclusive and required.

    :param image_size: (H, W) in pixels
    :param in_channels: channels of an image, 3
    :return: a module from images ``(N, 3, H, W)`` to z: one tensor or a tuple of tensors (a pyramid). It has
        ``channels`` (int, or a tuple for a pyramid), and may have ``width`` and ``norm``, which the networks
        that regularizers ask for take over, and ``multiple_of``, a number of which H and W must be multiples: images
        of other sizes are padded by :func:`mtl_core.load_network`. A method ``with_deepest(images)`` may give z and the
        encoder's coarsest features for ``Step.deepest``; without it that is z, or its last level. A method
        ``autoencoder(in_channels, out_channels, bottleneck)`` may make networks of its kind for regularizers
    :place: the shared encoder
    :gives: the shared encoder
    :how many: one
    """


@hookspec(firstresult=True)
def build_heads(backbone: nn.Module, tasks: Tasks, image_size: Size) -> nn.ModuleDict | None:
    """Make one decoder per task.

    Called once per run after :func:`build_backbone`. Exclusive and required.

    :param backbone: what ``build_backbone`` returned
    :param tasks: the K tasks
    :param image_size: (H, W) in pixels
    :return: a module per task name, from z to ``(N, O_t, H, W)`` (dense) or ``(N, O_t)``. A head must not begin with
        an in-place operation: its input is a view of z
    :place: a head per task
    :gives: a decoder per task
    :how many: one
    """


@hookspec
def setup(
    name: str,
    tasks: Tasks,
    image_size: Size,
    backbone: nn.Module,
    heads: nn.ModuleDict,
    places: Mapping[str, str],
    labelled: Tensor | None,
) -> None:
    """Create whatever the plugin learns or remembers: parameters, modules and buffers.

    Called once per run on a fresh copy of every plugin, seeded by (seed, plugin), after backbone and heads.

    :param name: the plugin's own name in the experiment, such as ``"mine"`` or ``"mine#2"``
    :param tasks: the K tasks
    :param image_size: (H, W) in pixels
    :param backbone: the run's encoder; libraries may make networks of its kind with other channels from it
    :param heads: the run's decoders, a module per task; a plugin that keeps the network must not register it
    :param places: exclusive hook → name of the plugin that fills it
    :param labelled: label mask of all training samples, those of extra data sets behind the others, bool ``(N, K)``;
        None where there are none
    :raises mtl_core.errors.MtlError: the plugin cannot work with these tasks; it says which and what to do
    :gives: nothing: creates what the plugin learns or remembers
    :how many: all
    """


@hookspec
def parameter_groups(learning_rate: float) -> Sequence[Mapping[str, Any]] | None:
    """Give parameters of this plugin their own learning rate or weight decay.

    Called once per run after :func:`setup`. Parameters that no plugin names join the main group.

    :param learning_rate: the experiment's
    :return: optimizer groups as torch takes them, ``{"params": [...], "lr": ...}``; None for none
    :gives: own learning rates
    :how many: all
    """


@hookspec
def before_step(look_ahead: LookAhead) -> None:
    """Look at the network one step ahead, before the step's own forward pass.

    Called once per optimizer step, before its first batch, on every rank. What it writes into the plugin's buffers
    belongs to the step: where the step is skipped they are put back. Where no plugin has it nothing is made.

    :param look_ahead: losses at any parameters, on the step's batch and on a second one; asking leaves no trace in the
        network, its gradients and statistics
    :place: a look one step ahead
    :gives: nothing: looks at the network one step ahead, at other parameters and on a second batch
    :how many: all
    """


@hookspec(firstresult=True)
def combine_losses(losses: Tensor, means: Tensor, active: Tensor, step: Step) -> Tensor | None:
    """Make one scalar of the tasks' losses.

    Called once per training step. Exclusive; where nobody fills it the sum is taken. The values are those of the
    global batch, the same on every rank, with this rank's gradients.

    :param losses: L_t ``(K,)``, normalised as the experiment says (0 for a task that is not active)
    :param means: L̄_t ``(K,)``, the mean over the samples that carry t: what adapts to a loss's size uses this
    :param active: bool ``(K,)``, tasks with a label in the global batch
    :param step: the whole step; draw from its generator ``shared``, the same on every rank
    :return: scalar
    :place: tasks' losses → one loss
    :gives: one loss of the tasks' losses
    :how many: one; default: the sum
    """


@hookspec
def compute_regularizer(step: Step) -> Mapping[str, Term] | None:
    """Add losses on predictions and labels.

    Called once per training step, never in evaluation; every plugin's terms are added to the loss.

    :param step: what the step has computed so far
    :return: named terms: each a scalar, or (sum, count) whose global mean is taken; float32 in half precision too, so
        that predictions are promoted before they are compared. It must build the same graph on every rank: with nothing
        to do return a zero that depends on its inputs. None adds nothing, ever
    :place: losses on predictions
    :gives: further losses
    :how many: all, added
    """


@hookspec
def watch_encoder_gradient(gradients: EncoderGradients) -> Mapping[str, Tensor] | None:
    """See the K branch gradients without deciding how they enter the encoder.

    Called once per backward pass for every plugin that has it, before :func:`shape_encoder_gradient`. The gradients are
    those of the losses as they were combined, not yet shaped.

    :param gradients: Gramian, norms, masks and losses of the global batch
    :return: buffer of the plugin → proposed value, kept if the Gramian is finite and the step is taken; None for none
    :place: a look at the encoder's gradients
    :gives: nothing: sees the tasks' gradients in the encoder
    :how many: all
    """


@hookspec(firstresult=True)
def shape_encoder_gradient(gradients: EncoderGradients) -> Shaped | Tensor | None:
    """Decide how the K branch gradients enter the encoder.

    Called once per backward pass, in the middle of it, when every branch gradient is there. Exclusive; where nobody
    fills it the seam is absent and the gradients add up.

    :param gradients: Gramian, norms, masks and losses of the global batch
    :return: weights ``(K,)`` with which the branches are added (or a tensor like z for element-wise methods), bare or
        as :class:`mtl_core.Shaped` with the state that should be kept if the step is taken
    :place: gradients into the encoder
    :gives: weights of the tasks' gradients in the encoder
    :how many: one; default: none
    """


@hookspec
def after_step(look_ahead: LookAhead) -> None:
    """Look at what a step did to the losses of its batch.

    Called once per optimizer step, after it, on every rank. What it writes into the plugin's buffers belongs to the
    step: where the step was skipped they are put back. Where no plugin has it nothing is made.

    :param look_ahead: the one that :func:`before_step` was given; the network's own parameters are the new ones now
    :place: a look one step back
    :gives: nothing: looks at what the step did to the losses of its batch
    :how many: all
    """


@hookspec
def after_epoch(
    epoch: int, metrics: Mapping[str, float], run_folder: Path | None, record: Mapping[str, Any]
) -> bool | None:
    """Look at an epoch that has ended, and say whether the run should end with it.

    Called once per epoch, at one of two moments. An implementation that does not name ``record`` is called on every
    rank, after validation and before the checkpoint; what it changes in the plugin is in the checkpoint. One that names
    ``record`` is called on rank 0, when the record is in ``metrics.jsonl``: for loggers. Observers are called on rank 0
    only, behind the plugins of the experiment. An error of theirs, and any of the second kind, is reported and the run
    goes on.

    :param epoch: number of the epoch, from 0
    :param metrics: losses, terms, logged values, validation metrics
    :param run_folder: the run's; a plugin writes into a subfolder with its own name. None outside a run
    :param record: what was appended to ``metrics.jsonl``: ``metrics``, epoch, step, seconds, learning rate
    :return: True ends the run after this epoch, whatever the others say: it is saved, evaluated and reported as one
        that has trained all its epochs. False and None let it go on
    :gives: whether the run should end; looks at an epoch's metrics, or at the record that was written
    :how many: all, observers too
    """


@hookspec
def draw_pictures(step: Step) -> Mapping[str, Mapping[str, Tensor]] | None:
    """Give pictures for the report.

    Called once at the end of a run on rank 0, without gradients, everything in evaluation mode.

    :param step: a few training images, not augmented, with the labels that the run is given; one view
    :return: title → task → maps ``(B, O_t, H, W)`` as that task's head would give them; None for none
    :place: pictures for the report
    :gives: pictures for the report
    :how many: all
    """


@hookspec
def after_run(run: FinishedRun) -> None:
    """Make something of a run that has ended, such as a report.

    Called on rank 0 after the evaluation at the end of training, and after every ``mtl evaluate``, when the results
    are written. The plugins of the experiment are called first, then the observers: plugins of the entry-point group
    ``mtl.observers``, which are called for every run without being named in the experiment.

    :param run: folder, tasks, and a few images with predictions
    :raises Exception: the run itself is finished and stays as it is; the error is reported with the plugin's name
    :place: a finished run
    :gives: nothing: makes something of a finished run, such as a report
    :how many: all
    """


@hookspec
def after_predict(image: Tensor, labels: Mapping[str, Tensor], tasks: Tasks, folder: Path, name: str) -> Path | None:
    """Make something of the predictions for one image, such as a picture of all.

    Called by ``mtl predict`` for every image, when its labels are written; of observers only.

    :param image: uint8 ``(3, H, W)``
    :param labels: task → decoded prediction
    :param folder: of the predictions
    :param name: of the image, without its ending
    :return: a file that was written, or None
    :place: a prediction
    :gives: a file made of an image's predictions, of observers only
    :how many: all
    """
