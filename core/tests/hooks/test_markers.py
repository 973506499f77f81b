"""The markers that make a method a hook."""

from __future__ import annotations

import subprocess
import sys

from mtl_core.hooks.markers import HOOK_VERSION, hookimpl, hookspec


def test_a_mark_leaves_the_method_as_it_is() -> None:
    def augment(self: object, images: int) -> int:
        return images + 1

    marked = hookimpl(augment)
    assert marked is augment
    assert marked(None, 1) == 2
    assert hasattr(marked, "mtl_impl")
    assert not hasattr(marked, "mtl_spec")
    assert hasattr(hookspec(augment), "mtl_spec")


def test_the_version_is_a_number_that_plugins_are_compared_with() -> None:
    assert isinstance(HOOK_VERSION, int)
    assert HOOK_VERSION >= 1


def test_no_torch_is_imported() -> None:
    code = "import sys, mtl_core.hooks.markers, mtl_core.hooks.plugin; print('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "False"
