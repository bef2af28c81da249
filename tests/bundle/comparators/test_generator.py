"""A method's weights in one file: opened by the name of a public class, and no other way."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow

from scripts.comparators.generator import WEIGHTS, load_generator
from scripts.comparators.mcwgan import McWGAN
from scripts.networks.classifiers import ResNetClassifier
from scripts.weights.checkpoints import CheckpointError, load_network, save_network
from tests.bundle.helpers import CONFIGS


def test_what_was_saved_is_opened_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = McWGAN((4, 8)).train()
    save_network(network, tmp_path / WEIGHTS)
    again = load_generator(tmp_path)
    assert type(again) is McWGAN and again.config == network.config and not again.training
    state = again.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def test_a_file_of_another_class_is_refused(tmp_path: Path) -> None:
    save_network(ResNetClassifier(32, (4, 4, 8, 8)), tmp_path / WEIGHTS)
    with pytest.raises(CheckpointError, match="holds a ResNetClassifier, which this version does not know"):
        load_generator(tmp_path)
    with pytest.raises(CheckpointError, match="no such weights file"):
        load_generator(tmp_path / "none")


@pytest.mark.parametrize("name", ["PairCritic", "load_generator", "os.system", "generator", "__builtins__"])
def test_a_name_that_is_no_method_opens_nothing(name: str, tmp_path: Path) -> None:
    """A part of a method, a function, a module: whatever a file calls itself, only a method is built."""
    kind = type(name, (McWGAN,), {})
    save_network(kind((4, 8)), tmp_path / WEIGHTS)
    with pytest.raises(CheckpointError, match="which this version does not know|expected a Generator"):
        load_generator(tmp_path)


def test_a_method_is_no_network_of_the_stages(tmp_path: Path) -> None:
    save_network(McWGAN((4, 8)), tmp_path / WEIGHTS)
    shutil.copy(tmp_path / WEIGHTS, tmp_path / "classifier.safetensors")
    with pytest.raises(CheckpointError, match="holds a McWGAN"):
        load_network(tmp_path / "classifier.safetensors", "NoduleClassifier")


UNCLIPPED = {"train::handlers::0::max_norm": math.inf}
"""Of sources that leave gradients as they are."""

SIZES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "compare_mcwgan": (
        "train_conditional",
        {"shape": {"channels": [64, 128, 256, 512]}, "batch_size": 16, "learning_rate": 1e-4, "critic_steps": 5}
        | {"critic_learning_rate": 1e-4, "weights_dtype": "float32"},
        {"shape": {"channels": [32, 64, 128, 256]}, "batch_size": 16, "learning_rate": 1e-3, "critic_steps": 5}
        | {"critic_learning_rate": 1e-4, "weights_dtype": "float32"},
    ),
    "compare_mcwgan_perceptual": (
        "train_classifier",
        {"classifier_shape": {"channels": [64, 128, 256, 512], "blocks": [2, 2, 2, 2]}, "seed": 1023},
        {"classifier_shape": {"channels": [16, 32, 64, 128], "blocks": [2, 2, 2, 2]}, "seed": 1023},
    ),
    "compare_corrflownet_autoencoder": (
        "train_autoencoder",
        {"autoencoder_shape": {}, "batch_size": 32, "learning_rate": 5e-5, "max_epochs": 200},
        {"batch_size": 8, "learning_rate": 1e-3, "max_epochs": 60, "warmup_steps": 100, "decay_steps": 3180},
    ),
    "compare_corrflownet": (
        "train_conditional",
        {"shape": {}, "batch_size": 8, "learning_rate": 2e-5, "max_epochs": 60, "steps": 50, "sigma": 0.0},
        {"batch_size": 32, "max_epochs": 120, "decay_steps": 1560, "steps": 50, "ema_decay": 0.995},
    ),
    "compare_imageflownet": (
        "train_conditional",
        {"shape": {}, "batch_size": 64, "learning_rate": 1e-4, "ema_decay": 0.9, "threshold": 25.0, **UNCLIPPED},
        {
            **{"batch_size": 8, "learning_rate": 1e-3, "ema_decay": 0.9, **UNCLIPPED},
            "shape": {"channels": [8, 16, 32, 64], "attention": 1, "norm_num_groups": 4, "num_steps": 10},
        },
    ),
    "compare_sd15_autoencoder": (
        "train_autoencoder",
        {"batch_size": 16, "learning_rate": 2e-5, "max_epochs": 20, "optimizer::weight_decay": 0.0, "decay_steps": 0},
        {"batch_size": 8, "learning_rate": 1e-3, "max_epochs": 60, "optimizer::weight_decay": 0.01},
    ),
    "compare_ddl_cxr_autoencoder": (
        "train_autoencoder",
        {"batch_size": 16, "learning_rate": 7.2e-5, "max_epochs": 60, "optimizer::weight_decay": 0.0, **UNCLIPPED},
        {"batch_size": 8, "learning_rate": 1e-3, "max_epochs": 60, "optimizer::weight_decay": 0.01, **UNCLIPPED},
    ),
    "compare_ddl_cxr": (
        "train_conditional",
        {"shape": {}, "batch_size": 32, "learning_rate": 6.4e-5, "max_epochs": 200, "ema_decay": 0.9999, **UNCLIPPED},
        {"batch_size": 32, "learning_rate": 5e-4, "max_epochs": 120, "ema_decay": 0.995, **UNCLIPPED},
    ),
}
"""Overlays with their stage, published settings (or ours, of what is reconstructed), and those for two CPU cores."""


@pytest.mark.parametrize("overlay", SIZES)
def test_an_overlay_has_the_published_size_and_with_small_the_small_one(overlay: str) -> None:
    stage, full, small = SIZES[overlay]
    for between, expected in (([], full), (["small"], small)):
        before = ["compare_crops"] if overlay in ("compare_mcwgan", "compare_imageflownet") else []
        files = [str(CONFIGS / f"{name}.yaml") for name in (stage, *between, *before, overlay)]
        workflow = ConfigWorkflow(files, logging_file=False)
        workflow.initialize()
        assert {name: workflow.parser.get_parsed_content(name) for name in expected} == expected
