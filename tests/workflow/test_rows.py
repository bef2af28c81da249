"""What a row of Table 1 costs, counted from the files that its jobs leave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from scripts.comparators.generator import WEIGHTS
from scripts.comparators.mcwgan import McWGAN
from scripts.evaluation.table_one import FILE
from scripts.networks.classifiers import ResNetClassifier
from scripts.weights.checkpoints import save_network
from tests.bundle.helpers import count
from workflow.rows import main, row

STAGES = {"perceptual": ["train_classifier"], "generator": ["train_conditional", "compare_mcwgan"]}


def trained(run: Path, seed: int, iterations: int, minutes: float) -> None:
    """A training of two stages, whose jobs took a quarter and three quarters of the time; 3 cases, 6 s to sample."""
    folder = run / "mcwgan" / str(seed)
    save_network(McWGAN((4, 8)), folder / "models" / WEIGHTS)
    save_network(ResNetClassifier(32, (4, 4, 8, 8)), folder / "models" / "perceptual.safetensors")
    for stage in ("mcwgan", "mcwgan_perceptual"):
        (folder / "work-abc" / stage).mkdir(parents=True)
        state = {"progress": {"iteration": iterations}, "record": {"global_batch": 16}}
        torch.save(state, folder / "work-abc" / stage / "last.pt")
    for case in ("a", "b", "c"):
        (folder / "predictions" / case).mkdir(parents=True)
        (folder / "predictions" / case / "samples.nii.gz").touch()
    (run / "benchmarks").mkdir(exist_ok=True)
    times = {"perceptual": 15 * minutes, "generator": 45 * minutes, "predictions": 6.0}
    for job, value in times.items():
        (run / "benchmarks" / f"mcwgan-{seed}-{job}.tsv").write_text(f"s\th:m:s\tmax_rss\n{value}\t0:00:01\t100\n")


def test_a_row_is_counted_by_hand(tmp_path: Path) -> None:
    trained(tmp_path, 23, iterations=100, minutes=2.0)
    trained(tmp_path, 24, iterations=50, minutes=4.0)
    method = {"title": "McWGAN (reconstructed)", "stages": STAGES, "seeds": [23, 24]}
    made = row(tmp_path, "mcwgan", method, num_runs=20)
    assert made["rows"] == ["McWGAN (reconstructed) · 23", "McWGAN (reconstructed) · 24"]
    assert made["reads"] == ["image"] and made["calls"] == 1
    assert made["parameters"] == count(McWGAN((4, 8))), "of what samples, not of what only helps to train"
    assert made["views"] == (2 * 100 * 16 + 2 * 50 * 16) / 2 and made["minutes"] == pytest.approx(3.0)
    assert made["seconds"] == pytest.approx(2.0), "one run, since it draws no noise"


def test_rows_stand_in_the_order_of_the_plan(tmp_path: Path) -> None:
    trained(tmp_path, 23, iterations=1, minutes=1.0)
    method = {"title": "McWGAN (reconstructed)", "stages": STAGES, "seeds": [23]}
    main({"run": str(tmp_path), "num_runs": 2, "methods": {"mcwgan": method}}, tmp_path / FILE)
    rows = json.loads((tmp_path / FILE).read_text())["rows"]
    titles = ["Baseline of the data set", "Follow-up of the data set", "Copy of the baseline", "Record alone"]
    assert [each["title"] for each in rows] == [*titles, "Direct classifier", "McWGAN (reconstructed)"]
