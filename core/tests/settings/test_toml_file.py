"""Experiment files: every mistake at once, each with its key, what was found, what was expected and a remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mtl_core.errors import ExperimentError
from mtl_core.settings.toml_file import load_experiment, parse_experiment

Install = Callable[..., None]
HEAD = 'name = "trial"\n'
TOY = HEAD + "[plugins.toy]\n"


def problems(text: str, *overrides: str) -> tuple[str, ...]:
    with pytest.raises(ExperimentError) as error:
        parse_experiment(text, "trial.toml", overrides)
    return error.value.problems


@pytest.mark.usefixtures("toy")
def test_a_short_file_gets_the_defaults() -> None:
    made = parse_experiment(TOY + "rate = 2\nsize = [1, 2]\n", "trial.toml")
    assert (made.name, made.seed, made.epochs, made.clip, made.precision) == ("trial", 0, 20, None, "32")
    assert list(made.named) == ["toy"]
    assert (made.named["toy"].rate, made.named["toy"].size, made.named["toy"].mode) == (2.0, (1, 2), "cosine")


@pytest.mark.usefixtures("toy")
def test_every_mistake_is_reported_at_once() -> None:
    text = (
        "epoch = 3\nseed = 2.7\nepochs = 0\nprecision = 32\nlearning_rate = inf\n"
        '[plugins.toy]\nrate = -1\nmode = "cosin"\nsize = [1]\n'
        'names = "abc"\nlimit = "automatic"\nbias = "false"\nrat = 1\n'
        "[plugins.tiy]\n[use]\ncombine_loss = 'toy'\ncombine_losses = 'tuy'\n"
    )
    found = dict(line.split(": ", 1) for line in problems(text))
    assert found == {
        "epoch": 'unknown setting; did you mean "epochs"?',
        "name": "missing; expected text (name in run folders, tables and reports)",
        "seed": "expected a whole number, found 2.7 (number)",
        "epochs": "must be >= 1, found 0",
        "precision": 'expected one of "32", "bf16", "fp16", found 32 (whole number); did you mean "32"?',
        "learning_rate": "must be < inf, found inf",
        "plugins.toy.rat": 'unknown option; did you mean "rate"?',
        "plugins.toy.rate": "must be > 0, found -1.0",
        "plugins.toy.mode": 'expected one of "cosine", "l1", found "cosin" (text); did you mean "cosine"?',
        "plugins.toy.size": "expected a list of 2 (a whole number, a whole number), found 1: [1] (list)",
        "plugins.toy.names": 'expected a list (text each), found "abc" (text)',
        "plugins.toy.limit": 'expected a number or "auto", found "automatic" (text)',
        "plugins.toy.bias": 'expected true or false, found "false" (text)',
        "plugins.tiy": 'no plugin of this name is installed; did you mean "toy"?',
        "use.combine_loss": 'no exclusive hook of this name; did you mean "combine_losses"?',
        "use.combine_losses": 'the experiment has no plugin "tuy"; did you mean "toy"? (it has: toy, tiy)',
    }


MALFORMED = {
    "plugins = 3\n" + HEAD: "plugins: expected a table for each plugin, found 3 (whole number)",
    HEAD: "plugins: missing; expected a table for each plugin, such as [plugins.NAME]",
    HEAD + "[plugins]\ntoy = 3": "plugins.toy: expected a table of options, found 3 (whole number)",
    HEAD + '[plugins."toy#"]': "plugins.toy#: expected the name of a plugin",
    TOY + "names = ['a', 3]": "plugins.toy.names[1]: expected text, found 3 (whole number)",
    'name = "a/b"\n[plugins.toy]': 'name: "a/b" cannot name a folder',
    HEAD + "use = 3\n[plugins.toy]": "use: expected a table, found 3 (whole number)",
    HEAD + "drops = [0.5, 2]\n[plugins.toy]": "drops: must be < 1.0, found 2.0",
}


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(("text", "message"), MALFORMED.items())
def test_malformed_files(text: str, message: str) -> None:
    (line,) = problems(text)
    assert message in line


@pytest.mark.usefixtures("toy")
def test_overrides_reach_settings_options_and_use(tmp_path: Path) -> None:
    path = tmp_path / "trial.toml"
    path.write_text(TOY + '[plugins."toy#2"]\nrate = 3\n')
    given = [
        "epochs=5",
        "plugins.toy.root=a=b",
        "plugins.toy#2.rate=2",
        'plugins."toy#2".mode=l1',
        "use.combine_losses=toy",
    ]
    made = load_experiment(path, [*given, "name=a trial", "freeze=depth, normals"])
    assert (made.epochs, made.name, made.use, made.freeze) == (
        5,
        "a trial",
        {"combine_losses": "toy"},
        ("depth", "normals"),
    )
    assert (made.named["toy"].root, made.named["toy#2"].rate, made.named["toy#2"].mode) == ("a=b", 2.0, "l1")


OVERRIDES = {
    "epochs": "--set epochs: expected KEY=VALUE",
    "=3": "--set =3: expected KEY=VALUE",
    "epoch=3": 'epoch: unknown setting; did you mean "epochs"?',
    "epochs=2.5": "epochs: expected a whole number, found 2.5 (number)",
    "plugins.toy=3": "expected plugins.PLUGIN.OPTION=VALUE",
    "epochs.x=3": "expected epochs=VALUE",
    "plugins.tou.rate=3": '--set plugins.tou.rate=3: the experiment has no plugin "tou"; did you mean "toy"?',
    "plugins.toy.rat=3": 'plugins.toy.rat: unknown option; did you mean "rate"?',
    "plugins.toy.rate=-3": "plugins.toy.rate: must be > 0, found -3.0",
    "plugins.toy.rate=fast": 'plugins.toy.rate: expected a number, found "fast" (text)',
    "use.combine_losses=me": 'use.combine_losses: the experiment has no plugin "me"',
}


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(("override", "message"), OVERRIDES.items())
def test_wrong_overrides(override: str, message: str) -> None:
    (line,) = problems(TOY, override)
    assert message in line


@pytest.mark.usefixtures("toy")
def test_tables_of_settings_on_the_command_line() -> None:
    overrides = ["optimizer_options.betas=[0.8, 0.9]", "optimizer_options.amsgrad=true", "rates.heads.depth=2"]
    overrides += ['rates."backbone"=0.5', "task_options.depth.loss=berhu", "task_options.depth.loss_scale=3"]
    made = parse_experiment(TOY, "trial.toml", overrides)
    assert made.optimizer_options == {"betas": [0.8, 0.9], "amsgrad": True}
    assert made.rates == {"heads.depth": 2.0, "backbone": 0.5}
    assert made.task_options == {"depth": {"loss": "berhu", "loss_scale": 3}}
    (found,) = problems(TOY, "optimizer_options.beta=1")
    assert found == 'optimizer_options: adam has no option beta; did you mean "betas"?'
    assert problems(TOY, "rates=2") == ("--set rates=2: expected rates.PART=FACTOR",)
