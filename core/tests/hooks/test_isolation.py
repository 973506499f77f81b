"""Plugins that harm the process that imports them."""

from __future__ import annotations

from mtl_core import installed_plugins
from mtl_core.hooks.isolation import _run_child, check_all
from mtl_core.testing.distributions import PLUGIN, Install

HARMFUL = {
    "leaves": "import os; os._exit(0)",
    "crashes": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "interrupts": "raise KeyboardInterrupt",
    "closes": "import os; os.close(1); os.close(2); raise ImportError('closed')",
    "prints": "print('noise')\nraise ImportError('[/docs]')",
}


def test_the_others_go_on_and_few_processes_are_started(install: Install, monkeypatch: object) -> None:
    for name, source in HARMFUL.items():
        install(f"mtl-{name}", {name: f"fake_{name}:Toy"}, source)
    for name in ("aaa", "mmm", "zzz"):
        install(f"mtl-{name}", {name: f"fake_{name}:Toy"}, PLUGIN)
    started: list[int] = []

    def counted(*arguments: object) -> str:
        started.append(1)
        return _run_child(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("mtl_core.hooks.isolation._run_child", counted)  # type: ignore[attr-defined]
    found = {plugin.name: plugin for plugin in check_all(installed_plugins())}
    assert {name for name, plugin in found.items() if plugin.status == "ok"} == {"aaa", "mmm", "zzz"}
    assert all(found[name].reason for name in HARMFUL)
    assert len(started) <= 1 + len(HARMFUL)
