"""Digests know weights again by what they are, and records by what shaped a thing."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from scripts import fingerprint
from scripts.errors import UserError
from scripts.fingerprint import code_version, comparable, differences, digest_tensors, digest_weights, leaves
from scripts.networks.autoencoder import StableDiffusionAutoencoder
from scripts.weights.checkpoints import load_network, save_network
from tests.bundle.helpers import BUNDLE


def tensors() -> dict[str, Tensor]:
    torch.manual_seed(0)
    count = torch.tensor(3)
    return {"b": torch.randn(3, 4), "a": torch.randn(2).bfloat16(), "c": torch.tensor([True, False]), "count": count}


def test_a_network_saved_six_times_is_one_network(tmp_path: Path) -> None:
    """The files differ, since the order of their metadata does."""
    network = StableDiffusionAutoencoder((8, 8), num_res_blocks=1, norm_num_groups=4)
    paths = [save_network(network, tmp_path / f"{number}.safetensors", {"epoch": 3}) for number in range(6)]
    assert len({path.read_bytes() for path in paths}) > 1
    assert {digest_weights(path) for path in paths} == {digest_tensors(load_network(paths[0]).state_dict())}
    half = save_network(load_network(paths[0]).half(), tmp_path / "half.safetensors", dtype="float16")
    assert digest_weights(half) == digest_tensors(load_network(half).state_dict()), "as it opens, in float32"


@pytest.mark.parametrize("change", ["name", "shape", "value", "integer", "missing", "swapped"])
def test_whatever_differs_shows(change: str) -> None:
    changed = tensors()
    if change == "name":
        changed["d"] = changed.pop("b")
    elif change == "shape":
        changed["b"] = changed["b"].reshape(4, 3)
    elif change == "value":
        changed["b"][2, 3] = torch.nextafter(changed["b"][2, 3], torch.tensor(9.0))
    elif change == "integer":
        changed["count"] += 1
    elif change == "missing":
        del changed["c"]
    else:
        changed["b"] = changed["b"].flip(0)
    assert digest_tensors(changed) != digest_tensors(tensors())


def test_order_and_place_in_memory_do_not_matter() -> None:
    same = dict(reversed(tensors().items()))
    same["b"] = same["b"].T.contiguous().T
    assert not same["b"].is_contiguous() and digest_tensors(same) == digest_tensors(tensors())


def test_a_folder_is_one_however_its_weights_are_divided(tmp_path: Path) -> None:
    for folder in ("whole", "shards", "moved"):
        (tmp_path / folder / "lora").mkdir(parents=True)
    parts = tensors()
    save_file(parts, tmp_path / "whole" / "model.safetensors")
    for number, names in enumerate((("b", "count"), ("a", "c"))):
        save_file({name: parts[name] for name in names}, tmp_path / "shards" / f"model-{number}.safetensors")
    save_file(parts, tmp_path / "moved" / "lora" / "model.safetensors")
    (tmp_path / "shards" / "config.json").write_text("{}")
    whole, shards, moved = (digest_weights(tmp_path / folder) for folder in ("whole", "shards", "moved"))
    assert whole == shards != moved


def test_other_formats_are_known_by_their_bytes(tmp_path: Path) -> None:
    for name, content in (("a.gguf", b"one"), ("b.gguf", b"one"), ("c.gguf", b"two")):
        (tmp_path / name).write_bytes(content)
    files = [tmp_path / name for name in ("a.gguf", "b.gguf", "c.gguf")]
    first, renamed, other = (digest_weights(file) for file in files)
    assert first == renamed != other
    (tmp_path / "half.safetensors").write_bytes(b"not whole")
    with pytest.raises(UserError, match=r"half.safetensors: not a readable safetensors file"):
        digest_weights(tmp_path / "half.safetensors")


def test_what_was_read_once_is_not_read_again_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large weights alone; even where a file of the same size and time takes their place."""
    read: list[Path] = []
    read_weights, now = fingerprint._read_weights, time.time()
    monkeypatch.setattr(
        fingerprint, "_read_weights", lambda path, files: read.append(path) or read_weights(path, files)
    )
    monkeypatch.setattr(fingerprint, "DIGESTS", tmp_path / "digests")
    monkeypatch.setattr(fingerprint.time, "time", lambda: now)
    path = tmp_path / "models" / "unet.safetensors"
    path.parent.mkdir()
    save_file({"a": torch.zeros(8)}, path)
    first = digest_weights(path)
    assert digest_weights(path) == first and len(read) == 2, "small"
    monkeypatch.setattr(fingerprint, "LARGE", path.stat().st_size)
    assert digest_weights(path) == digest_weights(path) == first and len(read) == 4, "just written"
    monkeypatch.setattr(fingerprint.time, "time", lambda: now + 60)
    assert [digest_weights(path) for _ in range(3)] == [first] * 3 and len(read) == 5
    state = path.stat()
    save_file({"a": torch.ones(8)}, path)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))  # as cp -p and rsync leave it
    assert path.stat().st_size == state.st_size and path.stat().st_mtime_ns == state.st_mtime_ns
    assert digest_weights(path) != first


def test_differences_name_what_was_and_what_is() -> None:
    was = {"dataset": "a" * 64, "settings": {"betas": [0.5, 0.9], "loss": {}, "max_epochs": 3, "note": "x"}}
    now = {"dataset": "b" * 64, "settings": {"betas": [0.5, 0.99], "loss": {"alpha": 1}, "max_epochs": 4}}
    assert differences(was, now, ["max_epochs", "note"]) == [
        "dataset was aaaaaaaaaaaa, is bbbbbbbbbbbb",
        "betas::1 was 0.9, is 0.99",
        "loss was {}, is None",
        "loss::alpha was None, is 1",
    ]
    assert differences(was, was | {"version": "9", "commit": "c"}) == []
    assert comparable(now | {"version": "9", "commit": "c"}) == now
    assert dict(leaves([])) == {"": []}


def test_the_version_is_the_bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    made = code_version()
    assert made["version"] == json.loads((BUNDLE / "configs" / "metadata.json").read_text())["version"]
    assert made["commit"] is None or set(made["commit"].removesuffix("-dirty")) <= set("0123456789abcdef")
    monkeypatch.setenv("PATH", "")
    assert code_version.__wrapped__() == {"version": made["version"], "commit": None}, "without git"
