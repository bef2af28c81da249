"""A method judged before: its table takes the place of its images, and of another judge's it is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from scripts.comparators.tables import ComparatorError, read_table, write_table
from scripts.evaluation.judge import Bootstrap, Judge
from scripts.evaluation.report.columns import ENSEMBLE
from scripts.evaluation.scored import ScoreTable, read_scored
from tests.bundle.evaluation.studies import run, study_of


class Brightness(nn.Module):
    """The logit of the made-up study's classifier."""

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        return 20 * (crops.mean(dim=(1, 2, 3)) + 0.72)


@pytest.fixture
def scored(study: dict[str, Any], distance: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The table of the study's images."""
    samples = study["generated"]["NAMD"]
    monkeypatch.setattr("scripts.evaluation.scored.read_predictions", lambda folder, ids: samples)
    record = {"dataset": "d", "weights": {"classifier": "c"}, "predictions": {"NAMD": {"seed": 1}}}
    judge: Any = Brightness()
    options: dict[str, Any] = {"perceptual": distance, "bootstrap": Bootstrap(50)}
    table = ScoreTable({}, "test", "predictions", tmp_path / "scores.csv", judge, lambda: record, **options)
    table.study = lambda: study_of(study)  # type: ignore[method-assign]
    table.judge(None)  # type: ignore[arg-type]
    return table.path


@pytest.fixture
def judge(study: dict[str, Any], distance: Any) -> Judge:
    return Judge(study_of(study), study["classifier"], distance, bootstrap=Bootstrap(50))


def test_its_scores_are_those_of_its_images(
    scored: Path, study: dict[str, Any], judge: Judge, distance: Any, tmp_path: Path
) -> None:
    """Numbers stand in the table with six digits."""
    ids = [case["case_id"] for case in study["cases"]]
    study["predicted"] = {"again": read_scored(scored, ids, judge)}
    result = run(study, tmp_path / "evaluation", perceptual=distance)["methods"]
    assert result["again"]["n_runs"] == 4 and result["again"]["lpips"]["ci95"] is not None
    for name, scores in {"": ("auroc", "auprc", "lpips"), ENSEMBLE: ("auroc", "auprc")}.items():
        ours, theirs = result["again" + name], result["NAMD" + name]
        for score in scores:
            assert ours[score]["mean"] == pytest.approx(theirs[score]["mean"], rel=1e-4), score
            assert ours[score]["ci95"] == pytest.approx(theirs[score]["ci95"], rel=1e-4), score
    for score in ("fid", "kid"):
        assert result["again"][score] == result["NAMD"][score] and result["again"][score]["mean"] is not None


def test_it_says_how_it_was_made_and_by_which_judge(scored: Path, judge: Judge) -> None:
    record = json.loads(scored.with_suffix(".json").read_text())
    assert {key: record[key] for key in ("dataset", "classifier", "predictions")} == {
        **{"dataset": "d", "classifier": "c", "predictions": {"seed": 1}},
    }
    assert record["feature_extractors"] == judge.extractors


def test_distances_by_another_network_are_refused(scored: Path, study: dict[str, Any], judge: Judge) -> None:
    record = json.loads(scored.with_suffix(".json").read_text())
    record["feature_extractors"]["lpips"] = "VGG"
    scored.with_suffix(".json").write_text(json.dumps(record))
    with pytest.raises(ComparatorError, match="not made from these: .*VGG"):
        read_scored(scored, [case["case_id"] for case in study["cases"]], judge)


def test_a_table_of_probabilities_alone_has_no_distances(judge: Judge, tmp_path: Path) -> None:
    write_table(tmp_path / "table.csv", 0, ["b", "a"], [0.25, 0.75], {"dataset": "d"})
    method = read_scored(tmp_path / "table.csv", ["a", "b"], judge)
    assert method.probabilities.tolist() == [[0.75, 0.25]]
    assert method.distances is None and method.of_sets is None
    with pytest.raises(ComparatorError, match="no column lpips"):
        read_table(tmp_path / "table.csv", ["a"], "lpips")


def test_cases_in_another_order_keep_their_distances(scored: Path, study: dict[str, Any], judge: Judge) -> None:
    ids = [case["case_id"] for case in study["cases"]]
    forwards, backwards = (read_scored(scored, each, judge) for each in (ids, ids[::-1]))
    assert forwards.distances is not None and backwards.distances is not None
    np.testing.assert_array_equal(forwards.distances, backwards.distances[:, ::-1])
    np.testing.assert_array_equal(forwards.probabilities, backwards.probabilities[:, ::-1])
