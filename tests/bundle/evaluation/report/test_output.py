"""The files that an evaluation leaves."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from markupsafe import escape
from matplotlib.figure import Figure
from matplotlib.image import imread
from sklearn.metrics import roc_auc_score

from scripts.evaluation.report.output import _steering, write
from scripts.evaluation.table_one import FILE, cells, header, table_one
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


def test_table_one_stands_on_the_page_where_the_folder_names_its_rows(outcome: Any, tmp_path: Path) -> None:
    _, result, folder = outcome
    assert 'id="table1"' not in (folder / "report.html").read_text() and not (folder / "table1").exists()
    rows = [
        {"title": "NAMD (reconstructed)", "rows": ["NAMD"], "reads": ["image", "record"], "parameters": 5_300_000},
        {"title": "Baseline", "rows": ["real_baseline"], "reads": ["image"]},
    ]
    (tmp_path / FILE).write_text(json.dumps({"rows": rows}))
    nothing = {"mean": None, "ci95": None, "p": None, "p_holm": None, "reason": "no row Flux"}
    contrast = {"first": "NAMD", "second": "Flux", "trainings": [1, 0], "auroc": nothing, "lpips": nothing}
    result = {**result, "contrasts": [contrast]}
    write(tmp_path, result, "", [(path.stem, Figure((1, 1))) for path in (folder / "figures").iterdir()])
    page = (tmp_path / "report.html").read_text()
    table = page[page.index('<table id="table1">') : page.index("</table>", page.index('<table id="table1">'))]
    assert re.findall(r"<th scope=\"col\">(.*?)</th>", table) == header()
    lines = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line) for line in table.split("<tbody")[1:]]
    assert [len(line) for line in lines] == [len(header())] * 2, "each below a rule of its own"
    expected = table_one(result, rows)
    assert lines == [cells(row) for row in expected] and expected[0]["title"] == "Baseline"
    assert '<th scope="row">NAMD</th><td data-label="Second">Flux</td>' in page and "LPIPS: no row Flux.</li>" in page
    assert escape((tmp_path / "table1" / "table1_caption.txt").read_text().strip()) in page
    files = [f"{name}.{ending}" for name in ("table1", "table1_contrasts") for ending in ("csv", "md", "tex")]
    assert sorted(path.name for path in (tmp_path / "table1").iterdir()) == sorted(
        [*files, "table1_caption.txt", "table1_contrasts_caption.txt"]
    )
