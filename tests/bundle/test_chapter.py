"""The chapter of training.md from NLST to Table 1: every command at small size, with stand-ins of the same layout."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn
from torchvision.models import alexnet, vgg16

import data_prep.cli
from data_prep.nlst import idc, study
from data_prep.phantom.cohort import make
from scripts.networks import inception
from scripts.networks.perceptual import BACKBONES
from tests.bundle.helpers import BUNDLE, refusal
from tests.bundle.test_card import stable_diffusion
from tests.data_prep.conftest import trial  # noqa: F401 (a fixture)
from tests.data_prep.helpers import Bucket

TEXT = (BUNDLE / "docs" / "training.md").read_text()
CHAPTER = TEXT.split("## From NLST to Table 1's NAMD row, on one GPU\n")[1].split("\n## ")[0]
PAPER = yaml.safe_load((BUNDLE / "configs" / "paper.yaml").read_text())
COMMANDS, SLURM = re.findall(r"```sh\n(.*?)```", CHAPTER, re.DOTALL)


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many patients as give cases to every section."""
    folder = tmp_path_factory.mktemp("phantom") / "phantom"
    make(folder, patients=12, seed=5)
    return folder


@pytest.fixture
def place(
    phantom: Path,
    trial: Path,  # noqa: F811
    gemma_folder: Path,
    tiny_settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A folder with all that the commands name, and an overlay that makes networks and schedules small."""
    shutil.copy(trial / "tracking.parquet", tmp_path / "nodule_tracking.parquet")
    (tmp_path / "TABLES").symlink_to(phantom / "tables")
    (tmp_path / "bundle").symlink_to(BUNDLE)
    shape = {**tiny_settings["unet_shape"], "prediction_type": "epsilon"}
    torch.save(stable_diffusion({**tiny_settings, "unet_shape": shape}), tmp_path / "v1-5-pruned.ckpt")
    llm = {"llm": str(gemma_folder), "num_prompt_sets": 2, "prompt_length": 8, "standardise": False}
    small = {name: tiny_settings[name] for name in ("image_size", "rotations", "autoencoder_shape", "num_runs")}
    small |= {
        "conditioner_arguments": llm,
        "context_dim": 16,
        "unet_shape": {**shape, "beta_schedule": "scaled_linear"},
    }
    small |= {"max_epochs": 1, "batch_size": 2, "num_steps": 2, "resamples": 20}
    small["classifier_shape"] = {"hidden_size": 16, "num_layers": 1, "mlp_dim": 16, "num_heads": 2}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(small))
    monkeypatch.setattr(idc, "client", lambda: Bucket(trial / "dicom", lost=None))
    monkeypatch.setattr(study, "installed_index", lambda needed: trial / "index.parquet")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def backbones(folder: Path) -> None:
    """Files of the perceptual distance's names in torch hub's cache, with random weights."""
    folder.mkdir(parents=True)
    for name, network in {"vgg": vgg16, "alex": alexnet}.items():
        state = network(weights=None).features.state_dict()
        torch.save({f"features.{key}": value for key, value in state.items()}, folder / BACKBONES[name])  # type: ignore[index]


class Inception(nn.Module):
    """Stands for torch-fidelity's network, which the tests do not install: four features."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
        return (images.float().unflatten(1, (3, 1)).mean(dim=(1, 2)).flatten(1)[:, :4],)


@pytest.mark.documents
def test_every_command_runs(place: Path, monai: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """In its order and from one folder; what is strict is refused first, without the files that it needs."""
    extras = tomllib.loads((BUNDLE.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for line in COMMANDS.splitlines():
        program, *arguments = shlex.split(line)
        if program == "pip":
            assert set(re.findall(r"\w+", arguments[-1])) <= {*extras}
        elif program == "hf":
            assert arguments == ["download", PAPER["conditioner_arguments"]["llm"]]
        elif arguments[1] == "data_prep":
            with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stopped:
                patch.setattr(sys, "argv", ["data_prep", *arguments[2:]])
                data_prep.cli.main()
            assert not stopped.value.code, line
        else:
            assert arguments[:2] == ["-m", "monai.bundle"]
            index = arguments.index("--config_file") + 1
            files = yaml.safe_load(arguments[index]) if arguments[index].startswith("[") else [arguments[index]]
            arguments[index] = str([*files, "tiny.yaml"])
            if "--strict" in arguments and not (place / "torch" / "hub").exists():
                assert BACKBONES["vgg"] in refusal(lambda given=arguments[2:]: monai(*given))
                backbones(place / "torch" / "hub" / "checkpoints")
            elif "--strict" in arguments:
                assert inception.INCEPTION in refusal(lambda given=arguments[2:]: monai(*given))
                monkeypatch.setattr(inception, "_find_inception", lambda weights: Path(inception.INCEPTION))
                monkeypatch.setattr(inception, "_inception", lambda path: Inception())
            monai(*arguments[2:])
    metrics = json.loads((place / "runs" / "nlst" / "evaluation" / "metrics.json").read_text())
    assert {"lpips", "fid", "auroc", "auprc"} <= metrics["methods"]["NAMD"].keys()
    assert "fallback" not in json.dumps(metrics["feature_extractors"])


def test_its_script_for_slurm_is_one_and_names_what_there_is() -> None:
    subprocess.run(["sh", "-n"], input=SLURM, text=True, check=True)
    assert all((BUNDLE.parent / path).is_file() for path in re.findall(r"'(bundle/\S+?)'", SLURM))
