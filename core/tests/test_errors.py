"""Messages of errors: whole, and without a traceback, wherever they were raised."""

from __future__ import annotations

import pytest
from torch.utils.data import DataLoader, Dataset

from mtl_core.errors import DataError, nearest

MESSAGE = "depth/0003.png: damaged\n  expected: a picture\n  remedy: copy it again"


class Damaged(Dataset[int]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        try:
            raise OSError("cannot be decoded")
        except OSError as error:
            raise DataError(MESSAGE) from error


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_worker_says_the_same(workers: int) -> None:
    loader = DataLoader(Damaged(), num_workers=workers, multiprocessing_context="fork" if workers else None)
    with pytest.raises(DataError) as caught:
        list(loader)
    assert str(caught.value) == MESSAGE


def test_the_nearest_name() -> None:
    assert nearest("dpeth", ("depth", "normals")) == '; did you mean "depth"?'
    assert nearest("x", ("depth", "normals")) == ""
