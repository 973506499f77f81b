"""What an exported file predicts, and what it says of itself."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import mtl_export.export
from mtl_core import load_network
from mtl_core.testing import main
from mtl_export.export import _FORMATS, export_run


def skip_without(form: str) -> None:
    missing = [name for name in _FORMATS[form].needs if find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}; pip install 'mtl-export[{form}]'")


def reader(form: str, file: Path) -> Any:
    if form == "torch-export":
        return torch.export.load(file).module()
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["segmentation", "depth", "normals"]
    return lambda images: [torch.from_numpy(v) for v in session.run(None, {"images": images.numpy()})]


def metadata(form: str, file: Path) -> dict[str, Any]:
    if form == "torch-export":
        extra = {"mtl": ""}
        torch.export.load(file, extra_files=extra)
        return json.loads(extra["mtl"])
    if form == "onnx":
        import onnx

        return json.loads({p.key: p.value for p in onnx.load(file).metadata_props}["mtl"])
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        return json.loads(opened.metadata()["mtl"])


def failing(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as stopped:
        main([str(a) for a in arguments])
    assert stopped.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(("form", "size"), [("torch-export", None), ("torch-export", (20, 44)), ("onnx", (20, 44))])
def test_the_file_predicts_what_the_network_predicts(form: str, size: tuple[int, int] | None, run: Path) -> None:
    skip_without(form)
    made = export_run(run, form, size=size)
    assert "largest difference" in made.compared
    images = torch.rand(5, 3, *(size or (32, 32)))
    own = load_network(run)(images)
    found = reader(form, made.file)(images)
    assert (own["segmentation"] == found[0]).float().mean() > 0.999
    assert torch.allclose(own["depth"], found[1], atol=1e-5)
    assert torch.allclose(own["normals"], found[2], atol=1e-5)
    check_metadata(metadata(form, made.file), list(size or (32, 32)))


def check_metadata(found: dict[str, Any], size: list[int]) -> None:
    assert (found["run"], found["checkpoint"], found["epoch"], found["size"]) == ("run", "last", 1, size)
    kinds = [(task["kind"], task["name"]) for task in found["tasks"]]
    assert kinds == [(name, name) for name in ("segmentation", "depth", "normals")]


def test_weights_by_the_names_of_the_network(run: Path) -> None:
    skip_without("safetensors")
    from safetensors.torch import load_file

    made = export_run(run, "safetensors", run.parent / "w.safetensors", "best")
    assert made.file == run.parent / "w.safetensors"
    own, read = load_network(run, "best").network.state_dict(), load_file(made.file)
    assert own.keys() == read.keys()
    assert all(torch.equal(own[name], read[name]) for name in own)


def test_the_file_of_weights_says_what_it_is(run: Path) -> None:
    skip_without("safetensors")
    check_metadata(metadata("safetensors", export_run(run, "safetensors").file), [32, 32])


def test_the_command(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["export", str(run), "--format", "torch-export", "--size", "16x24"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith(f"{run / 'network.pt2'}: compared with the network on 3 random images")


def test_mistakes(run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert 'did you mean "onnx"?' in failing(capsys, "export", run, "--format", "onx")
    assert "--size 20: expected HxW" in failing(capsys, "export", run, "--format", "torch-export", "--size", "20")
    assert "not a run folder" in failing(capsys, "export", run.parent, "--format", "torch-export")
    monkeypatch.setattr(mtl_export.export, "find_spec", lambda name: None)
    message = failing(capsys, "export", run, "--format", "onnx")
    assert 'needs onnx, onnxscript, onnxruntime; pip install "mtl-export[onnx]"' in message


def test_a_file_that_predicts_something_else_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = mtl_export.export._write_graph

    def spoilt(*arguments: Any) -> Any:
        read = write(*arguments)

        def predict(images: Tensor) -> tuple[Tensor, ...]:
            classes, depth, normals = read(images)
            return classes, depth + 0.1, normals

        return predict

    monkeypatch.setattr(mtl_export.export, "_write_graph", spoilt)
    with pytest.raises(mtl_export.export.MtlError, match="predicts another depth than the network"):
        export_run(run, "torch-export")
