"""What the hook specs say: names, arguments, which are exclusive."""

from __future__ import annotations

from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.spec_table import exclusive_hooks, hook_arguments, hooks_of


def test_hooks_are_listed_with_their_arguments() -> None:
    listed = hook_arguments()
    assert listed["augment"] == ("images", "generator")
    assert next(iter(listed)) == "before_run"


class Two:
    """Marks two hooks, and has a third one's name without a mark."""

    @hookimpl
    def after_run(self) -> None: ...

    @hookimpl
    def augment(self, images: object) -> object:
        return images

    def relabel(self) -> None: ...


class Three(Two):
    @hookimpl
    def before_run(self) -> None: ...


def test_a_class_has_the_hooks_that_it_marks_in_the_order_of_a_run() -> None:
    assert hooks_of(Two) == ("augment", "after_run")
    assert hooks_of(Three) == ("before_run", "augment", "after_run")
    assert hooks_of(object) == ()


def test_places_of_one_plugin() -> None:
    assert set(exclusive_hooks()) <= set(hook_arguments())
    assert {"build_dataset", "combine_losses"} <= set(exclusive_hooks())
    assert not {"augment", "compute_regularizer"} & set(exclusive_hooks())
