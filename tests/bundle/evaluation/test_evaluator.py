"""The whole evaluation on a made-up study: files, numbers, and what happens at the edges."""

from __future__ import annotations

import base64
import csv
import io
import json
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from scripts.evaluation.report.columns import CALIBRATION, LATENTS, METRICS, title_of
from scripts.evaluation.report.html import gap_sentence, number
from scripts.networks.perceptual import PerceptualDistance
from tests.bundle.evaluation.studies import make_study, run

pytestmark = pytest.mark.filterwarnings("ignore:torchvision's")


@pytest.fixture(scope="module")
def distance():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.hub, "get_dir", lambda: "no-such-folder")
        yield PerceptualDistance("alex")


@pytest.fixture(scope="module")
def outcome(tmp_path_factory, distance):
    """The study, what `evaluate` returned, and where it wrote."""
    study, folder = make_study(), tmp_path_factory.mktemp("evaluation")
    study["reconstruction"] = study["follow_up"]
    study["predicted"] = {"direct <u>classifier</u>": np.tile(np.linspace(0, 1, 12), (2, 1))}
    study["encoders"] = {
        title: lambda x, start=start: torch.cat([x[:, :, start::8, start::8], -x[:, :, :8, :8]], dim=1)
        for title, start in (("aligned", 0), ("not aligned", 4))
    }
    study["training"] = (study["follow_up"], study["cases"])
    return study, run(study, folder, perceptual=distance), folder


class Report(HTMLParser):
    """The report's table, images, text and links."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.images: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.cell = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for key, value in attrs if key in ("src", "href")]
        if tag == "tr":
            self.rows.append([])
        self.cell = self.cell or tag in ("td", "th")
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "img":
            self.images.append(dict(attrs)["src"])

    def handle_endtag(self, tag):
        self.cell = self.cell and tag not in ("td", "th")

    def handle_data(self, data):
        self.text += data
        if self.cell:
            self.rows[-1][-1] += data


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
        share = (np.mean(each) - ends[0]) / (ends[1] - ends[0])
        assert result["gap_closed"][metric] == pytest.approx(share)
    y = torch.from_numpy(study["follow_up"])
    lpips = [distance(torch.from_numpy(run), y).mean().item() for run in runs]
    assert methods["NAMD"]["lpips"]["mean"] == pytest.approx(np.mean(lpips), rel=1e-5)
    assert methods["reconstructed_follow_up"]["lpips"]["mean"] == 0
    assert methods["reconstructed_follow_up"]["fid"]["mean"] == pytest.approx(0, abs=1e-6)
    assert methods["copy_baseline"]["fid"]["mean"] > 0
    assert methods["copy_baseline"]["auroc"] == methods["real_baseline"]["auroc"]
    assert methods["real_follow_up"]["lpips"]["reason"] == "not given for real images"


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


def test_table_of_the_report_equals_the_metrics(outcome):
    _, result, folder = outcome
    report = Report((folder / "report.html").read_text())
    head, *body = report.rows[: 1 + len(result["methods"])]
    assert head == ["Method", "AUROC ↑", "AUPRC ↑", "LPIPS ↓", "FID ↓", "KID ↓"]
    assert [row[0] for row in body] == [title_of(name) for name in result["methods"]]
    for row, scores in zip(body, result["methods"].values(), strict=True):
        for cell, (metric, (_, decimals)) in zip(row[1:], METRICS.items(), strict=True):
            score = scores[metric]
            expected = number(score["mean"], decimals)
            if score["ci95"]:
                low, high = (number(bound, decimals) for bound in score["ci95"])
                expected += f" [{low}, {high}]"
            if score["std"] is not None:
                expected += f" sd {number(score['std'], decimals)}"
            assert " ".join(cell.split()) == expected


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

    rows = Report((folder / "report.html").read_text()).rows[1 + len(methods) :]
    names = {title_of(name): methods[name] for name in with_statistics}
    differences = [f"{t} less {title_of(r)}" for t, scores in names.items() for r in scores["auroc_difference"]]
    assert [" ".join(row[0].split()) for row in rows[1 : 1 + len(differences)]] == differences
    assert len(differences) == 1 + 2 + 4 + 2  # follow-up, reconstruction, ours against all, direct classifier
    rows = rows[2 + len(differences) :][: len(names)]
    assert [row[0] for row in rows] == list(names)
    for row in rows:
        for cell, (key, (_, decimals)) in zip(row[1:], CALIBRATION.items(), strict=True):
            assert cell.split()[0] == number(names[row[0]]["calibration"][key]["mean"], decimals)


def test_latent_spaces_stand_in_both_files(outcome):
    """The discs' records, of one diameter each, and latents that see brightness: they agree, and so do the files."""
    _, result, folder = outcome
    head = ["Autoencoder", *(title for title, _ in LATENTS.values())]
    rows = Report((folder / "report.html").read_text()).rows
    rows = rows[rows.index(head) + 1 :][:2]
    assert [row[0] for row in rows] == list(result["latents"]) == ["aligned", "not aligned"]
    for row in rows:
        for cell, (key, (_, decimals)) in zip(row[1:], LATENTS.items(), strict=True):
            score = result["latents"][row[0]][key]
            assert cell.split()[0] == number(score["mean"], decimals) and score["ci95"] is not None


def test_meaning_of_every_key_is_in_both_files(outcome):
    _, result, folder = outcome
    flat = " ".join(Report((folder / "report.html").read_text()).text.split())
    assert "not a sampling error" in result["definitions"]["std"] and "over runs, how far seeds differ" in flat
    keys = {"mean", "std", "ci95", "p", "p_delong_clustered", "p_delong_independent", "auroc_difference", "kid"}
    keys |= {"change_pearson", "change_spearman"}
    assert keys | {"calibration", *CALIBRATION, *LATENTS} == result["definitions"].keys()
    assert "ECE ↓: no interval, for resampling cases biases the calibration error upwards." in flat
    shown = ("kid", "p", "p_delong_independent", *CALIBRATION, *LATENTS)
    assert all(result["definitions"][key] in flat for key in shown)
    assert result["bootstrap"] == {"unit": "patient", "resamples": 50, "stratified": True, "seed": 0}


def test_fid_does_not_depend_on_the_network_of_the_distance(study, distance, outcome, tmp_path):
    study["generated"] = {"NAMD": study["generated"]["NAMD"][:1]}
    vgg, alex = (run(study, tmp_path, perceptual=each) for each in (PerceptualDistance("vgg"), distance))
    for metric, same in (("fid", True), ("kid", True), ("lpips", False)):
        values = [result["methods"]["NAMD"][metric]["mean"] for result in (vgg, alex)]
        assert (values[0] == pytest.approx(values[1])) == same
    assert "vgg" in vgg["feature_extractors"]["lpips"] and "alex" in vgg["feature_extractors"]["fid"]


def test_report_says_what_it_is_and_needs_no_network(outcome):
    study, result, folder = outcome
    html = (folder / "report.html").read_text()
    report = Report(html)
    flat = " ".join(report.text.split())
    for phrase in (
        *("Research use only, not for clinical decisions", "Generated images are synthetic", "Simulated data:"),
        *(study["command"], *result["feature_extractors"].values(), f"torch {result['versions']['torch']}"),
        *(
            "discs are drawn & 'simulated'. No number",
            "direct <u>classifier</u>",
            gap_sentence(result),
            result["created"],
        ),
    ):
        assert phrase in flat
    assert "u" not in report.tags, "a method's name must not become markup"
    assert all(address.startswith("data:image/png;base64,") for address in report.addresses)
    assert "http:" not in html and "https:" not in html and "patient-" not in html
    assert "prefers-color-scheme: dark" in html and 'name="viewport"' in html


def test_figures_are_drawn_and_embedded(outcome):
    _, _, folder = outcome
    names = ["curves", "calibration", "gallery", "error_variance", "running_variance", "latent_map"]
    assert sorted(path.stem for path in (folder / "figures").iterdir()) == sorted(names)
    images = Report((folder / "report.html").read_text()).images
    embedded = [base64.b64decode(image.removeprefix("data:image/png;base64,")) for image in images]
    drawn = [(folder / "figures" / f"{name}.png").read_bytes() for name in names]
    assert sorted(embedded) == sorted(drawn)
    for content in drawn:
        pixels = imread(io.BytesIO(content))
        assert min(pixels.shape[:2]) > 200 and pixels[..., :3].std() > 0.05
        assert len(content) < 600_000


def test_the_same_study_gives_the_same_numbers(outcome, distance, tmp_path):
    study, result, folder = outcome
    again = run(study, tmp_path, perceptual=distance)
    assert again["methods"] == result["methods"]
    assert (tmp_path / "predictions.csv").read_bytes() == (folder / "predictions.csv").read_bytes()


@pytest.mark.parametrize("count", [1, 2, 4])
def test_tiny_studies_of_one_run_are_reported(count, distance, tmp_path):
    study = make_study(count=count, runs=1) | {"simulated": False, "resamples": 5}
    study["cases"] = [case | {"ehr": {}, "malignant": 0 if case["malignant"] else None} for case in study["cases"]]
    result = run(study, tmp_path, perceptual=distance, encoders={"aligned": lambda x: x})
    assert result["methods"]["NAMD"]["auroc"]["reason"] == "all cases with a known outcome are benign"
    assert result["gap_closed"] == {"auroc": None, "auprc": None}
    assert (result["methods"]["NAMD"]["fid"]["mean"] is None) == (count == 1)
    report = Report((tmp_path / "report.html").read_text())
    assert "Simulated data:" not in report.text and "are benign." in report.text
    assert len(report.images) == 1  # only the gallery is possible


def test_a_study_without_generated_images(study, distance, tmp_path):
    study["generated"] = {}
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
