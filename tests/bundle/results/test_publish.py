"""What is published beside the weights: right by an independent computation, and nothing of a single case."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.metrics import roc_auc_score

from scripts.comparators.published import probabilities
from scripts.comparators.published import published as beside
from scripts.comparators.record import out_of_fold, record_regression
from scripts.comparators.regression import RecordRegression
from scripts.comparators.tables import write_table
from scripts.data.digest import crops_of, digest_crop, digest_dataset
from scripts.data.transforms import baseline_crops
from scripts.ehr.encoding import records
from scripts.errors import UserError
from scripts.evaluation.statistics.thresholds import fixed_thresholds
from scripts.fingerprint import digest_weights, leaves
from scripts.predictions import read_predictions
from scripts.results import publish
from scripts.results.case import encoder
from scripts.results.probabilities import Readers
from scripts.results.publish import publish_reference
from scripts.results.reference import LATENTS, REFERENCE, pooled
from scripts.training.cases import trained_on
from tests.bundle.results.conftest import FOLDS, SIZE, STAGES, say_trained_on


@pytest.fixture(scope="module")
def content(published: Path) -> dict[str, Any]:
    return json.loads((published / REFERENCE).read_text())


def test_auroc_equals_scikit_learns(cohort: Path, published: Path, content: dict[str, Any]) -> None:
    """Of the section, by networks opened here; of the record alone, by its out-of-fold probabilities."""
    datalist = json.loads((cohort / "datalist.json").read_text())
    cases = datalist["validation"]
    labels = [case["malignant"] for case in cases]
    baselines = baseline_crops(cohort, "validation", SIZE)
    readers = Readers(published, SIZE)
    samples = read_predictions(published.parent / "predictions", [case["case_id"] for case in cases])
    read = {
        "baseline": readers.judged(baselines),
        "generated": np.mean([readers.judged(run) for run in samples], axis=0),
        "direct_classifier": readers.read_directly(baselines, records(cases)),
    }
    for name, values in read.items():
        expected = roc_auc_score(labels, values)
        assert content["methods"][name]["held_out"]["auroc"] == pytest.approx(expected, abs=1e-4)
        assert content["compared"]["auroc"][name] == pytest.approx(expected, abs=1e-4)
    both = datalist["training"] + cases
    crossed = out_of_fold(both, FOLDS)
    assert crossed is not None
    held_out = content["methods"]["record_only"]["held_out"]
    assert held_out["auroc"] == pytest.approx(roc_auc_score([c["malignant"] for c in both], crossed), abs=1e-4)
    assert content["compared"]["auroc"]["record_only"] == pytest.approx(roc_auc_score(labels, crossed[120:]), abs=1e-4)
    assert (held_out["n"], held_out["n_patients"], content["compared"]["n"]) == (160, 80, 40)
    assert held_out["ci95"][0] < held_out["auroc"] < held_out["ci95"][1]


def test_thresholds_call_the_validation_cases_as_an_evaluation_of_them_would(
    cohort: Path, published: Path, content: dict[str, Any]
) -> None:
    """By the probabilities of an evaluation's rows; and no threshold is a case's own probability."""
    cases = json.loads((cohort / "datalist.json").read_text())["validation"]
    labels = np.array([case["malignant"] for case in cases], dtype=float)
    baselines, readers, opened = baseline_crops(cohort, "validation", SIZE), Readers(published, SIZE), beside(published)
    samples = read_predictions(published.parent / "predictions", [case["case_id"] for case in cases])
    rows = {
        "baseline": readers.judged(baselines),
        "generated": np.mean([readers.judged(run) for run in samples], axis=0),
        "record_only": probabilities(opened["record alone"], baselines, cases)[0],
        "direct_classifier": probabilities(opened["direct classifier"], baselines, cases)[0],
    }
    assert content["thresholds"]["methods"].keys() == rows.keys()
    for name, values in rows.items():
        fixed = fixed_thresholds(values, labels)
        for rule, limit in content["thresholds"]["methods"][name].items():
            called = values >= fixed[rule] - 1e-6  # of a threshold that is itself a probability
            assert ((values >= limit) == called).all() and limit not in values


def test_what_trained_the_published_methods_is_noted(cohort: Path, published: Path, tmp_path: Path) -> None:
    """The crops of the 120 training pairs, by which an evaluation knows a case."""
    cases = json.loads((cohort / "datalist.json").read_text())
    for file in ("record_only.json", "direct_classifier.safetensors"):
        noted = json.loads((published / "training_cases" / f"{Path(file).stem}.json").read_text())
        crops = {digest_crop(cohort / each, SIZE) for case in cases["training"] for each in crops_of(case)}
        assert noted == {"weights": digest_weights(published / file), "image_size": SIZE, "crops": sorted(crops)}
        (tmp_path / "training_cases").mkdir(exist_ok=True)
        shutil.copy(published / file, tmp_path)
        shutil.copy(published / "training_cases" / f"{Path(file).stem}.json", tmp_path / "training_cases")
        assert trained_on(cohort, cases["training"], tmp_path) == {"n_cases": 120, "n_trained": 120, "unknown": []}
        assert trained_on(cohort, cases["test"], tmp_path)["n_trained"] == 0


def test_weights_that_held_out_cases_trained_are_refused(cohort: Path, weights: Path, tmp_path: Path) -> None:
    """As those may be that went on from weights of the same cases, divided otherwise; before any work."""
    models = Path(shutil.copytree(weights / "models", tmp_path / "models"))
    case = json.loads((cohort / "datalist.json").read_text())["validation"][0]
    path = models / "training_cases" / "autoencoder.json"
    noted = json.loads(path.read_text())
    path.write_text(json.dumps(noted | {"crops": [*noted["crops"], digest_crop(cohort / case["baseline"], SIZE)]}))
    with pytest.raises(UserError, match="1 of 40 cases trained these weights, of the validation section"):
        publish_reference(cohort, models, tmp_path / "none", weights / "direct.safetensors", folds=FOLDS)


def test_the_published_regression_is_that_of_training(cohort: Path, published: Path) -> None:
    expected = RecordRegression.of(record_regression(cohort, FOLDS))
    assert RecordRegression.read(published / "record_only.json") == expected


def test_nothing_of_a_single_case_is_published(cohort: Path, published: Path, content: dict[str, Any]) -> None:
    """Neither an id, nor a value that one record alone has, nor a latent or a crop's number; nor lists as long."""
    datalist = json.loads((cohort / "datalist.json").read_text())
    cases = datalist["training"] + datalist["validation"]
    files = [published / name for name in (REFERENCE, "record_only.json")]
    texts = [path.read_text() for path in files]
    for case in cases:
        assert not any(f'"{case[key]}"' in text for text in texts for key in ("case_id", "patient_id", "baseline"))
    numbers = {value for path in files for value in floats(json.loads(path.read_text()))}
    own = {value for case in cases for value in case["ehr"].values() if isinstance(value, float)}
    own |= {float(np.log(value)) for value in own}
    assert len(own) > 900 and not numbers & own
    tensors = load_file(published / LATENTS)
    latents = pooled(encoder(published, "cpu")(baseline_crops(cohort, "training", SIZE)))
    assert {name: each.shape for name, each in tensors.items()} == {
        "mean": (latents.shape[1],),
        "covariance": (latents.shape[1],) * 2,
    }
    rows = np.concatenate([tensors["mean"][None], tensors["covariance"]])
    nearest = np.linalg.norm(latents[:, None] - rows[None], axis=2).min()
    assert nearest > 0.1 * latents.std()
    np.testing.assert_allclose(tensors["mean"], latents.mean(axis=0), rtol=1e-4, atol=1e-5)


def floats(content: Any) -> Iterator[float]:
    yield from (value for _, value in leaves(content) if isinstance(value, float))


def test_the_test_of_single_cases_finds_one(cohort: Path, published: Path, content: dict[str, Any]) -> None:
    """Else it would hold nothing: a range from the smallest to the largest case is found."""
    ages = [case["ehr"]["age"] for case in json.loads((cohort / "datalist.json").read_text())["training"]]
    leaking = {**content, "training": {"percentiles": {"age": [min(ages), max(ages)]}}}
    assert set(floats(leaking)) & set(ages)


def test_tables_out_of_fold_replace_the_section(
    cohort: Path,
    weights: Path,
    tmp_path: Path,
    published: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where patients are too few for the record's cross-validation, the record alone has no score."""
    monkeypatch.setattr(publish, "out_of_fold", lambda cases, folds: None)
    models = tmp_path / "models"
    shutil.copytree(weights / "models", models)
    predictions = published.parent / "predictions"
    datalist = json.loads((cohort / "datalist.json").read_text())
    cases = datalist["training"] + datalist["validation"]
    values = np.linspace(0.01, 0.99, len(cases))
    write_table(tmp_path / "table.csv", 0, [case["case_id"] for case in cases], values)
    tables = {"generated": tmp_path / "table.csv"}
    publish_reference(cohort, models, predictions, tmp_path / "none", tables, FOLDS, resamples=20)
    assert "table.csv: nothing beside it says how its images were sampled" in caplog.text
    content = json.loads((models / REFERENCE).read_text())
    labels = [case["malignant"] for case in cases]
    found = content["methods"]["generated"]["held_out"]
    assert found["auroc"] == pytest.approx(roc_auc_score(labels, values), abs=1e-4) and "out-of-fold" in found["on"]
    assert content["methods"].keys() == {"generated", "baseline"}
    assert not (models / "direct_classifier.safetensors").exists()


@pytest.mark.parametrize("stage", STAGES)
def test_weights_of_another_dataset_are_refused(
    stage: str, cohort: Path, weights: Path, published: Path, tmp_path: Path
) -> None:
    """Of any stage: what is held out here may have been seen there."""
    models = shutil.copytree(weights / "models", tmp_path / "models")
    say_trained_on(models, "0" * 64, [stage])
    with pytest.raises(UserError, match=rf"{stage}.safetensors: trained on another dataset \(000000000000\)"):
        publish_reference(cohort, models, published.parent / "predictions", weights / "direct.safetensors")
    assert not (models / REFERENCE).exists() and not (models / "record_only.json").exists()


def test_predictions_by_other_weights_are_refused(cohort: Path, weights: Path, published: Path, tmp_path: Path) -> None:
    models = shutil.copytree(weights / "models", tmp_path / "models")
    shutil.copy(models / "unet_unconditional.safetensors", models / "unet_conditional.safetensors")
    say_trained_on(models, digest_dataset(cohort), ["unet_conditional"])
    with pytest.raises(UserError, match="not all of its cases were generated alike by the weights"):
        publish_reference(cohort, models, published.parent / "predictions", weights / "direct.safetensors")
    assert not (models / REFERENCE).exists() and not (models / "record_only.json").exists()


def test_what_cannot_be_published_is_refused_at_once(cohort: Path, weights: Path, tmp_path: Path) -> None:
    arguments = (tmp_path / "models", tmp_path / "predictions", tmp_path / "none")
    with pytest.raises(UserError, match=r"tables: no such method: judge; expected record_only, direct_classifier, gen"):
        publish_reference(cohort, *arguments, {"judge": "table.csv"})
    with pytest.raises(UserError, match="tables: a.csv is of the direct classifier, but .*none, which would be "):
        publish_reference(cohort, *arguments, {"direct_classifier": "a.csv"})
    datalist = json.loads((cohort / "datalist.json").read_text())
    shutil.copytree(cohort, tmp_path / "cohort")
    (tmp_path / "cohort" / "datalist.json").write_text(json.dumps(datalist | {"validation": []}))
    models = shutil.copytree(weights / "models", tmp_path / "models")
    say_trained_on(models, digest_dataset(tmp_path / "cohort"))
    with pytest.raises(UserError, match="its validation section is empty"):
        publish_reference(tmp_path / "cohort", *arguments)
