"""The named contrasts: of which methods, what is left out by name, and the same in every format."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from scripts.evaluation.contrasts import cells, contrasts, header, notes, write_contrasts
from scripts.evaluation.judge import Bootstrap, Judge, Method
from scripts.evaluation.statistics.contrasts import holm
from scripts.evaluation.table_one import FILE, table_one
from tests.bundle.evaluation.studies import run, study_of

ROWS = [
    {"title": "NAMD", "rows": ["NAMD", "NAMD · 24"]},
    {"title": "Flux", "rows": ["Flux · 23"]},
    {"title": "Record alone", "rows": ["record alone"]},
]
CONTRASTS = [["NAMD", "Flux"], ["NAMD", "Record alone"], ["NAMD", "sd15"]]


@pytest.fixture
def methods() -> dict[str, Method]:
    """Three runs of each training that makes images; the record tells all."""
    rng = np.random.default_rng(0)

    def trained() -> Method:
        return Method(rng.uniform(size=(3, 12)), np.zeros(1), rng.uniform(size=(3, 12)))

    record = Method((np.arange(12) % 3 == 0)[None] * 0.9)
    return {"NAMD": trained(), "NAMD · 24": trained(), "Flux · 23": trained(), "record alone": record}


@pytest.fixture
def judge(study: dict[str, Any], distance: Any) -> Judge:
    return Judge(study_of(study), study["classifier"], distance, bootstrap=Bootstrap(200))


@pytest.fixture
def made(methods: dict[str, Method], judge: Judge, tmp_path: Path) -> list[dict[str, Any]]:
    (tmp_path / FILE).write_text(json.dumps({"rows": ROWS, "contrasts": CONTRASTS}))
    return contrasts(tmp_path, methods, judge)


def test_differences_are_those_of_trainings_averaged_over_runs(
    made: list[dict[str, Any]], methods: dict[str, Method], judge: Judge
) -> None:
    labels = judge.study.cases.labels
    namd, other = [methods[name] for name in ROWS[0]["rows"]], methods["Flux · 23"]
    areas = [np.mean([roc_auc_score(labels, run) for run in each.probabilities]) for each in (*namd, other)]
    assert [made[0]["first"], made[0]["second"], made[0]["trainings"]] == ["NAMD", "Flux", [2, 1]]
    assert made[0]["auroc"]["mean"] == pytest.approx(np.mean(areas[:2]) - areas[2])
    distances = [np.array(each.distances).mean() for each in (*namd, other)]
    assert made[0]["lpips"]["mean"] == pytest.approx(np.mean(distances[:2]) - distances[2])
    assert made[1]["auroc"]["mean"] == pytest.approx(np.mean(areas[:2]) - 1) and made[1]["auroc"]["p"] < 0.05
    tests = [each[key] for each in made for key in ("auroc", "lpips")]
    assert [each["p_holm"] for each in tests] == holm([each["p"] for each in tests])
    assert sum(each["p"] is not None for each in tests) == 3, "over both scores, of what could be made"


def test_what_cannot_be_made_is_named(made: list[dict[str, Any]]) -> None:
    assert notes(made) == [
        "NAMD less Record alone, LPIPS: not given where no image is made.",
        "NAMD less sd15, AUROC and LPIPS: no row sd15.",
    ]
    assert cells(made[2]) == ["NAMD", "sd15", "2 / 0", *["–"] * 6]


def test_without_outcomes_there_is_lpips_alone(
    study: dict[str, Any], methods: dict[str, Method], distance: Any, tmp_path: Path
) -> None:
    study["cases"] = [case | {"malignant": None} for case in study["cases"]]
    judge = Judge(study_of(study), study["classifier"], distance, bootstrap=Bootstrap(20))
    assert contrasts(tmp_path, methods, judge) == [], "none is named"
    (tmp_path / FILE).write_text(json.dumps({"rows": ROWS, "contrasts": CONTRASTS[:1]}))
    (found,) = contrasts(tmp_path, methods, judge)
    assert found["auroc"]["mean"] is None and found["lpips"]["p"] == found["lpips"]["p_holm"] > 0


def test_every_format_says_the_same(made: list[dict[str, Any]], tmp_path: Path) -> None:
    result = {"dataset": "discs", "n_cases": 12, "n_patients": 6, "n_malignant": 4, "simulated": True}
    result |= {"simulation": None, "contrasts": []}
    write_contrasts(tmp_path, result)
    assert not (tmp_path / "table1").exists()
    write_contrasts(tmp_path, result | {"contrasts": made})
    files = {path.suffix: path.read_text() for path in (tmp_path / "table1").glob("table1_contrasts*")}
    table = pd.read_csv(io.StringIO(files[".csv"]))
    assert list(table.second) == ["Flux", "Record alone", "sd15"] and list(table.trainings_second) == [1, 1, 0]
    for key in ("auroc", "lpips"):
        numbers = [made[0][key][part] for part in ("mean", "p", "p_holm")]
        assert list(table.loc[0, [key, f"{key}_p", f"{key}_p_holm"]]) == pytest.approx(numbers)
        assert list(table.loc[0, [f"{key}_low", f"{key}_high"]]) == pytest.approx(made[0][key]["ci95"])
    assert table.auroc_reason[2] == "no row sd15"
    lines = files[".md"].splitlines()
    assert lines[0] == f"| {' | '.join(header())} |" and lines[2:5] == [
        f"| {' | '.join(cells(each))} |" for each in made
    ]
    for text in (files[".md"], files[".tex"], files[".txt"]):
        assert "Dataset discs: 12 cases of 6 patients (4 malignant). Simulated: in part. Named before" in text
        assert "NAMD less sd15, AUROC and LPIPS: no row sd15." in text
    assert files[".tex"].count(r"\\") == 4


def test_an_evaluation_makes_those_that_its_folder_names(study: dict[str, Any], distance: Any, tmp_path: Path) -> None:
    rows = [{"title": "NAMD", "rows": ["NAMD"], "reads": []}, {"title": "Copy", "rows": ["copy_baseline"], "reads": []}]
    (tmp_path / FILE).write_text(json.dumps({"rows": rows, "contrasts": [["NAMD", "Copy"]]}))
    result = run(study, tmp_path, perceptual=distance)
    (made,) = result["contrasts"]
    scores = result["methods"]
    assert made["lpips"]["mean"] == pytest.approx(
        scores["NAMD"]["lpips"]["mean"] - scores["copy_baseline"]["lpips"]["mean"]
    )
    one, other = json.loads((tmp_path / FILE).read_text())["rows"]
    table = {row["title"]: row["auroc"]["mean"] for row in table_one(result, [one, other])}
    assert made["auroc"]["mean"] == pytest.approx(table["NAMD"] - table["Copy"]), "as the table has them"
    assert json.loads((tmp_path / "metrics.json").read_text())["contrasts"] == [made]
    assert (tmp_path / "table1" / "table1_contrasts.csv").is_file()
