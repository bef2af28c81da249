"""Weights on disk: nothing is lost, nothing is half written, and every refusal says why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from scripts.networks.autoencoder import StableDiffusionAutoencoder
from scripts.networks.classifiers import ResNetClassifier, ViTClassifier
from scripts.networks.unet import StableDiffusionUNet
from scripts.weights.checkpoints import (
    CheckpointError,
    initial_classifier,
    load_network,
    read_metadata,
    required_pretrained,
    save_network,
    trained_image_size,
)

CLASSIFIER: dict[str, Any] = {"image_size": 32, "hidden_size": 16, "num_layers": 1, "mlp_dim": 16, "num_heads": 2}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_network(ViTClassifier(**CLASSIFIER), tmp_path / "models" / "classifier.safetensors", {"epoch": 3})


@pytest.mark.parametrize(
    "network",
    [
        StableDiffusionAutoencoder(channels=(8, 16), num_res_blocks=1, norm_num_groups=4),
        StableDiffusionUNet(in_channels=8, channels=(8, 16), context_dim=6, num_heads=2, norm_num_groups=4),
        ViTClassifier(**CLASSIFIER),
        ResNetClassifier(32, (4, 4, 8, 8)),
    ],
    ids=lambda network: type(network).__name__,
)
def test_round_trip(network: Any, tmp_path: Path) -> None:
    again = load_network(save_network(network, tmp_path / "network.safetensors"), type(network).__name__)
    assert type(again) is type(network) and again.config == network.config and not again.training
    state = again.state_dict()
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == ["network.safetensors"], "nothing temporary stays"


def test_half_as_large_a_file_rebuilds_a_network_in_single_precision(tmp_path: Path) -> None:
    network = ViTClassifier(**CLASSIFIER)
    path = save_network(network, tmp_path / "half.safetensors", dtype="float16")
    with safe_open(path, framework="pt") as file:
        assert file.get_tensor("head.weight").dtype == torch.float16
    for name, tensor in load_network(path).state_dict().items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, network.state_dict()[name], atol=1e-6, rtol=2**-11)


def test_the_latent_scale_is_in_the_file(tmp_path: Path) -> None:
    network = StableDiffusionAutoencoder(channels=(8, 8), num_res_blocks=1, norm_num_groups=4)
    network.latent_scale.fill_(1.37)
    path = save_network(network, tmp_path / "autoencoder.safetensors")
    with safe_open(path, framework="pt") as file:
        assert file.get_tensor("latent_scale").item() == pytest.approx(1.37)


def test_metadata_says_what_is_inside(saved: Path) -> None:
    assert read_metadata(saved) == {
        "network": "ViTClassifier",
        "config": ViTClassifier(**CLASSIFIER).config,
        "extra": {"epoch": 3},
    }
    assert saved.stat().st_mode & 0o777 == 0o644


def test_arguments_that_leave_the_shape_may_be_replaced(saved: Path) -> None:
    assert load_network(saved, dropout_rate=0.1).config["dropout_rate"] == 0.1
    with pytest.raises(CheckpointError, match="classifier.safetensors: .*hidden_size"):
        load_network(saved, hidden_size=32)


def test_files_of_older_versions_open(saved: Path) -> None:
    metadata = {"namd_format": "1", "network": "NoduleClassifier", "config": json.dumps(CLASSIFIER), "extra": "{}"}
    old = saved.with_name("old.safetensors")
    save_file(load_network(saved).state_dict(), old, metadata=metadata)
    network = load_network(old, "NoduleClassifier")
    assert type(network) is ViTClassifier
    crops = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(network(crops), load_network(saved)(crops))


def test_another_class_is_refused(saved: Path) -> None:
    with pytest.raises(CheckpointError, match="holds a ViTClassifier, expected a StableDiffusionUNet"):
        load_network(saved, "StableDiffusionUNet")


@pytest.mark.parametrize("name", ["FutureNetwork", "nn", "torch"])
def test_a_class_that_is_unknown_here_is_refused(tmp_path: Path, name: str) -> None:
    metadata = {"namd_format": "1", "network": name, "config": "{}", "extra": "{}"}
    save_file({"a": torch.zeros(1)}, tmp_path / "new.safetensors", metadata=metadata)
    with pytest.raises(CheckpointError, match=f"holds a {name}"):
        load_network(tmp_path / "new.safetensors")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match=f"{path.name}: no such weights file"):
            load_network(path)


@pytest.mark.parametrize("kept", [0, 4, 0.5, 0.99])
def test_a_damaged_file_is_named(saved: Path, kept: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(kept if kept >= 1 else kept * len(content))])
    with pytest.raises(CheckpointError, match="classifier.safetensors: not a readable safetensors file"):
        load_network(saved)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"namd_format": "2", "network": "ViTClassifier"}])
def test_files_of_others_are_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors", metadata=metadata)
    with pytest.raises(CheckpointError, match="foreign.safetensors: format .*import_weights.yaml"):
        load_network(tmp_path / "foreign.safetensors")


def test_weights_that_the_metadata_do_not_describe_are_refused(saved: Path) -> None:
    metadata = {"namd_format": "1", "network": "ViTClassifier", "config": json.dumps(CLASSIFIER), "extra": "{}"}
    save_file({"a": torch.zeros(1)}, saved, metadata=metadata)
    with pytest.raises(CheckpointError, match="classifier.safetensors: "):
        load_network(saved)


def test_an_interrupted_write_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(tensors: Any, path: Path, metadata: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("no space left on device")

    before = saved.read_bytes()
    monkeypatch.setattr("safetensors.torch.save_file", full_disk)
    with pytest.raises(OSError, match="no space"):
        save_network(ViTClassifier(**CLASSIFIER), saved)
    assert saved.read_bytes() == before
    with pytest.raises(OSError, match="no space"):
        save_network(ViTClassifier(**CLASSIFIER), saved.with_name("new.safetensors"))
    assert not saved.with_name("new.safetensors").exists()


def test_the_size_of_the_crops_is_the_weights(saved: Path) -> None:
    assert trained_image_size(saved) == trained_image_size(saved, 32) == 32
    with pytest.raises(CheckpointError, match="trained on crops of 32 px, but --image_size is 64"):
        trained_image_size(saved, 64)


@pytest.mark.parametrize(("stage", "file"), [("autoencoder", "autoencoder"), ("unconditional", "unet_unconditional")])
def test_a_path_that_has_to_be_given_is_asked_for(stage: str, file: str) -> None:
    with pytest.raises(CheckpointError, match=f"the {stage} stage .* --pretrained sd15/{file}.safetensors"):
        required_pretrained(stage)


@pytest.mark.parametrize("stage", ["conditional", "classifier"])
def test_stages_without_published_weights_ask_for_none(stage: str) -> None:
    required_pretrained(stage)  # raises where a path has to be given


def test_a_classifier_goes_on_from_its_file_and_from_no_other(saved: Path) -> None:
    started, new = (initial_classifier("ViTClassifier", CLASSIFIER, each) for each in (saved, None))
    kept = load_network(saved).state_dict()
    assert started.training and all(torch.equal(tensor, kept[name]) for name, tensor in started.state_dict().items())
    assert not torch.equal(new.state_dict()["head.weight"], kept["head.weight"])
    with pytest.raises(CheckpointError, match="holds a ViTClassifier .* classifier_shape and image_size ask for"):
        initial_classifier("ViTClassifier", {**CLASSIFIER, "image_size": 64}, saved)
    with pytest.raises(CheckpointError, match="holds a ViTClassifier, expected a ResNetClassifier"):
        initial_classifier("ResNetClassifier", {}, saved)
