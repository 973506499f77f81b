"""Plugins that harm the process that imports them."""

from __future__ import annotations

import sys

import pytest

from mtl_core.discovery import InstalledPlugin, installed_plugins
from mtl_core.hooks.isolation import _run_child, check, check_all
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


LEAVES = "import sys; sys.exit(3)"


KILLED = "import os; os._exit(7)"


PRINTS = "print('hello'); import os; os.write(1, b'noise')\n"


def only(name: str) -> InstalledPlugin:
    return next(found for found in installed_plugins() if found.name == name)


def test_plugins_are_checked_in_processes_of_their_own(install: Install, capfd: pytest.CaptureFixture[str]) -> None:
    sound = subprocess_safe_source()
    install("mtl-noisy", {"noisy": "fake_noisy:Toy"}, PRINTS + sound)
    install("mtl-killed", {"killed": "fake_killed:Toy"}, KILLED)
    install("mtl-leaves", {"leaves": "fake_leaves:Toy"}, LEAVES)
    checked = {found.name: found for found in check_all(installed_plugins())}
    assert (checked["noisy"].status, checked["noisy"].hooks) == ("ok", ("augment",))
    assert checked["killed"].status == checked["leaves"].status == "broken"
    assert checked["killed"].reason == "mtl-killed 1.2: its import ended the process (exit code 7)"
    assert "SystemExit: 3" in checked["leaves"].reason
    assert capfd.readouterr() == ("", "")
    assert not {"fake_noisy", "fake_killed", "fake_leaves"} & set(sys.modules)


def subprocess_safe_source() -> str:
    return (
        "from mtl_core import hookimpl, plugin\n"
        "@plugin\nclass Toy:\n    @hookimpl\n    def augment(self, images): ...\n"
    )


def test_an_endless_import_is_cut_off(install: Install) -> None:
    install("mtl-slow", {"slow": "fake_slow:Toy"}, "import time; time.sleep(600)")
    found = check(only("slow"), timeout=0.5)
    assert (found.status, found.reason) == ("broken", "mtl-slow 1.2: its import took longer than 0.5 s")
