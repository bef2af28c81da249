"""The files that an evaluation leaves."""

from __future__ import annotations

import base64
import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from sklearn.metrics import roc_auc_score

from scripts.evaluation.report.output import _steering
from tests.bundle.evaluation.page import Page


def test_predictions_file_has_a_row_per_case_and_run(outcome):
    study, result, folder = outcome
    with open(folder / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["method", "case_id", "run", "probability", "malignant"]
    assert len(rows) == 12 * (4 * 1 + 4 + 2)
    namd = [row for row in rows if row["method"] == "NAMD" and row["run"] == "2"]
    assert [row["case_id"] for row in namd] == [case["case_id"] for case in study["cases"]]
    expected = study["classifier"](torch.from_numpy(study["generated"]["NAMD"][2])).numpy()
    np.testing.assert_allclose([float(row["probability"]) for row in namd], expected, rtol=1e-6)
    area = roc_auc_score([int(row["malignant"]) for row in namd], [float(row["probability"]) for row in namd])
    assert 0 <= area <= 1 and not list(folder.rglob("*.partial"))


def test_figures_are_drawn_and_embedded(outcome):
    _, _, folder = outcome
    names = ["curves", "calibration", "benefit", "gallery", "error_variance", "running_variance", "latent_map"]
    assert sorted(path.stem for path in (folder / "figures").iterdir()) == sorted(names)
    images = Page((folder / "report.html").read_text()).images
    embedded = [base64.b64decode(image.removeprefix("data:image/png;base64,")) for image in images]
    drawn = [(folder / "figures" / f"{name}.png").read_bytes() for name in names]
    assert sorted(embedded) == sorted(drawn)
    for content in drawn:
        pixels = imread(io.BytesIO(content))
        assert min(pixels.shape[:2]) > 200 and pixels[..., :3].std() > 0.05
        assert len(content) < 600_000


@pytest.mark.parametrize("other", ["dataset", "weights", None])
def test_a_steering_of_another_dataset_or_weights_is_left_out(
    tmp_path: Path, other: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    record = {"dataset": "a", "weights": {"autoencoder": "b"}, "commit": "one"}
    study = {"record": {**record, "commit": "another", "seed": 23}, "interventions": {}}
    study["record"] |= {other: "c"} if other else {}
    assert _steering(tmp_path, record) is None, "not made"
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "steering.png").touch()
    (tmp_path / "steering.json").write_text(json.dumps(study))
    assert _steering(tmp_path, record) == (None if other else study)
    assert ("is left out of the page" in caplog.text) == bool(other)
