"""The model card: every command in it runs, and what it says of the configurations is so."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import yaml

from scripts.networks.autoencoder import StableDiffusionAutoencoder
from scripts.networks.unet import StableDiffusionUNet
from scripts.weights.key_maps import COMPVIS, key_maps_of
from tests.bundle.helpers import BUNDLE

CARD = (BUNDLE / "docs" / "README.md").read_text()
COMMANDS = [line.strip() for line in CARD.splitlines() if re.match(" {4}(?! )|```", line)]


@pytest.fixture
def place(
    trained: Path, tiny_dataset: Path, tiny_settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder with all that the card's commands name, and an overlay that makes what they do small."""
    shutil.copytree(BUNDLE, tmp_path / "bundle", ignore=shutil.ignore_patterns("models", "__pycache__"))
    for models in (tmp_path / "bundle" / "models", tmp_path / "runs" / "lidc" / "models"):
        shutil.copytree(trained / "models", models)
    for dataset in (tmp_path / "dataset", tmp_path / "runs" / "lidc" / "dataset"):
        dataset.symlink_to(tiny_dataset)
    shutil.copy(tiny_dataset / "4_t0.nii.gz", tmp_path / "CROP.nii.gz")
    (tmp_path / "EHR.json").write_text(json.dumps({"age": 66}))
    torch.save(stable_diffusion(tiny_settings), tmp_path / "v1-5-pruned.ckpt")
    tiny = {
        **tiny_settings,
        "max_epochs": 1,
        "loss": {"perceptual_weight": 0.0},
        "bundle_root": str(tmp_path / "bundle"),
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stable_diffusion(tiny_settings: dict[str, Any]) -> dict[str, Any]:
    """What stands for the published file: its names, and random weights of the tiny networks."""
    networks = (
        StableDiffusionAutoencoder(**tiny_settings["autoencoder_shape"]),
        StableDiffusionUNet(context_dim=768, **tiny_settings["unet_shape"]),
    )
    tables = [(network.state_dict(), key_maps_of(network)[COMPVIS]) for network in networks]
    return {"state_dict": {theirs: state[ours] for state, table in tables for ours, theirs in table.items()}}


def test_every_command_runs(place: Path, monai: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """In the card's order and from one folder, so that later commands find what earlier ones have made."""
    uploads: list[dict[str, Any]] = []
    for name in ("create_repo", "upload_folder", "create_tag"):
        monkeypatch.setattr(huggingface_hub.HfApi, name, lambda self, **arguments: uploads.append(arguments))
    for command in COMMANDS:
        own_code = command.startswith("PYTHONPATH=bundle ")
        python, flag, program, *arguments = shlex.split(command.removeprefix("PYTHONPATH=bundle "))
        assert python == "python" and (flag == "-c" or (flag, program) == ("-m", "monai.bundle")), command
        if flag == "-c":
            exec(program, {})
            continue
        assert own_code or arguments[0] == "run", f"MONAI does not put the bundle's root on the path: {command}"
        if arguments[1] != "onnx" or find_spec("onnx"):
            index = arguments.index("--config_file") + 1
            files = yaml.safe_load(arguments[index]) if arguments[index].startswith("[") else [arguments[index]]
            arguments[index] = str([*files, "tiny.yaml"])
            monai(*arguments)
    assert (place / "out" / "diffusers" / "unet" / "config.json").is_file()
    models = {path.name for path in (place / "runs" / "mine" / "models").iterdir()}
    assert {"autoencoder.safetensors", "unet_conditional.safetensors", "classifier.safetensors"} <= models
    for run in ("mine", "lidc"):
        assert (place / "runs" / run / "evaluation" / "report.html").is_file()
    assert (place / "out" / "predictions" / "CROP" / "samples.nii.gz").is_file()
    assert (place / "bundle" / "models" / "model.pt").is_file() and (place / "out" / "model.ts").is_file()
    assert not (place / "bundle" / "models" / "model.ts").exists(), "MONAI Deploy would prefer it"
    assert [upload["repo_id"] for upload in uploads] == ["OWNER/namd"] * 3
    version = json.loads((BUNDLE / "configs" / "metadata.json").read_text())["version"]
    assert uploads[-1]["tag"] == version


def test_schedules_are_the_configurations() -> None:
    rows = re.findall(r"\| (\w+) \| (\d+) \| (\d+) \| (\S+) \|", CARD)
    assert [stage for stage, *_ in rows] == ["autoencoder", "unconditional", "conditional", "classifier"]
    for stage, *values in rows:
        config = yaml.safe_load((BUNDLE / "configs" / f"train_{stage}.yaml").read_text())
        expected = [config["max_epochs"], config["batch_size"], config["learning_rate"]]
        assert [float(value) for value in values] == expected, stage
