"""The reference: what it says of a probability and a latent, and that one of other weights is not taken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monai.bundle import ConfigParser
from scipy.spatial.distance import mahalanobis as scipys
from sklearn.linear_model import LogisticRegression

from scripts.errors import UserError
from scripts.files import write_json
from scripts.predictions import FILE
from scripts.results.case import Results
from scripts.results.held_out import recalibration
from scripts.results.reference import (
    EXACTNESS,
    METHODS,
    REFERENCE,
    Reference,
    mahalanobis,
    open_reference,
    pooled,
    published_thresholds,
    sampled_otherwise,
)
from scripts.weights.parts import digest_parts
from tests.bundle.helpers import BUNDLE, CONFIGS


def made_by(models: Path, guidance_scale: float = 6.0) -> dict[str, Any]:
    return {"weights": digest_parts(models), "guidance_scale": guidance_scale}


def test_a_calibrated_probability_equals_scikit_learns() -> None:
    noise = np.random.default_rng(0)
    values = noise.uniform(0.02, 0.98, 300)
    labels = (noise.random(300) < values**2).astype(float)
    log_odds = np.log(values / (1 - values))[:, None]
    expected = LogisticRegression(C=np.inf, tol=1e-10).fit(log_odds, labels).predict_proba(log_odds)[:, 1]
    reference = Reference({"methods": {"baseline": {"calibration": recalibration(values, labels)}}})
    found = [reference.calibrated("baseline", value) for value in values]
    np.testing.assert_allclose(np.array(found, dtype=float), expected, atol=1e-5)
    assert reference.calibrated("generated", 0.3) is None and Reference().calibrated("baseline", 0.3) is None


def test_the_best_on_the_same_cases_stands_first() -> None:
    reference = Reference({"compared": {"auroc": {"generated": 0.7, "baseline": 0.6, "record_only": 0.8}}})
    assert reference.order == ["record_only", "generated", "baseline", "direct_classifier", "brock"]
    assert Reference().order == list(METHODS) and Reference().compared == {}


def test_distance_equals_scipys() -> None:
    noise = np.random.default_rng(1)
    latents, mixing = noise.normal(size=(5, 3)), noise.normal(size=(3, 3))
    covariance, mean = mixing @ mixing.T + np.eye(3), noise.normal(size=3)
    expected = [scipys(latent, mean, np.linalg.inv(covariance)) for latent in latents]
    np.testing.assert_allclose(mahalanobis(latents, mean, covariance), expected)
    assert Reference(mean=mean, covariance=covariance).distance(latents[2]) == pytest.approx(expected[2])
    assert Reference().distance(latents[2]) is None


def test_pooling_averages_cells() -> None:
    latents = np.arange(2 * 3 * 8 * 8, dtype=float).reshape(2, 3, 8, 8)
    found = pooled(latents).reshape(2, 3, 4, 4)
    np.testing.assert_allclose(found, latents.reshape(2, 3, 4, 2, 4, 2).mean(axis=(3, 5)))
    assert pooled(latents[..., :2, :3]).shape == (2, 3 * 2 * 3)
    np.testing.assert_allclose(pooled(np.ones((1, 2, 7, 5))), 1.0)


def test_it_is_of_these_weights(published: Path, tmp_path: Path) -> None:
    assert open_reference(published, made_by(published)).lacking == []
    models = tmp_path / "models"
    shutil.copytree(published, models)
    shutil.copy(published / "direct_classifier.safetensors", models / "classifier.safetensors")
    other = open_reference(models, made_by(published))
    assert other.content == {} and "it is of other weights (classifier), so not used" in other.lacking[0]
    other = open_reference(published, made_by(published) | {"weights": {"autoencoder": "0"}})
    assert "(autoencoder, conditioner, unet_conditional)" in other.lacking[0]


def test_another_guidance_scale_has_no_calibration_of_generated_images(published: Path) -> None:
    usual, other = (open_reference(published, made_by(published, scale)) for scale in (6.0, 1.0))
    assert usual.held_out("generated") is not None and "generated" in usual.compared
    assert other.held_out("generated") is None and "generated" not in other.compared
    assert other.held_out("baseline") == usual.held_out("baseline")
    assert "generated" in usual.thresholds[1] and "generated" not in other.thresholds[1]
    assert other.thresholds[1]["baseline"] == usual.thresholds[1]["baseline"]
    assert "of generated images nothing, since it is of others (guidance_scale was 6.0, is 1.0)" in other.lacking[0]
    textured = open_reference(published, made_by(published, 6.0) | {"texture": True})
    assert textured.held_out("generated") is None and "of others (texture was None, is True)" in textured.lacking[0]


def test_of_images_sampled_otherwise_it_is_said_and_the_numbers_stay(published: Path, tmp_path: Path) -> None:
    """As with the solver of fewer steps; what one side does not say, as older predictions, is not compared."""
    models = shutil.copytree(published, tmp_path / "models")
    content = json.loads((models / REFERENCE).read_text())
    content["made_from"]["sampling"] |= {"num_runs": 20, "num_steps": 50, "solver": "ddim"}
    write_json(models / REFERENCE, content)
    alike = made_by(models) | {"num_runs": 20, "num_steps": 50, "solver": "ddim"}
    other = alike | {"num_runs": 4, "num_steps": 12, "solver": "dpmpp"}
    assert open_reference(models, alike).lacking == open_reference(models, made_by(models)).lacking == []
    (lacking,) = open_reference(models, other).lacking
    differ = "num_runs was 20, is 4; num_steps was 50, is 12; solver was 'ddim', is 'dpmpp'"
    assert lacking == f"{REFERENCE}: nothing of images sampled as these; what is given is of others ({differ})"
    calibrated = [open_reference(models, each).calibrated("generated", 0.3) for each in (alike, other)]
    assert calibrated[0] == calibrated[1] and calibrated[0] is not None
    on, found = published_thresholds(models, other)
    assert on.endswith(f"; generated images were sampled otherwise there: {differ}") and "generated" in found
    assert published_thresholds(models, alike) == (content["thresholds"]["on"], found)
    (lacking,) = open_reference(models, other | {"guidance_scale": 1.0}).lacking
    assert "guidance_scale was 6.0, is 1.0" in lacking
    exactly = alike | {"num_steps": 12, "solver": "dpmpp"}
    reference, usual = open_reference(models, exactly), open_reference(models, alike)
    assert reference.lacking == [], "they are the same images, as exact or less"
    was, now = (each.held_out("generated") or {} for each in (usual, reference))
    differ = "num_steps was 50, is 12; solver was 'ddim', is 'dpmpp'"
    assert now == was | {"on": f"{was['on']}; generated images were sampled otherwise there: {differ}"}
    assert reference.held_out("baseline") == usual.held_out("baseline")


def test_of_growth_it_is_said_how_its_images_were_sampled(published: Path, tmp_path: Path) -> None:
    models = shutil.copytree(published, tmp_path / "models")
    content = json.loads((models / REFERENCE).read_text())
    trust = {"n": 30, "on": "a section"}
    content |= {"growth": trust, "size": {"guidance_scale": 1.0, "growth": trust, "sampling": {"1": {"num_steps": 12}}}}
    content["made_from"]["sampling"] |= {"num_steps": 50}
    write_json(models / REFERENCE, content)

    def found(sampling: dict[str, Any], size: dict[str, Any] | None = None) -> tuple[float | None, Any]:
        made = made_by(models) | {"image_size": 32} | sampling
        if size is not None:
            (tmp_path / "c0").mkdir(exist_ok=True)
            write_json(tmp_path / "c0" / FILE, made | size)
        return Results(models, made)._size(None if size is None else tmp_path, ["c0"])

    assert found({}) == found({"num_steps": 50}) == (6.0, trust)
    assert found({"num_steps": 12})[1]["on"].endswith("images were sampled otherwise there: num_steps was 50, is 12")
    assert found({"texture": True}) == (6.0, None) and found({"guidance_scale": 3.0}) == (3.0, None)
    assert found({"num_steps": 12}, {"guidance_scale": 1.0}) == (1.0, trust)
    assert "num_steps was 12, is 13" in found({"num_steps": 13}, {"guidance_scale": 1.0})[1]["on"]
    content["size"] = {"guidance_scale": 6.0, "growth": {"n": 30, "on": "chosen on these"}, "sampling": {}}
    write_json(models / REFERENCE, content)
    assert found({}) == (6.0, content["size"]["growth"]), "where size has the outcome's guidance, it still was chosen"


def test_the_bundles_reference_is_taken_by_inference_as_it_is_by_default() -> None:
    inference = ConfigParser.load_config_file(str(CONFIGS / "inference.yaml"))
    made_from = json.loads((BUNDLE / "models" / REFERENCE).read_text())["made_from"]
    usual = {name: inference[name] for name in ("num_runs", "num_steps", "solver")}
    assert sampled_otherwise(made_from["sampling"], usual, EXACTNESS) == ""
    assert usual.keys() <= made_from["sampling"].keys() and usual["num_runs"] == made_from["sampling"]["num_runs"]


def test_thresholds_are_told_by_the_rows_of_an_evaluation(published: Path, tmp_path: Path) -> None:
    on, found = published_thresholds(published, made_by(published))
    assert on.startswith("the validation section of discs (40 cases, ") and on.endswith(" malignant; all of it)")
    assert found.keys() == {"record alone", "direct classifier", "real_baseline", "generated"}
    assert all(each.keys() == {"sensitive", "youden"} for each in found.values())
    assert published_thresholds(tmp_path, made_by(published)) == ("", {})


def test_what_is_not_there_is_named(published: Path, tmp_path: Path) -> None:
    assert "no calibration" in open_reference(tmp_path, {"weights": {}}).lacking[0]
    models = tmp_path / "models"
    shutil.copytree(published, models)
    (models / "reference.safetensors").unlink()
    assert "reference.safetensors: no comparison" in open_reference(models, made_by(published)).lacking[0]
    (models / REFERENCE).write_text(json.dumps({"format": 99}))
    with pytest.raises(UserError, match=r"reference.json: format 99, expected 1. Make it again"):
        open_reference(models, made_by(published))


@pytest.mark.parametrize(
    ("runs", "days", "taken"), [(20, 365, True), (20, None, True), (19, 365, False), (20, 200, False), (20, 900, False)]
)
def test_factors_are_those_of_as_many_runs_and_a_usual_interval(runs: int, days: float | None, taken: bool) -> None:
    growth = {"factors": {"long": {"interval90": 1.2}}}
    made = {"made_from": {"sampling": {"num_runs": 20}}, "training": {"percentiles": {"interval_days": [300.0, 420.0]}}}
    assert Reference(made).factors(growth, runs, days) == (growth["factors"] if taken else {})
    assert Reference(made).factors(None, 20, 365) == Reference({}).factors(growth, 20, 365) == {}
