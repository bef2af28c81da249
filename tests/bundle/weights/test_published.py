"""Files of others: opened without running anything, and what is wrong with them is said."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from scripts.weights.checkpoints import CheckpointError
from scripts.weights.published import neighbouring_config, open_weights, weights_file

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.ones(())}


class Runs:
    """Whose unpickling would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return exec, (f"open({str(self.path)!r}, 'w')",)


class RunsACommand(Runs):
    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize(
    "content",
    [STATE, {"state_dict": STATE, "epoch": 3}, {"network": STATE, "optimizer": {"state": {}}}, {**STATE, "epoch": 3}],
    ids=["state dict", "lightning", "ignite", "with a number"],
)
@pytest.mark.parametrize("new_format", [True, False])
def test_state_dicts_as_they_are_saved(tmp_path: Path, content: dict[str, Any], new_format: bool) -> None:
    torch.save(content, tmp_path / "weights.pt", _use_new_zipfile_serialization=new_format)
    opened = open_weights(tmp_path / "weights.pt", "unet")
    assert opened.keys() == STATE.keys() and all(torch.equal(opened[name], STATE[name]) for name in STATE)


def test_several_state_dicts_are_not_guessed_among(tmp_path: Path) -> None:
    torch.save({"generator": STATE, "critic": STATE}, tmp_path / "gan.pt")
    with pytest.raises(CheckpointError, match=r"several state dicts \(critic, generator\)"):
        open_weights(tmp_path / "gan.pt", "unet")


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, torch.ones(3)])
def test_no_state_dict_at_all(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"other.pt: holds no tensors by name"):
        open_weights(tmp_path / "other.pt", "unet")


@pytest.mark.parametrize("attack", [Runs, RunsACommand])
@pytest.mark.parametrize("new_format", [True, False])
def test_code_in_a_checkpoint_never_runs(tmp_path: Path, attack: type[Runs], new_format: bool) -> None:
    torch.save(
        {"state_dict": STATE, "x": attack(tmp_path / "ran")},
        tmp_path / "evil.ckpt",
        _use_new_zipfile_serialization=new_format,
    )
    with pytest.raises(CheckpointError, match=r"evil.ckpt: (refused|not a readable)"):
        open_weights(tmp_path / "evil.ckpt", "unet")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("left", [0, 10, 600, -100])
@pytest.mark.parametrize("name", ["cut.ckpt", "cut.safetensors"])
def test_a_truncated_file_is_named(tmp_path: Path, name: str, left: int) -> None:
    path = tmp_path / name
    torch.save(STATE, path) if name.endswith("ckpt") else save_file(STATE, path)
    path.write_bytes(path.read_bytes()[:left] if left < 200 else b"<html>" + bytes(left))
    with pytest.raises(CheckpointError, match=rf"{name}: not a readable"):
        open_weights(path, "unet")


def test_folders_of_diffusers(tmp_path: Path) -> None:
    for part in ("vae", "unet"):
        (tmp_path / part).mkdir()
    save_file(STATE, tmp_path / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    (tmp_path / "unet" / "config.json").write_text(json.dumps({"scaling_factor": 0.5}))
    assert open_weights(tmp_path, "unet").keys() == STATE.keys() == open_weights(tmp_path / "unet", "unet").keys()
    assert neighbouring_config(tmp_path, "unet") == {"scaling_factor": 0.5}
    with pytest.raises(CheckpointError, match=r"vae/diffusion_pytorch_model.safetensors: no such file"):
        weights_file(tmp_path, "autoencoder")
    save_file(STATE, tmp_path / "unet" / "diffusion_pytorch_model.safetensors")
    assert weights_file(tmp_path, "unet").name == "diffusion_pytorch_model.safetensors", "the whole precision first"
