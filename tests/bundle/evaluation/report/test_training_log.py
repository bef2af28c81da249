"""Training curves and commands, as the evaluation page tells them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from scripts.evaluation.report.training_log import read_curves, read_stages
from scripts.networks.classifiers import ViTClassifier
from scripts.weights.checkpoints import save_network


def log(folder, epochs, iterations, losses, checks):
    with SummaryWriter(str(folder)) as writer:
        step = 0
        for epoch in range(1, epochs + 1):
            for _ in range(iterations):
                step += 1
                writer.add_scalar("train_loss", losses(step), step)
            if epoch in checks:
                writer.add_scalar("val_loss", checks[epoch], epoch)


def test_curves_are_means_over_epochs(tmp_path):
    log(tmp_path, 4, 5, lambda step: float(step), {2: 0.5, 4: 0.25})
    training, validation = read_curves(tmp_path)
    assert training == [(epoch, pytest.approx(np.mean(np.arange(5) + 5 * (epoch - 1) + 1))) for epoch in (1, 2, 3, 4)]
    assert validation == [(2, 0.5), (4, 0.25)]


def test_without_validation_the_number_of_epochs_tells_their_length(tmp_path):
    log(tmp_path, 4, 5, lambda step: float(step), {})
    assert read_curves(tmp_path, 4) == ([(1.0, 3.0), (2.0, 8.0), (3.0, 13.0), (4.0, 18.0)], [])
    assert read_curves(tmp_path) == ([(1.0, 10.5)], [])


def test_no_logs_no_curves(tmp_path):
    assert read_curves(tmp_path / "absent") == ([], [])
    assert read_stages(tmp_path, tmp_path, tmp_path) == []


@pytest.mark.parametrize(("loss", "same"), [(0.25, True), (0.3, False)])
def test_weights_of_another_run_are_found_out(tmp_path, loss, same):
    torch.manual_seed(0)
    log(tmp_path / "classifier", 2, 2, lambda step: 1.0, {1: 0.5, 2: 0.25})
    (tmp_path / "classifier" / "provenance.json").write_text(json.dumps({"command": "train me", "seed": 7}))
    network = ViTClassifier(16, 8, 16, 1, 16, 2)
    save_network(network, tmp_path / "classifier.safetensors", {"epoch": 2, "val_loss": loss})
    (stage,) = read_stages(tmp_path, tmp_path, tmp_path / "predictions")
    assert stage.name == "classifier" and stage.facts["command"] == "train me" and stage.facts["seed"] == 7
    assert stage.facts["best"] == {"epoch": 2, "val_loss": loss} and stage.facts["same_weights"] is same
