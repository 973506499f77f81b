"""Messages that a stranger stumbled over: what is to blame, and what to do, in the user's own words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException

from mtl_core import (
    Experiment,
    ExperimentError,
    MtlError,
    cli,
    hookimpl,
    make_fabric,
    nearest,
    parse_experiment,
    plugin,
)
from mtl_core.testing import read_options
from mtl_jtr import JTR
from mtl_suite.engine import executor, reason
from mtl_suite.schema import Engine, Entry, Settings
from mtl_torchjd import TorchJD

GOOD = """
name = "good"
[plugins.scenes]
[plugins.onelabel]
[plugins.segnet]
[plugins.ial]
primary = "segmentation"
"""


def problems(text: str, *overrides: str) -> tuple[str, ...]:
    with pytest.raises(ExperimentError) as caught:
        parse_experiment(text, "t.toml", overrides)
    assert str(caught.value).startswith("t.toml: ")
    return caught.value.problems


def test_a_setting_below_a_plugins_table() -> None:
    assert problems(GOOD.replace("[plugins.segnet]", "[plugins.segnet]\nepochs = 3")) == (
        'plugins.segnet.epochs: unknown option (known: width, norm); "epochs" is a setting of the experiment:'
        " write it above the first [plugins.…]",
    )
    (line,) = problems(GOOD, "plugins.segnet.epochs=3")
    assert line.endswith('"epochs" is a setting of the experiment: --set epochs=3')
    assert line.startswith("--set plugins.segnet.epochs: unknown option")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("epoch=3", '--set epoch: unknown setting; did you mean "epochs"?'),
        ("epochs=many", '--set epochs: expected a whole number, found "many" (text)'),
        ("epochs=0", "--set epochs: must be >= 1, found 0"),
        ("plugins.segnet.width=-4", "--set plugins.segnet.width: must be"),
        ("use.combine_losses=ia", '--set use.combine_losses: the experiment has no plugin "ia"; did you mean "ial"?'),
        (
            "use.combine_loss=ial",
            '--set use.combine_loss: no exclusive hook of this name; did you mean "combine_losses"?',
        ),
        ("use.augment=ial", "--set use.augment: no exclusive hook of this name"),
        (
            "use.combine_losses=segnet",
            "--set use.combine_losses: plugin \"segnet\" does not fill it; expected one of ['ial']",
        ),
    ],
)
def test_a_wrong_override_is_not_blamed_on_the_file(override: str, expected: str) -> None:
    (line,) = problems(GOOD, override)
    assert line.startswith(expected)


def test_places_are_checked_with_everything_else() -> None:
    found = problems("epoch = 3\n" + GOOD + '[plugins.full]\n[use]\ncombine_losses = "scenes"\n')
    assert found == (
        'epoch: unknown setting; did you mean "epochs"?',
        "use.combine_losses: plugin \"scenes\" does not fill it; expected one of ['ial']",
        'make_label_mask: onelabel and full both fill this place; choose one: [use] make_label_mask = "onelabel" or'
        ' make_label_mask = "full"',
    )


def test_a_place_that_no_plugin_fills() -> None:
    text = GOOD.split("[plugins.ial]")[0] + '[use]\ncombine_losses = "scenes"\n'
    assert problems(text) == ('use.combine_losses: plugin "scenes" does not fill it; no plugin of the experiment does',)


def test_a_place_whose_plugin_could_not_be_made_is_reported_once() -> None:
    found = problems(GOOD.replace("primary", "primry") + '[use]\ncombine_losses = "ial"\n')
    assert [line.partition(":")[0] for line in found] == ["plugins.ial.primry", "plugins.ial.primary"]


def test_an_experiment_knows_its_file() -> None:
    assert parse_experiment(GOOD, "t.toml").source == "t.toml"


def test_a_suite_is_recognised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "suite.toml"
    file.write_text('name = "s"\nseeds = [0]\n[defaults.plugins.scenes]\n[experiments.a]\ntitle = "A"\n')
    with pytest.raises(SystemExit):
        cli.main(["train", str(file)])
    assert capsys.readouterr().err == f"mtl: {file}: 1 problem\n  this is a suite: mtl suite {file}\n"


def test_a_list_of_anything() -> None:
    (line,) = read_options(Entry, {"vary": {"epochs": 3}}, "experiments.a")[1]
    assert line == "experiments.a.vary.epochs: expected a list, found 3 (whole number)"


def test_only_near_names_are_proposed() -> None:
    known = ("gradnorm", "dwa", "torchjd", "uw", "ial", "jtr", "mtpsl", "onelabel", "segnet")
    assert [nearest(name, known) for name in ("pcgrad", "mgda", "cagrad", "weather")] == [""] * 4
    typos = {"gradnrom": "gradnorm", "jrt": "jtr", "torchdj": "torchjd", "one-label": "onelabel", "mtspl": "mtpsl"}
    assert all(f'"{meant}"' in nearest(typo, known) for typo, meant in typos.items())


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device that is missed here is there")
def test_a_device_that_is_not_there() -> None:
    with pytest.raises(
        MtlError, match=r'^device = "cuda": no such device on this machine \(.+\); use device = "auto" or "cpu"$'
    ):
        make_fabric(experiment(device="cuda"))


@pytest.mark.parametrize(
    ("strategy", "reason"),
    [
        ("foo", "there is no such strategy; expected one of auto, ddp"),
        ("dpp", 'there is no such strategy; did you mean "ddp"'),
        ("fsdp", 'splits the network over devices.*; use "ddp" or "auto"$'),
        ("fsdp_cpu_offload", "splits the network"),
        ("deepspeed_stage_2", "splits the network"),
        ("xla", "splits the network"),
        ("dp", "splits the network"),
        ("ddp_spawn", 'processes begin in the middle of the program.*; use "ddp" or "auto"$'),
        ("ddp_fork", "processes begin in the middle of the program"),
        ("ddp_notebook", "processes begin in the middle of the program"),
    ],
)
def test_a_strategy_that_is_not_there(strategy: str, reason: str) -> None:
    with pytest.raises(MtlError, match=rf'^strategy = "{strategy}": .*{reason}'):
        make_fabric(experiment(device="cpu", strategy=strategy))


def test_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**settings: object) -> None:
        raise MisconfigurationException("You requested gpu: [0, 1]\n But your machine only has: [0]")

    monkeypatch.setattr("lightning_fabric.Fabric", refuse)
    with pytest.raises(MtlError, match=r'^device = "cpu", devices = 2: You requested gpu: \[0, 1\] But your machine'):
        make_fabric(experiment(device="cpu", devices=2))


def experiment(**settings: Any) -> Experiment:
    return Experiment(name="t", plugins=[JTR()], **settings)


def test_python_says_what_a_file_says() -> None:
    with pytest.raises(TypeError, match=r'^JTR\(\.\.\.\):\n  c_dist: expected a number, found "3" \(text\)$'):
        JTR(c_dist="3")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r'^JTR\(\.\.\.\):\n  c_dis: unknown setting; did you mean "c_dist"\?$'):
        JTR(c_dis=3)  # type: ignore[call-arg]
    with pytest.raises(ExperimentError) as caught:
        Experiment(name="t", plugins=[JTR()], bath_size=3, epochs="many")  # type: ignore[call-arg, arg-type]
    assert caught.value.problems == (
        'bath_size: unknown setting; did you mean "batch_size"?',
        'epochs: expected a whole number, found "many" (text)',
    )
    with pytest.raises(
        ExperimentError, match=r"^Experiment\(\.\.\.\): 2 problems\n  name: missing.*\n  plugins: missing"
    ):
        Experiment()  # type: ignore[call-arg]


@plugin
class Picky:
    rate: float = 1.0

    @hookimpl
    def after_epoch(self) -> None: ...

    def __attrs_post_init__(self) -> None:
        raise TypeError("not like this")


def test_another_type_error_is_left_as_it_is() -> None:
    with pytest.raises(TypeError, match=r"^not like this$"):
        Picky()
    with pytest.raises(TypeError, match="positional"):
        JTR(3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggregator": "UW"}, 'UW is a scalarizer: write scalarizer = "UW"'),
        ({"aggregator": "FAMO"}, 'FAMO is a scalarizer: write scalarizer = "FAMO"'),
        ({"scalarizer": "PCGrad"}, 'PCGrad is an aggregator: write aggregator = "PCGrad"'),
    ],
)
def test_a_method_of_the_other_kind(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        TorchJD(**options)  # type: ignore[arg-type]


def test_a_crashed_job_tells_its_exception() -> None:
    """submitit's message ends with the paths of its logs."""
    trace = "Job (task=0) failed with trace:\n---\nTraceback\n  x\nValueError: a bad\n---\n  - /log.out"
    assert reason(trace) == "ValueError: a bad"
    assert reason("Job 1 has not produced any output\nNo stream") == "Job 1 has not produced any output"


def test_slurm_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MtlError, match=r'engine.cluster = "slurm": .* Use cluster = "local"'):
        executor(Engine(cluster="slurm"), tmp_path, (1, 1))


def test_a_seed_counts_once() -> None:
    with pytest.raises(ValueError, match=r"expected every seed once, found \[0, 0\]"):
        Settings(name="s", seeds=(0, 0))


def test_an_interrupt_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(arguments: object) -> None:
        raise SystemExit(130)

    monkeypatch.setattr(cli, "app", interrupted)
    monkeypatch.setattr(cli, "join_commands", lambda: None)
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", "x.toml"])
    assert ended.value.code == 130
    assert "mtl train goes on with --resume" in capsys.readouterr().err
