"""Checkpoints that a thread writes while training goes on."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from mtl_core.training.checkpoint import save_checkpoint


class CheckpointWriter:
    """Writes checkpoints in a thread, one after the other, while training goes on.

    What is written is a copy on the CPU, taken when :meth:`write` is called. As a context it ends when all is written,
    so that the run's folder stays locked until then.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def write(self, files: Mapping[Path, Mapping[str, Any]]) -> None:
        """Write checkpoints in this order; first waits for those of the call before.

        :raises OSError: one of the call before could not be written
        """
        self.wait()
        copies: dict[Any, Tensor] = {}
        # now, in this thread: the next step changes the weights while the file is written
        taken = {path: _copied(state, copies) for path, state in files.items()}
        self._pending = self._pool.submit(_write, taken)

    def wait(self) -> None:
        """Wait until everything is written.

        :raises OSError: it could not be
        """
        # forgotten before the result is asked for: a failure is reported once, not at every later checkpoint
        pending = self._pending
        self._pending = None
        if pending is not None:
            pending.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.wait()
        elif self._pending is not None:
            self._pending.exception()  # waits; what ended the training is what is reported


def _write(files: Mapping[Path, Mapping[str, Any]]) -> None:
    for path, state in files.items():
        save_checkpoint(path, state)


def _copied(value: Any, copies: dict[Any, Tensor]) -> Any:
    """Tensors as copies on the CPU; what shares memory, such as weights in two files, is copied once."""
    if isinstance(value, Tensor):
        # views of one storage may start at one address: shape and strides are part of the key
        own = (value.data_ptr(), value.dtype, value.shape, value.stride(), value.device)
        if own not in copies:
            copies[own] = value.detach().to("cpu", copy=True)
        return copies[own]
    if isinstance(value, Mapping):
        return {key: _copied(v, copies) for key, v in value.items()}
    if isinstance(value, list):
        return [_copied(v, copies) for v in value]
    if isinstance(value, tuple):
        return tuple(_copied(v, copies) for v in value)
    return value
