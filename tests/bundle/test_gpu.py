"""What a GPU does as the CPU does: stages, checkpoints that go on elsewhere, samples (make test-gpu).

``NAMD_DEVICE=cpu`` tries the tests themselves on a machine without one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.diffusion.sampler import ProgressionInferer, load_progression_model
from scripts.ehr.report import radiology_report
from scripts.training.checkpointing import copied
from tests.bundle.helpers import BUNDLE
from tests.bundle.training.helpers import load

pytestmark = pytest.mark.gpu
STAGES = ("autoencoder", "unconditional", "conditional", "classifier")


@pytest.fixture(scope="module")
def device() -> torch.device:
    """The GPU; an error, not a skip, where there is none."""
    return torch.zeros(1, device=os.environ.get("NAMD_DEVICE", "cuda")).device


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_trains_there_and_goes_on_on_a_cpu(
    make_workflow: Callable[..., Any], trained: Path, tmp_path: Path, device: torch.device, stage: str, precision: str
) -> None:
    """To a loss near that of the CPU, of which only random numbers differ; the checkpoint holds tensors of the CPU."""
    shutil.copytree(trained / "models", tmp_path / "models")
    settings = {"precision": precision, "max_epochs": 2}
    make_workflow(f"train_{stage}", tmp_path, "small", device=device, **settings).run()
    loss = load(tmp_path / stage / "best.pt")["progress"]["best_value"]
    expected = load(trained / stage / "best.pt")["progress"]["best_value"]
    assert loss == pytest.approx(expected, rel=0.3)
    settings |= {"max_epochs": 3}
    make_workflow(f"train_{stage}", tmp_path, "small", device=torch.device("cpu"), **settings).run()
    assert load(tmp_path / stage / "last.pt")["progress"]["epoch"] == 3


def test_activations_are_computed_again_there(
    make_workflow: Callable[..., Any], trained: Path, tmp_path: Path, device: torch.device
) -> None:
    states = []
    for again in (False, True):
        shutil.copytree(trained / "models", tmp_path / str(again) / "models")
        settings = {"gradient_checkpointing": again, "device": device}
        make_workflow("train_conditional", tmp_path / str(again), "small", **settings).run()
        states.append(load(tmp_path / str(again) / "conditional" / "last.pt")["network"])
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=1e-2, atol=1e-3)


def test_a_copy_of_the_best_epoch_comes_whole(device: torch.device) -> None:
    """Also into the place of an earlier one, which later steps do not change."""
    weights = torch.randn(1000, 1000, device=device)
    copy = copied({"network": {"weight": weights}, "progress": {"epoch": 1}})
    first = weights.cpu().clone()
    weights.add_(1.0)
    assert torch.equal(copy["network"]["weight"], first)
    place = copy["network"]["weight"].data_ptr()
    copy = copied({"network": {"weight": weights}, "progress": {"epoch": 2}}, copy)
    assert copy["network"]["weight"].data_ptr() == place and copy["progress"] == {"epoch": 2}
    assert torch.equal(copy["network"]["weight"], weights.cpu())


def test_samples_of_the_weights_in_the_bundle_are_the_cpus(device: torch.device) -> None:
    """Within what rounding does to 50 steps under guidance."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    crop = torch.where(torch.hypot(y - 32, x - 32) < 8, 0.5, -0.7)[None, None]
    report = [radiology_report({"age": 66, "gender": 2, "sct_long_dia": 11.0}, 365)]
    samples = []
    for each in (device, torch.device("cpu")):
        model = load_progression_model(BUNDLE / "models").to(each).eval()
        inferer = ProgressionInferer(num_steps=50, num_runs=2, guidance_scale=6.0)
        samples.append(inferer(crop.to(each), model, report).cpu())
    assert 700.0 * float((samples[0] - samples[1]).abs().max()) < 20.0
