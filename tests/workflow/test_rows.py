"""What a row of Table 1 costs, counted from the files that its jobs leave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from scripts.comparators.generator import WEIGHTS
from scripts.comparators.mcwgan import McWGAN
from scripts.evaluation.table_one import FILE
from scripts.networks.classifiers import ResNetClassifier
from scripts.weights.checkpoints import save_network
from tests.bundle.helpers import count
from workflow.rows import UNTRAINED, main, row

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
    contrasts = {"mcwgan": ["record alone", "no such method"]}
    plan = {"run": str(tmp_path), "num_runs": 2, "methods": {"mcwgan": method}, "contrasts": contrasts}
    main(plan, tmp_path / FILE)
    made = json.loads((tmp_path / FILE).read_text())
    rows = made["rows"]
    titles = ["Baseline of the data set", "Follow-up of the data set", "Copy of the baseline", "Record alone"]
    assert [each["title"] for each in rows] == [*titles, "Direct classifier", "McWGAN (reconstructed)"]
    first = "McWGAN (reconstructed)"
    assert made["contrasts"] == [[first, "Record alone"], [first, "no such method"]], "also one that cannot be made"


def test_contrasts_are_of_rows_of_the_table() -> None:
    plan = yaml.safe_load((Path(__file__).parents[2] / "workflow" / "table1.yaml").read_text())
    rows = {*UNTRAINED, *plan["methods"]}
    named = [name for first, others in plan["contrasts"].items() for name in (first, *others)]
    assert set(named) == rows - {"real_baseline", "real_follow_up"} and len(set(named)) == len(named)
