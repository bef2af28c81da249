"""A method's weights in one file: opened by the name of a public class, and no other way."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from scripts.comparators.generator import WEIGHTS, load_generator
from scripts.comparators.mcwgan import McWGAN
from scripts.networks.classifiers import ResNetClassifier
from scripts.weights.checkpoints import CheckpointError, load_network, save_network


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
