"""From a run folder to a file, and back to see that both predict the same.

Shape letters: B samples, H and W image size.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mtl_core import MtlError, RunFolder, TrainedNetwork, load_checkpoint, load_network, nearest, write_atomically
from mtl_export.module import Predictor

_Size = tuple[int, int]
_Outputs = tuple[Tensor, ...]
_Run = Callable[[Tensor], _Outputs]
"""A file that was read again: images → one label for each task."""

_TOLERANCE = 1e-3
"""Largest difference of a prediction between file and network, relative to the largest value of its map."""
_SHARE = 1e-3
"""Largest share of pixels whose class differs: two classes may be equally likely."""


class Exported(NamedTuple):
    """A file that was written, and one line on how it was compared with the network."""

    file: Path
    compared: str


class _Format(NamedTuple):
    """One format.

    :param needs: modules that have to be installed
    """

    ending: str
    needs: tuple[str, ...]


_FORMATS = {
    "onnx": _Format(".onnx", ("onnx", "onnxscript", "onnxruntime")),
    "torch-export": _Format(".pt2", ()),
    "safetensors": _Format(".safetensors", ("safetensors",)),
}


def export_run(
    run: Path | str,
    form: str,
    out: Path | None = None,
    checkpoint: str = "last",
    size: _Size | None = None,
    overrides: Sequence[str] = (),
) -> Exported:
    """Write a run's network as a file, read it again and compare what both predict.

    :param form: one of :data:`_FORMATS`
    :param out: the file; by default ``network.ENDING`` in the run's folder
    :param size: (H, W) of the images; by default those of the training
    :raises MtlError: an unknown format, a package that is missing, a network that cannot be exported, or a file that
        predicts something else
    """
    _check_format(form)
    folder = RunFolder(Path(run))
    trained = load_network(folder, checkpoint, overrides=overrides)
    size = size or trained.image_size
    _check_multiple(trained, size)
    file = out or folder.folder / f"network{_FORMATS[form].ending}"
    about = json.dumps(_describe(folder, checkpoint, size))
    if form == "safetensors":
        return Exported(file, _write_weights(trained, file, about))
    predictor = Predictor(trained.of_size(size))
    example = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    read = (_write_onnx if form == "onnx" else _write_graph)(predictor, example, file, about)
    return Exported(file, _compare(predictor, read, file, size))


def _check_format(form: str) -> None:
    if form not in _FORMATS:
        raise MtlError(f"--format {form}: expected one of {', '.join(_FORMATS)}{nearest(form, _FORMATS)}")
    if missing := [name for name in _FORMATS[form].needs if find_spec(name) is None]:
        raise MtlError(f'--format {form} needs {", ".join(missing)}; pip install "mtl-export[{form}]"')


def _check_multiple(trained: TrainedNetwork, size: _Size) -> None:
    if any(length % trained.multiple_of for length in size):
        raise MtlError(
            f"--size {size[0]}x{size[1]}: this network takes heights and widths that are multiples of"
            f" {trained.multiple_of}; a file cannot pad its images"
        )


def _describe(run: RunFolder, checkpoint: str, size: _Size) -> dict[str, Any]:
    """What the file says of itself."""
    state = load_checkpoint(run.checkpoint(checkpoint))
    tasks = [{key: value for key, value in row.items() if _plain(value)} for row in state["tasks"]]
    return {
        "run": run.folder.name,
        "checkpoint": checkpoint,
        "epoch": state["epoch"],
        "size": list(size),
        "tasks": tasks,
    }


def _plain(value: object) -> bool:
    return isinstance(value, str | int | float | list | tuple | None)


def _write_weights(trained: TrainedNetwork, file: Path, about: str) -> str:
    from safetensors.torch import load_file, save_file

    weights = {name: value.contiguous().clone() for name, value in trained.network.state_dict().items()}
    write_atomically(file, lambda part: save_file(weights, part, {"mtl": about}))
    read = load_file(file)
    if any(not torch.equal(read[name], value) for name, value in weights.items()):
        raise MtlError(f"{file}: holds other weights than the run's checkpoint")
    return f"{len(weights)} tensors, equal to the checkpoint's"


def _write_graph(predictor: Predictor, example: Tensor, file: Path, about: str) -> _Run:
    """A graph of ``torch.export``, for any B."""
    program = _traced(lambda: torch.export.export(predictor, (example,), dynamic_shapes=_free_batch()))
    write_atomically(file, lambda part: _save_graph(program, part, about))
    run: _Run = torch.export.load(file).module()
    return run


def _save_graph(program: torch.export.ExportedProgram, part: Path, about: str) -> None:
    with part.open("wb") as file:  # torch.export demands the ending .pt2 of a path
        torch.export.save(program, file, extra_files={"mtl": about})


def _write_onnx(predictor: Predictor, example: Tensor, file: Path, about: str) -> _Run:
    """An ONNX model, for any B; one output for each task."""
    import onnx
    import onnxruntime

    names = list(predictor.tasks.names)
    program = _traced(
        lambda: torch.onnx.export(
            predictor,
            (example,),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=names,
            dynamic_shapes=_free_batch(),
        )
    )
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, {"mtl": about})
    write_atomically(file, lambda part: onnx.save(model, part))
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> _Outputs:
        return tuple(torch.from_numpy(found) for found in session.run(names, {"images": images.numpy()}))

    return run


def _free_batch() -> dict[str, Any]:
    return {"images": {0: torch.export.Dim("batch")}}


def _traced(export: Callable[[], Any]) -> Any:
    """What an exporter makes, without its log.

    :raises MtlError: the network does something that cannot be exported
    """
    noisy = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in noisy]
    for logger in noisy:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            return export()
    except Exception as error:  # exporters raise a dozen kinds of error
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise MtlError(
            f"this network cannot be exported: {reason}; safetensors holds the weights of any network"
        ) from error
    finally:
        for logger, level in zip(noisy, before, strict=True):
            logger.setLevel(level)


@torch.no_grad()
def _compare(predictor: Predictor, run: _Run, file: Path, size: _Size) -> str:
    """Compare a file with the network on random images, of another B than it was traced with.

    :raises MtlError: a prediction differs
    """
    images = torch.rand(3, 3, *size, generator=torch.Generator().manual_seed(1))
    differences = []
    for task, own, other in zip(predictor.tasks, predictor(images), run(images), strict=True):
        found, limit = _difference(own, other)
        differences.append(f"{task.name} {found:.1g}")
        if not found <= limit:
            raise MtlError(f"{file}: predicts another {task.name} than the network (difference {found:.3g})")
    return f"compared with the network on 3 random images, largest difference: {', '.join(differences)}"


def _difference(own: Tensor, other: Tensor) -> tuple[float, float]:
    """How much two predictions differ, and how much they may."""
    if own.shape != other.shape:
        return float("inf"), 0.0
    if not own.is_floating_point():
        return float((own != other).float().mean()), _SHARE
    return float((own - other).abs().max()), _TOLERANCE * max(1.0, float(own.abs().max()))
