"""The whole evaluation on a made-up study: files, numbers, and what happens at the edges."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from scripts.evaluation.nodules.growth import measure
from scripts.evaluation.report.columns import CALIBRATION, METRICS, REGRET, title_of
from scripts.evaluation.report.html import gap_sentence, number
from scripts.networks.perceptual import PerceptualDistance
from tests.bundle.evaluation.page import Page
from tests.bundle.evaluation.studies import make_study, run


def test_metrics_file_holds_the_contract(outcome):
    study, result, folder = outcome
    assert json.loads((folder / "metrics.json").read_text()) == result
    assert (result["dataset"], result["simulated"], result["command"]) == ("discs", True, study["command"])
    counts = [result[key] for key in ("n_cases", "n_patients", "n_malignant", "n_benign", "n_runs")]
    assert counts == [12, 6, 4, 8, 4]
    assert all("not comparable" in name for name in result["feature_extractors"].values())
    assert set(result["methods"]) == {
        *("real_baseline", "real_follow_up", "copy_baseline", "reconstructed_follow_up", "NAMD"),
        *("direct <u>classifier</u>", "NAMD_mean_probability", "direct <u>classifier</u>_mean_probability"),
    }
    for scores in result["methods"].values():
        assert all({"mean", "std", "ci95"} <= set(scores[metric]) for metric in METRICS)


def test_numbers_equal_plain_computations(outcome, distance):
    study, result, _ = outcome
    methods = result["methods"]
    labels = [case["malignant"] for case in study["cases"]]
    runs = study["generated"]["NAMD"]
    probabilities = np.stack([study["classifier"](torch.from_numpy(run)).numpy() for run in runs])
    for metric, score in (("auroc", roc_auc_score), ("auprc", average_precision_score)):
        each = [score(labels, run) for run in probabilities]
        assert methods["NAMD"][metric]["mean"] == pytest.approx(np.mean(each))
        assert methods["NAMD"][metric]["std"] == pytest.approx(np.std(each, ddof=1))
        ensemble = methods["NAMD_mean_probability"][metric]["mean"]
        assert ensemble == pytest.approx(score(labels, probabilities.mean(axis=0)))
        ends = [methods[name][metric]["mean"] for name in ("real_baseline", "real_follow_up")]
        gap = result["gap"][metric]
        assert gap["mean"] == pytest.approx(ends[1] - ends[0])
        share = (np.mean(each) - ends[0]) / gap["mean"] if gap["ci95"][0] > 0 else None
        assert result["gap_closed"][metric] == (None if share is None else pytest.approx(share))
    y = torch.from_numpy(study["follow_up"])
    lpips = [distance(torch.from_numpy(run), y).mean().item() for run in runs]
    assert methods["NAMD"]["lpips"]["mean"] == pytest.approx(np.mean(lpips), rel=1e-5)
    assert methods["reconstructed_follow_up"]["lpips"]["mean"] == 0
    assert methods["reconstructed_follow_up"]["fid"]["mean"] == pytest.approx(0, abs=1e-6)
    assert methods["copy_baseline"]["fid"]["mean"] > 0
    assert methods["copy_baseline"]["auroc"] == methods["real_baseline"]["auroc"]
    assert methods["real_follow_up"]["lpips"]["reason"] == "not given for real images"


def test_differences_and_calibration_are_of_single_or_averaged_probabilities(outcome):
    """In metrics.json and in the report; runs one at a time have neither, the copied baseline would be its double."""
    study, result, folder = outcome
    methods = result["methods"]
    with_statistics = [name for name, scores in methods.items() if "calibration" in scores]
    averaged = ["NAMD_mean_probability", "direct <u>classifier</u>_mean_probability"]
    assert with_statistics == ["real_baseline", "real_follow_up", "reconstructed_follow_up", *averaged]
    labels = [case["malignant"] for case in study["cases"]]
    runs = [study["classifier"](torch.from_numpy(run)).numpy() for run in study["generated"]["NAMD"]]
    follow_up = study["classifier"](torch.from_numpy(study["follow_up"])).numpy()
    mean = np.mean(runs, axis=0)
    difference = methods["NAMD_mean_probability"]["auroc_difference"]["real_follow_up"]
    assert difference["mean"] == pytest.approx(roc_auc_score(labels, mean) - roc_auc_score(labels, follow_up))
    low, high = difference["ci95"]
    assert low <= difference["mean"] <= high and (difference["p"] < 0.05) == (not low <= 0 <= high)
    other = methods["NAMD_mean_probability"]["auroc_difference"][averaged[1]]
    direct = study["predicted"]["direct <u>classifier</u>"].mean(axis=0)
    assert other["mean"] == pytest.approx(roc_auc_score(labels, mean) - roc_auc_score(labels, direct))
    brier = methods["NAMD_mean_probability"]["calibration"]["brier"]
    assert brier["mean"] == pytest.approx(brier_score_loss(labels, mean), rel=1e-6)

    rows = Page((folder / "report.html").read_text()).rows[1 + len(methods) :]
    names = {title_of(name): methods[name] for name in with_statistics}
    differences = [f"{t} less {title_of(r)}" for t, scores in names.items() for r in scores["auroc_difference"]]
    assert [" ".join(row[0].split()) for row in rows[1 : 1 + len(differences)]] == differences
    assert len(differences) == 1 + 2 + 4 + 2  # follow-up, reconstruction, ours against all, direct classifier
    rows = rows[2 + len(differences) :][: len(names)]
    assert [row[0] for row in rows] == list(names)
    for row in rows:
        for cell, (key, (_, decimals)) in zip(row[1:], CALIBRATION.items(), strict=True):
            assert cell.split()[0] == number(names[row[0]]["calibration"][key]["mean"], decimals)


def test_regret_is_in_both_files(outcome):
    """Of every row, over runs as AUROC is; the real follow-up is held against the oracle that knows growth."""
    study, result, folder = outcome
    assert result["regret"].keys() == result["methods"].keys()
    averaged, over_runs = (result["regret"][f"NAMD{end}"]["regret"] for end in ("_mean_probability", ""))
    assert over_runs["mean"] > averaged["mean"] and over_runs["std"] > 0 and averaged["std"] is None
    follow_up = study["classifier"](torch.from_numpy(study["follow_up"])).numpy()
    loss = log_loss([case["malignant"] for case in study["cases"]], follow_up)  # of an oracle that is certain
    assert result["regret"]["real_follow_up"]["regret"]["mean"] == pytest.approx(loss, rel=1e-4)
    share = result["regret"]["NAMD_mean_probability"]["of_baseline"]["mean"]
    baseline, own = (result["regret"][name]["regret"] for name in ("real_baseline", "NAMD_mean_probability"))
    assert share == pytest.approx(own["mean"] / baseline["mean"]) and baseline["ci95"][0] < baseline["mean"]
    page = (folder / "report.html").read_text()
    assert f'<td data-label="{REGRET["regret"][0]}">{own["mean"]:.3f}' in page


def test_fid_does_not_depend_on_the_network_of_the_distance(distance, tmp_path):
    study = make_study(count=4, runs=1)
    vgg, alex = (run(study, tmp_path, perceptual=each) for each in (PerceptualDistance("vgg"), distance))
    for metric, same in (("fid", True), ("kid", True), ("lpips", False)):
        values = [result["methods"]["NAMD"][metric]["mean"] for result in (vgg, alex)]
        assert (values[0] == pytest.approx(values[1])) == same
    assert "vgg" in vgg["feature_extractors"]["lpips"] and "alex" in vgg["feature_extractors"]["fid"]


def test_the_same_study_gives_the_same_numbers(outcome, distance, tmp_path):
    study, result, folder = outcome
    again = run(study, tmp_path, perceptual=distance)
    assert again["methods"] == result["methods"]
    assert (tmp_path / "predictions.csv").read_bytes() == (folder / "predictions.csv").read_bytes()


@pytest.mark.parametrize("count", [1, 2, 4])
def test_tiny_studies_of_one_run_are_reported(count, distance, tmp_path):
    study = make_study(count=count, runs=1) | {"simulated": False, "resamples": 5}
    study["cases"] = [case | {"ehr": {}, "malignant": 0 if case["malignant"] else None} for case in study["cases"]]
    result = run(study, tmp_path, drawn=True, perceptual=distance, encoders={"aligned": lambda x: x})
    assert result["methods"]["NAMD"]["auroc"]["reason"] == "all cases with a known outcome are benign"
    assert result["gap_closed"] == {"auroc": None, "auprc": None}
    assert (result["methods"]["NAMD"]["fid"]["mean"] is None) == (count == 1)
    report = Page((tmp_path / "report.html").read_text())
    assert "Simulated data:" not in report.text and "are benign." in report.text
    assert len(report.images) == 1  # only the gallery is possible


def test_a_study_without_generated_images(distance, tmp_path):
    study = make_study(count=4) | {"generated": {}}
    result = run(study, tmp_path, perceptual=distance)
    assert result["n_runs"] == 0 and result["gap_closed"] == {"auroc": None, "auprc": None}
    assert gap_sentence(result) is None


def test_wrong_inputs_are_named(study, tmp_path):
    def expect(message: str, **changes):
        with pytest.raises(ValueError, match=message):
            run(study | changes, tmp_path)

    cases, images = study["cases"], study["generated"]["NAMD"]
    expect("case-00 occur more than once", cases=[cases[0], *cases[:-1]])
    expect("malignant must be 0, 1 or null.*case-00", cases=[cases[0] | {"malignant": 2}, *cases[1:]])
    expect("follow_up must be .* of 11 cases", cases=cases[1:])
    expect(r"real_baseline must be \(runs, 12, 1, 64, 64\)", baseline=study["baseline"][1:])
    expect(r"NAMD must be \(runs, 12", generated={"NAMD": images[0]})
    expect(r"NAMD must be scaled to \[-1, 1\]", generated={"NAMD": images * 400})
    expect(r"NAMD must be scaled to \[-1, 1\] and finite", generated={"NAMD": np.full_like(images, np.nan)})
    expect("direct must hold probabilities", predicted={"direct": np.full((1, 12), 3.0)})
    expect(r"classifier must give probabilities .*\(logits", classifier=lambda x: x.sum(dim=(1, 2, 3)))
    expect("one probability an image, not 2", classifier=lambda x: torch.zeros(len(x), 2))
    expect("NAMD_mean_probability.* reserved", generated={"NAMD_mean_probability": images})
    expect("NAMD_median_size.* reserved", predicted={"NAMD_median_size": np.zeros((1, 12))})
    expect("copy_baseline.* reserved", generated={"copy_baseline": images})
    assert not list(tmp_path.iterdir())


def test_evaluation_measures_growth(tmp_path, distance):
    study = make_study() | {"spacing": {"baseline": np.full((12, 2), 0.5), "follow_up": np.full((12, 2), 0.5)}}
    study["follow_up"][1] = -0.8
    result = run(study, tmp_path, perceptual=distance)
    assert json.loads((tmp_path / "metrics.json").read_text())["growth"] == result["growth"]
    assert result["growth"]["measured"]["methods"]["copy_baseline"]["diameter_balanced_accuracy"]["mean"] <= 0.5
    table = pd.read_csv(tmp_path / "predictions.csv")
    sizes = table[table.method == "real_baseline"].set_index("case_id")
    own = measure(study["baseline"][None], study["spacing"]["baseline"])
    assert not np.allclose(own.long, own.perpendicular, atol=0.02), "else one could stand for the other"
    for name, values in {"long_mm": own.long, "perpendicular_mm": own.perpendicular, "area_mm2": own.area}.items():
        np.testing.assert_allclose(sizes[name], values[0], atol=0.006)
    discs = sizes.long_mm
    radii = np.array([case["ehr"]["sct_long_dia"] / 2 for case in study["cases"]])
    np.testing.assert_allclose(discs, radii, atol=1.5)  # the study's radii are in pixels of half a mm
    later = table[table.method == "real_follow_up"].set_index("case_id")[["long_mm", "perpendicular_mm", "area_mm2"]]
    assert later.loc["case-01"].isna().all() and later.drop("case-01").notna().all(axis=None), "a flat image has none"
    assert (tmp_path / "figures" / "growth.png").is_file()
    html = (tmp_path / "report.html").read_text()
    assert "Against the real follow-up" in html and "median size over runs" in html


def test_the_error_in_hu_is_of_what_is_not_padded(distance, tmp_path):
    study = make_study(count=4, runs=1)
    unpadded = np.ones_like(study["follow_up"], dtype=bool)
    unpadded[:3, :, :20] = False
    reconstruction = np.where(unpadded, np.clip(study["follow_up"] + 0.1, -1, 1), 1.0)
    result = run(study, tmp_path, perceptual=distance, reconstruction=reconstruction, unpadded=unpadded)
    by_hand = 700 * np.abs(reconstruction - study["follow_up"])[unpadded].mean()
    assert result["reconstruction_mae_hu"] == pytest.approx(by_hand, rel=1e-5)
