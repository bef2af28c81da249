from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from scripts.data.datalist import pairs
from scripts.data.transforms import preprocessing
from scripts.evaluation.memorisation import audit_memorisation, denoising_losses, nearest_crops, telling_members
from scripts.evaluation.statistics.metrics import patient_resamples
from scripts.networks.unet import PREDICTION_TYPES
from tests.bundle.conftest import MakeWorkflow
from tests.bundle.helpers import refusal


def study(count: int, patients: int) -> tuple[list[str], Any, Any]:
    """Patients, half of them in training, with bootstrap weights."""
    names = [f"p{index % patients}" for index in range(count)]
    member = np.array([float(int(name[1:]) < patients // 2) for name in names])
    weights = patient_resamples(names, member, resamples=50, seed=0)
    assert weights is not None
    return names, member, weights


def test_the_area_is_that_of_scikit_learn() -> None:
    _, member, weights = study(40, 20)
    scores = np.random.default_rng(0).normal(size=40) + member
    found = telling_members(scores, member, weights)
    assert found["mean"] == pytest.approx(roc_auc_score(member, scores))
    assert found["ci95"][0] < found["mean"] < found["ci95"][1]


def crops_of(patients: list[str], seed: int) -> Any:
    """A crop a case (N, 1, 4, 4), the same for all cases of a patient but for a little noise."""
    random = np.random.default_rng(seed)
    own = {name: random.normal(size=(1, 4, 4)) for name in sorted(set(patients))}
    return np.stack([own[name] + 0.01 * random.normal(size=(1, 4, 4)) for name in patients])


@pytest.mark.parametrize(("copied", "share"), [(True, 1.0), (False, 0.5)])
def test_copies_of_training_crops_are_found(copied: bool, share: float) -> None:
    """Samples that are training crops, in a rotation, against samples that are like nothing."""
    patients, member, weights = study(400, 200)
    crops = crops_of(patients, 0)
    views = np.concatenate([crops, np.rot90(crops, axes=(2, 3))], axis=1)
    if copied:
        samples = views[np.resize(np.flatnonzero(member == 1), 400)][:, 1:]
    else:
        samples = np.random.default_rng(1).normal(size=(400, 1, 4, 4))
    found = nearest_crops(samples, views, patients, member, weights, seed=0)
    if copied:
        assert found["share"]["mean"] == share and found["training_hu"] < 0.01 < found["held_out_hu"]
    else:
        assert found["share"]["ci95"][0] < share < found["share"]["ci95"][1]


def test_a_crop_of_the_own_patient_counts_for_nothing() -> None:
    """A sample is like its own follow-up, which shows nothing."""
    patients, member, weights = study(400, 200)
    views = crops_of(patients, 0)
    found = nearest_crops(views, views, patients, member, weights, seed=0)
    assert 0.3 < found["share"]["mean"] < 0.7 and found["n_crops"] == 198


def test_the_nearest_is_that_of_a_loop() -> None:
    patients, member, weights = study(12, 6)
    random = np.random.default_rng(0)
    samples, views = random.normal(size=(12, 2, 4, 4)), random.normal(size=(12, 3, 4, 4))
    found = nearest_crops(samples, views, patients, member, weights, seed=0)
    nearest: dict[bool, list[float]] = {True: [], False: []}
    for index in np.flatnonzero(member == 0):
        for run in range(2):
            for kind in nearest:
                others = [i for i in range(12) if patients[i] != patients[index] and (member[i] == 1) == kind]
                ends = [np.sqrt(((samples[index, run] - view) ** 2).mean()) for i in others for view in views[i]]
                nearest[kind].append(min(ends))
    assert found["n_crops"] == 4  # of six training crops, drawn four at a time; the held-out ones are all taken
    assert found["held_out_hu"] == pytest.approx(700 * np.median(nearest[False]))
    assert found["training_hu"] >= 700 * np.median(nearest[True])


class Remembers(nn.Module):
    """A network that knows, for each baseline, one follow-up.

    Args:
        recalled: gives the follow-ups (N, 1, H, W) that it knows for baselines.
        kind: what it predicts.
    """

    beta_schedule = "scaled_linear"

    def __init__(self, recalled: Callable[[torch.Tensor], torch.Tensor], kind: str = "epsilon") -> None:
        super().__init__()
        self.recalled, self.prediction_type, self.autoencoder, self.denoiser = recalled, kind, self, self
        self.reports: list[str] = []

    def encode_stage_2_inputs(self, crops: torch.Tensor) -> torch.Tensor:
        return crops

    def context(self, reports: list[str], count: int) -> torch.Tensor:
        self.reports += reports
        return torch.zeros(count, 1, 1)

    def forward(self, noisy: torch.Tensor, timesteps: torch.Tensor, condition: Any) -> torch.Tensor:
        kept = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2).cumprod(0)[timesteps][:, None, None, None]
        alpha, sigma, known = kept.sqrt(), (1 - kept).sqrt(), self.recalled(noisy[:, 1:])
        noise = (noisy[:, :1] - alpha * known) / sigma
        return noise if self.prediction_type == "epsilon" else alpha * noise - sigma * known


class Recalls:
    """An "inferer" that generates what is known for a baseline."""

    num_runs = 1

    def __init__(self, recalled: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.recalled = recalled

    def __call__(self, inputs: torch.Tensor, network: Any, condition: Any) -> torch.Tensor:
        return self.recalled(inputs)


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
def test_what_is_remembered_is_denoised_best(kind: str) -> None:
    crops = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    network: Any = Remembers(lambda baselines: crops[3], kind)
    losses = denoising_losses(network, torch.zeros_like(crops), crops, torch.zeros(5, 1, 1), seed=0)
    assert losses[3] < 1e-6 and np.delete(losses, 3).min() > 0.1


@pytest.mark.parametrize("interval", [True, False])
def test_who_remembers_training_pairs_is_found_out(tiny_dataset: Path, tmp_path: Path, interval: bool) -> None:
    """As a model that knows the follow-ups of training and no others; it reads reports as it did in training."""
    load = preprocessing(["baseline", "follow_up"], 32)
    known = [load(item) for item in pairs(tiny_dataset, "training")]
    noise = torch.Generator().manual_seed(0)

    def recalled(baselines: torch.Tensor) -> torch.Tensor:
        found = torch.rand(baselines.shape, generator=noise) * 2 - 1
        for place, baseline in enumerate(baselines):
            for item in known:
                if torch.equal(baseline, item["baseline"].as_tensor()):
                    found[place] = item["follow_up"].as_tensor()
        return found

    network: Any = Remembers(recalled)
    settings: dict[str, Any] = {"image_size": 32, "rotations": [0], "resamples": 50, "report_interval": interval}
    result = audit_memorisation(
        dataset_dir=tiny_dataset,
        network=network,
        inferer=Recalls(recalled),  # type: ignore[arg-type]
        output_dir=tmp_path,
        **settings,
    )
    assert [found["mean"] for found in result["membership_auroc"].values()] == [1.0, 1.0]
    assert len(network.reports) == 12
    assert all(("Follow-up after" in report) == interval for report in network.reports)


def test_the_audit_as_it_is_run(trained: Path, make_workflow: MakeWorkflow, tmp_path: Path) -> None:
    """The command writes sums alone: no name, no number of a case."""
    make_workflow("audit", tmp_path, models_dir=str(trained / "models"), num_runs=1).run()
    text = (tmp_path / "audit" / "memorisation.json").read_text()
    result = json.loads(text)
    assert (result["n_training"], result["n_held_out"]) == (6, 6) and "patient-" not in text
    for found in (*result["membership_auroc"].values(), result["nearest_crop"]["share"]):
        assert 0 <= found["ci95"][0] <= found["mean"] <= found["ci95"][1] <= 1
    assert result["record"]["weights"]["unet_conditional"]


def test_without_held_out_patients_nothing_can_be_told(
    trained: Path, make_workflow: MakeWorkflow, tiny_dataset: Path, tmp_path: Path
) -> None:
    datalist = json.loads((tiny_dataset / "datalist.json").read_text()) | {"validation": [], "test": []}
    folder = shutil.copytree(tiny_dataset, tmp_path / "dataset")
    (folder / "datalist.json").write_text(json.dumps(datalist))
    options = {"models_dir": str(trained / "models"), "dataset_dir": str(folder)}
    said = refusal(lambda: make_workflow("audit", tmp_path, **options).run())
    assert "expected two patients or more" in said
