"""How many kernels a training step launches, and which of our functions ask for them.

``python tests/benchmarks/launches.py`` prints a table and needs no GPU. A small network on a fast GPU waits for the CPU
to launch its kernels, so that their number is the time of a step. Counted are the operations of PyTorch that would
launch one on CUDA: no views, no bare memory, a ``_foreach`` or fused operation as one. An operation of the backward
pass belongs to the function whose forward pass asked for it.
"would wait" lists what makes Python wait for the device, or copies numbers of the host to it. Here every tensor is on
the CPU, so that both lists have what works there on purpose too, such as torchjd's methods on a copy of the Gramian.
``--device cuda`` counts launches of kernels by PyTorch's profiler as well.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import bench
import torch
import weighting
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Step = Callable[[], object]

_BARE = {
    "alias", "detach", "empty", "empty_like", "empty_strided", "lift_fresh", "new_empty", "new_empty_strided",
    "resize_", "set_", "_local_scalar_dense", "_unsafe_view", "_reshape_alias", "promote_types", "result_type",
    "_record_function_enter_new", "_record_function_exit",
}  # fmt: skip
"""Operations that launch nothing, beside views."""
_TWO = {"select_backward", "slice_backward", "masked_fill"}
"""Operations that fill or copy a tensor first, and then change it."""
_WAITS = {"_local_scalar_dense", "nonzero", "equal", "masked_select"}
"""Operations that make Python wait for the device."""
_WAITING_CALLS = {"tolist", "cpu", "numpy", "tensor", "as_tensor"}
"""Functions of PyTorch that wait, or copy numbers of the host to the device, and are no operations on the CPU."""
_OURS = re.compile(r"/(mtl_\w+)/(.+)\.py$")
_IN_TRACEBACK = re.compile(r'File "(.+)", line \d+, in (\w+)')
_BACKWARD = "mtl_core/training/optimizer_steps train_batch"
"""The function of ours in whose call of ``backward`` autograd runs."""
_BY_HAND = re.compile(r"/bench\.py$")


def _of_file(file: str, function: str) -> str | None:
    found = _OURS.search(file)
    if found:
        return f"{found[1]}/{found[2]} {function}"
    return f"by hand {function}" if _BY_HAND.search(file) else None


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _caller() -> str:
    """The innermost function of ours that is running; in autograd's own work, the one that ran in the forward pass."""
    names = (_of_file(frame.f_code.co_filename, frame.f_code.co_name) for frame in _frames())
    found = next((name for name in names if name), "other")
    node = torch._C._current_autograd_node()
    if node is None or found not in (_BACKWARD, "by hand step", "mtl_core/training/encoder_gradient expect"):
        return found
    return _of_forward(node.metadata.get("traceback_", [])) or found


def _of_forward(traceback: Sequence[str]) -> str | None:
    lines = _IN_TRACEBACK.findall("".join(traceback))
    names = [name for name in (_of_file(*line) for line in reversed(lines)) if name]
    return f"{names[0]} (backward)" if names else None


class _Operations(TorchDispatchMode):
    """Counts operations, and what waits for the device, by the function that asked for them."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[tuple[str, str]] = Counter()
        self.waits: Counter[tuple[str, str]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in _WAITS or (name == "index" and _by_mask(args[1])):
            self.waits[_caller(), name] += 1
        if not func.is_view and name not in _BARE:
            self.count[_caller(), name] += 2 if name in _TWO else 1
        return func(*args, **(kwargs or {}))

    def note_call(self, frame: FrameType, event: str, function: Any) -> None:
        """For ``sys.setprofile``."""
        name = getattr(function, "__name__", "")
        if event == "c_call" and name in _WAITING_CALLS and _of_file(frame.f_code.co_filename, frame.f_code.co_name):
            self.waits[_caller(), name] += 1


def _by_mask(index: Sequence[Tensor | None]) -> bool:
    return any(part is not None and part.dtype == torch.bool for part in index)


@contextmanager
def _as_on_cuda() -> Iterator[None]:
    """The Gramian's path of accelerators, on the CPU."""
    module: Any = importlib.import_module("mtl_core.training.gramian")
    own = module._by_pairs
    module._by_pairs = module._by_blocks
    try:
        yield
    finally:
        module._by_pairs = own


def counted(step: Step) -> _Operations:
    """What one step asks for."""
    with _as_on_cuda():
        step()  # what is made once
        found = _Operations()
        # anomaly mode notes the forward pass's stack at every node of the graph
        with torch.autograd.set_detect_anomaly(True, check_nan=False), found:
            sys.setprofile(found.note_call)
            step()
            sys.setprofile(None)
    return found


def _by_function(count: Counter[tuple[str, str]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for (function, _), times in count.items():
        found[function] += times
    return found


def _is_network(function: str) -> bool:
    """The network's own kernels, which the hand-written step has too."""
    return function.startswith(("mtl_backbones", "mtl_nn"))


def _steps(width: int, device: str) -> Mapping[str, Callable[[], Step]]:
    shape = bench.Shape(width=width)
    options = argparse.Namespace(width=width, device=device)

    def of_three(method: str) -> Step:
        return bench.framework_step(bench.trainer(method, shape, device))

    def of_twenty(method: str) -> Step:
        return bench.framework_step(weighting.made(method, 20, options))

    def three_weighted(method: str) -> Step:
        return bench.framework_step(weighting.made(method, 3, options))

    return {
        "by hand": lambda: bench.hand_written_step(bench.trainer("uniform", shape, device)),
        **{name: partial(of_three, name) for name in ("uniform", "ial", "jtr", "mtpsl", "consistency")},
        **{f"K = 3 {name}": partial(three_weighted, name) for name in ("uniform", "imtl", "torchjd PCGrad")},
        **{
            f"K = 20 {name}": partial(of_twenty, name)
            for name in ("uniform", "uw", "ial", "imtl", "torchjd MGDA", "torchjd PCGrad")
        },
    }


def launched(step: Step) -> int:
    """Kernels, copies and fills that a step puts on a CUDA device, by PyTorch's profiler."""
    from torch.profiler import ProfilerActivity, profile

    step()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        step()
        torch.cuda.synchronize()
    on_device = [event for event in profiled.events() or [] if event.device_type == torch.autograd.DeviceType.CUDA]
    return len(on_device)


def _print(name: str, step: Step, options: argparse.Namespace) -> None:
    found = counted(step)
    by_function = _by_function(found.count)
    ours = {f: n for f, n in by_function.items() if not _is_network(f)}
    on_device = f", {launched(step)} on the device" if bench.on_cuda(options.device) else ""
    print(f"{name}: {sum(by_function.values())} operations, {sum(ours.values())} beside the network{on_device}")
    for function, times in sorted(ours.items(), key=lambda item: -item[1])[: options.lines]:
        print(f"  {times:4d}  {function}")
        if options.operations:
            asked = {op: n for (f, op), n in found.count.items() if f == function}
            print("        " + ", ".join(f"{n} {op}" for op, n in sorted(asked.items(), key=lambda item: -item[1])))
    for (function, what), times in sorted(found.waits.items()):
        print(f"  would wait: {times} {what} in {function}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--width", type=int, default=4, help="of SegNet; the number of launches does not depend on it")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--only", nargs="+", metavar="STEP", help="names of the table's rows")
    parser.add_argument("--lines", type=int, default=40, help="functions that are shown")
    parser.add_argument("--operations", action="store_true", help="show each function's operations")
    options = parser.parse_args()
    bench.check_device(parser, options.device)
    for name, make in _steps(options.width, options.device).items():
        if options.only is None or name in options.only:
            _print(name, make(), options)


if __name__ == "__main__":
    main()
