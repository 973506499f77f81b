"""What the hook specs say: names, arguments, which are exclusive."""

from __future__ import annotations

from mtl_core.hooks.spec_table import hook_arguments


def test_hooks_are_listed_with_their_arguments() -> None:
    listed = hook_arguments()
    assert listed["augment"] == ("images", "generator")
    assert next(iter(listed)) == "before_run"
