"""Settings in which two experiments differ: those of a resume, and those of two runs in one table."""

from __future__ import annotations

from typing import Any

from mtl_core.settings.diff import differing, unlike


def document(**settings: Any) -> dict[str, Any]:
    plugins = {"nyuv2": {"root": "/here", "size": [1, 2]}, "labels": {"path": "/here/one.pth"}}
    return {"epochs": 4, "schedule": "constant", "device": "cpu", "plugins": plugins, **settings}


def moved(root: str, path: str) -> dict[str, Any]:
    return {"nyuv2": {"root": root, "size": [1, 2]}, "labels": {"path": path}}


def test_a_resume_may_change_what_computes_nothing_else() -> None:
    other = document(device="cuda", epochs=9, plugins=moved("/there", "/there/one.pth"))
    assert differing(document(), other) == []


def test_every_other_setting_is_listed_with_both_values() -> None:
    other = document(learning_rate=0.1, plugins=moved("/here", "/here/two.pth"))
    assert differing(document(), other) == [
        "plugins.labels.path was one.pth, now two.pth",
        "learning_rate was absent, now 0.1",
    ]


def test_epochs_are_fixed_by_a_schedule_over_all_of_them() -> None:
    (problem,) = differing(document(schedule="cosine"), document(schedule="cosine", epochs=9))
    assert problem.startswith('epochs was 4, now 9: schedule "cosine" would have had other rates')


def test_runs_of_one_experiment_may_differ_in_the_machine_but_not_in_the_order_of_plugins() -> None:
    assert unlike(document(), document(device="cuda", workers=4)) == []
    turned = dict(reversed(document()["plugins"].items()))
    assert unlike(document(), document(plugins=turned)) == ["plugins was nyuv2, labels, now labels, nyuv2"]
    assert unlike(document(), document(epochs=9), free=("epochs",)) == []
    assert unlike(document(), document(epochs=9)) == ["epochs was 4, now 9"]
