"""The rows of ``mtl plugins``."""

from __future__ import annotations

from mtl_core.commands.plugins import by_place, listing
from mtl_core.testing.distributions import Install

SOURCE = (
    "from mtl_core import hookimpl, plugin\n@plugin\nclass Toy:\n    @hookimpl\n    def augment(self, images): ...\n"
)


def test_the_listing_is_plain_rows(install: Install) -> None:
    install("mtl-fake", {"fake": "fake_one:Toy"}, SOURCE)
    about = {"name": "fake", "place": "photometry", "summary": None}
    row = about | {"distribution": "mtl-fake", "version": "1.2", "status": "unchecked", "reason": None}
    assert listing() == [row | {"hooks": None}]
    assert listing(hooks=True) == [row | {"status": "ok", "hooks": ["augment"]}]


def test_rows_are_in_the_order_of_a_run() -> None:
    places = ["regularizer", None, "data set", "data set"]
    rows = [{"name": name, "place": place} for name, place in zip("dcba", places, strict=True)]
    assert [row["name"] for row in by_place(rows)] == ["a", "b", "d", "c"]


def test_a_plugin_that_cannot_be_used_says_why(install: Install) -> None:
    install("mtl-new", {"fake": "fake_one:Toy"}, SOURCE, ("mtl-core>=99",))
    (row,) = listing()
    assert row["status"] == "incompatible"
    assert row["reason"].startswith("needs mtl-core>=99, installed is ")
    assert row["hooks"] is None
