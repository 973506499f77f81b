"""Contract of what lets views show windows of an image."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from mtl_core.seeds import generator_for
from mtl_core.testing.contract import REPEATS, PluginContract, count_views, same, under
from mtl_core.testing.transform_contract import DRAWS

SAMPLES = 5


class WindowsContract(PluginContract):
    """``choose_windows``: where the further views of a batch look."""

    hook = "choose_windows"
    random: ClassVar[bool] = True
    """Whether different generators give different windows."""

    def windows(self, plugin: Any, seed: int = 0) -> Tensor:
        views = count_views(plugin)
        assert views > 1, "asks for one view only; `count_views` says how many go through the network"
        found = self.prepare(plugin).choose_windows(views, SAMPLES, generator_for(seed, "contract"))
        assert found is not None, "returned None: there is nothing to check"
        return found

    def test_windows_lie_within_the_image(self, plugin: Any) -> None:
        for seed in range(DRAWS):
            windows = self.windows(plugin, seed)
            assert windows.device.type == "cpu", "windows are drawn on the host"
            assert windows.is_floating_point(), f"windows are {windows.dtype}"
            assert (windows[..., 0] >= 1).all(), f"enlargements below 1: {windows[..., 0].min()}"
            assert (windows[..., 1:].abs() <= 1).all(), f"places outside -1..1: {windows[..., 1:]}"

    def test_draws_from_its_generator_only(self, plugin: Any) -> None:
        first, *others = (under(s, lambda: self.windows(plugin, 3)) for s in range(DRAWS))
        assert all(same(first, other) for other in others), "calls with generators of one seed differ"
        if self.random:
            found = [self.windows(plugin, seed) for seed in range(DRAWS)]
            assert any(not same(found[0], windows) for windows in found[1:]), "the generator's seed changes nothing"

    def test_remembers_nothing(self, plugin: Any) -> None:
        hooks = self.prepare(plugin)
        views = count_views(plugin)
        found = [hooks.choose_windows(views, SAMPLES, generator_for(3, "contract")) for _ in range(REPEATS)]
        for k, windows in enumerate(found[1:], 2):
            assert windows is not None, f"call {k} returned None"
            assert found[0] is not None
            assert same(found[0], windows), f"call {k} with a generator of the same seed differs"
