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


# --- weights in several files, and variants

HALVES = ({"a.weight": STATE["a.weight"]}, {"b": STATE["b"]})


def save(tensors: dict[str, Any], path: Path) -> None:
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)


@pytest.fixture(params=["safetensors", "bin"])
def sharded(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The index of weights in two files."""
    folder = tmp_path / "unet"
    folder.mkdir()
    names = [f"diffusion_pytorch_model-{number:05d}-of-00002.{request.param}" for number in (1, 2)]
    for half, name in zip(HALVES, names, strict=True):
        save(half, folder / name)
    index = folder / f"diffusion_pytorch_model.{request.param}.index.json"
    places = {name: file for half, file in zip(HALVES, names, strict=True) for name in half}
    index.write_text(json.dumps({"metadata": {"total_size": 28}, "weight_map": places}))
    return index


def test_weights_in_several_files(sharded: Path) -> None:
    for path in (sharded, sharded.parent, sharded.parents[1]):
        opened = open_weights(path, "unet")
        assert opened.keys() == STATE.keys() and all(torch.equal(opened[name], STATE[name]) for name in STATE)


def test_one_of_several_files_is_not_the_whole(sharded: Path) -> None:
    shard = sorted(sharded.parent.glob("*-of-*"))[0]
    with pytest.raises(CheckpointError, match=rf"{shard.name}: is one of 2 files .*index.json"):
        open_weights(shard, "unet")
    sharded.unlink()
    with pytest.raises(CheckpointError, match=rf"{shard.name}: is one of 2 files .*index.json"):
        open_weights(sharded.parent, "unet")


def test_a_missing_file_of_several_is_named(sharded: Path) -> None:
    shard = sorted(sharded.parent.glob("*-of-*"))[1]
    shard.unlink()
    with pytest.raises(CheckpointError, match=rf"{sharded.name}: {shard.name} is not beside it, of 2 files"):
        open_weights(sharded.parent, "unet")


def test_a_tensor_that_is_not_where_the_index_says(sharded: Path) -> None:
    content = json.loads(sharded.read_text())
    content["weight_map"]["c"] = content["weight_map"]["b"]
    sharded.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=rf"{sharded.name}: c is not in diffusion_pytorch_model-00002-of-00002"):
        open_weights(sharded, "unet")


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": "../a.bin"}}', '{"weight_map": {"a": 1}}']
)
def test_a_damaged_index_is_named(sharded: Path, content: str) -> None:
    sharded.write_text(content)
    with pytest.raises(CheckpointError, match=rf"{sharded.name}: "):
        open_weights(sharded.parent, "unet")


@pytest.mark.parametrize(
    "name", ["diffusion_pytorch_model.fp16.bin", "diffusion_pytorch_model.non_ema.safetensors", "my.bin"]
)
def test_the_only_file_of_a_folder(tmp_path: Path, name: str) -> None:
    save(STATE, tmp_path / name)
    (tmp_path / "config.json").write_text("{}")
    assert weights_file(tmp_path, "unet").name == name and open_weights(tmp_path, "unet").keys() == STATE.keys()


def test_a_variant_in_several_files(sharded: Path) -> None:
    stem, kind = sharded.name.removesuffix(".index.json").split(".")
    variant = sharded.rename(sharded.with_name(f"{stem}.{kind}.index.fp16.json"))
    assert weights_file(sharded.parent, "unet") == variant
    assert open_weights(sharded.parent, "unet").keys() == STATE.keys()


def test_variants_are_not_guessed_among(tmp_path: Path) -> None:
    names = [f"diffusion_pytorch_model.{variant}.safetensors" for variant in ("fp16", "non_ema")]
    for name in names:
        save(STATE, tmp_path / name)
    with pytest.raises(CheckpointError, match=f"has {', '.join(names)}, and no .*Give the file that is meant"):
        open_weights(tmp_path, "unet")
    assert open_weights(tmp_path / names[1], "unet").keys() == STATE.keys()
    save(STATE, tmp_path / "diffusion_pytorch_model.bin")
    assert weights_file(tmp_path, "unet").suffix == ".bin", "the whole precision first"
