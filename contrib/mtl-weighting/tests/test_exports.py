"""The mathematics on plain tensors is imported from the package, and only when it is asked for."""

import subprocess
import sys

import pytest

import mtl_weighting


def imported(code: str) -> set[str]:
    """The modules that a fresh interpreter has after ``code``."""
    print_them = "import sys; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", f"{code}; {print_them}"], capture_output=True, text=True, check=True)
    return set(found.stdout.split())


@pytest.mark.parametrize("name", mtl_weighting.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(mtl_weighting, name).__name__ == name


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match=r"'mtl_weighting' has no attribute 'bargin'"):
        mtl_weighting.bargin  # noqa: B018 - the access is what is tested


def test_the_package_alone_is_light() -> None:
    assert not imported("import mtl_weighting") & {"torch", "mtl_core", "mtl_weighting.nash"}


def test_a_plugins_module_is_imported_without_the_others() -> None:
    found = {name for name in imported("import mtl_weighting.nash") if name.startswith("mtl_weighting.")}
    assert found == {f"mtl_weighting.{name}" for name in ("nash", "gramians", "rules")}
