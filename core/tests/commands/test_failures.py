"""A process of the run that was killed is reported in one line."""

from __future__ import annotations

import os

import pytest

from mtl_core.commands.failures import lost_process


@pytest.mark.parametrize(
    "text",
    [
        "DataLoader worker (pid(s) 123) exited unexpectedly",
        "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1234",
    ],
)
def test_a_lost_process_is_one_line(text: str) -> None:
    assert "was killed (out of memory?); mtl train goes on with --resume" in lost_process(RuntimeError(text))
    assert lost_process(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) == ""


def test_torch_words_a_lost_worker_as_we_expect() -> None:
    from torch.utils.data import DataLoader

    class Ends:
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> int:
            os._exit(1)

    with pytest.raises(RuntimeError) as error:
        list(DataLoader(Ends(), num_workers=1))  # type: ignore[arg-type]
    assert lost_process(error.value)
