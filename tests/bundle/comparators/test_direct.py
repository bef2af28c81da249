"""The direct classifier: where it begins, and what it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from sklearn.model_selection import GridSearchCV

from scripts.comparators.direct import DirectClassifier, direct_items
from scripts.comparators.regression import RecordRegression
from scripts.comparators.tables import read_table
from scripts.data.transforms import preprocessing
from scripts.ehr.encoding import records
from scripts.errors import UserError
from scripts.networks.classifiers import ViTClassifier


def test_it_begins_as_the_regression_and_adds_what_the_judge_would_read(cohort: Path, regression: GridSearchCV) -> None:
    torch.manual_seed(0)
    judge = ViTClassifier(32, hidden_size=16, num_layers=1, mlp_dim=16, num_heads=2).eval()
    head, crops = judge.head, torch.rand(3, 1, 32, 32)
    judged = judge(crops).detach()
    direct = DirectClassifier(judge, RecordRegression.of(regression)).eval()
    cases = json.loads((cohort / "datalist.json").read_text())["test"][:3]
    values = records(cases)
    record = torch.from_numpy(regression.best_estimator_["record"].transform(values)).float()
    alone = torch.from_numpy(regression.decision_function(values)).float()[:, None]
    with torch.no_grad():
        torch.testing.assert_close(direct(crops, record), alone)
        direct.head.weight[:, :16] = head.weight
        torch.testing.assert_close(direct(crops, record), alone + judged - head.bias)


@pytest.fixture(scope="session")
def direct(make_workflow: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The output folder of two runs on the tiny dataset, and the second's workflow."""
    folder = tmp_path_factory.mktemp("direct")
    for seed in (5, 4):
        workflow = make_workflow("train_classifier", folder, "small", "direct_classifier", seed=seed)
        workflow.run()
    return folder, workflow


def test_direct_classifier_leaves_a_table_of_runs(direct: tuple[Path, Any], tiny_dataset: Path) -> None:
    folder, workflow = direct
    table = pd.read_csv(folder / "baselines" / "direct_classifier.csv")
    cases = [f"patient-{index}_n1" for index in range(6, 12)]
    assert list(zip(table.run, table.case_id, strict=True)) == [(run, case) for run in (4, 5) for case in cases]
    assert not (folder / "models").exists(), "the judge's weights are another's"

    network = DirectClassifier.load(folder / "baselines" / "direct_classifier_4.safetensors")
    fitted = network.regression
    state = torch.load(folder / "baselines" / "direct_classifier_4" / "best.pt", weights_only=True)["network"]
    assert all(torch.equal(state[name], values) for name, values in network.state_dict().items())
    assert fitted == workflow.parser.get_parsed_content("regression")
    item = next(i for i in direct_items(tiny_dataset, ["test"], fitted) if i["case_id"] == "patient-9_n1")
    crop = preprocessing(["image"], 32)({"image": item["image"]})["image"].as_tensor()
    assert item["image"].endswith("9_t0.nii.gz"), "the baseline"
    with torch.no_grad():
        probability = network(crop[None], torch.from_numpy(item["record"])[None]).sigmoid().item()
    assert read_table(folder / "baselines" / "direct_classifier.csv", ["patient-9_n1"])[0, 0] == pytest.approx(
        probability, rel=1e-4
    )


def test_a_finished_run_is_not_trained_again(direct: tuple[Path, Any], make_workflow: Callable[..., Any]) -> None:
    folder, _ = direct
    table = folder / "baselines" / "direct_classifier.csv"
    before = table.read_text()
    again = make_workflow("train_classifier", folder, "small", "direct_classifier", seed=5)
    again.run()
    assert table.read_text() == before and again.trainer.state.iteration == 6


def test_the_judges_weights_are_no_direct_classifier(trained: Path) -> None:
    with pytest.raises(UserError, match="holds a ResNetClassifier, expected a direct classifier"):
        DirectClassifier.load(trained / "models" / "classifier.safetensors")
