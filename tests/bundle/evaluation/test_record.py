"""Only predictions of these cases, by these weights, are judged; the others are refused before any work."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from scripts.comparators.tables import table_record, write_table
from scripts.data.datalist import DatalistError, pairs
from scripts.data.digest import digest_case, digest_dataset
from scripts.evaluation.record import USED, evaluation_record
from scripts.fingerprint import digest_weights
from scripts.predictions import FILE
from scripts.weights.checkpoints import load_network, save_network
from tests.bundle.helpers import refusal


@pytest.fixture(scope="module")
def generated(make_workflow: Callable[..., Any], trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, and predictions of the test section by them."""
    folder = tmp_path_factory.mktemp("generated")
    shutil.copytree(trained / "models", folder / "models")
    make_workflow("inference", folder, "small").run()
    return folder


@pytest.fixture
def run(generated: Path, tiny_dataset: Path, tmp_path: Path) -> Path:
    """A copy of them, and of the dataset."""
    shutil.copytree(tiny_dataset, tmp_path / "dataset")
    return Path(shutil.copytree(generated, tmp_path, dirs_exist_ok=True))


def record(run: Path, **others: Path) -> dict[str, Any]:
    return evaluation_record(run / "dataset", "test", run / "models", run / "predictions", others)


def change_datalist(run: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = run / "dataset" / "datalist.json"
    datalist = json.loads(path.read_text())
    change(datalist["test"][1])
    path.write_text(json.dumps(datalist))


def change_provenance(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "patient-10_n1" / FILE
    made = json.loads(path.read_text())
    change(made)
    path.write_text(json.dumps(made))


def change_spacing(path: Path, factor: float) -> None:
    image = nib.load(path)
    content = np.asanyarray(image.dataobj)
    nib.save(nib.Nifti1Image(content, image.affine @ np.diag([factor, factor, 1, 1])), path)


def test_an_evaluation_says_what_it_judged(run: Path) -> None:
    made = record(run, other=run / "predictions")
    weights = {name: digest_weights(run / "models" / f"{name}.safetensors") for name in ("autoencoder", "classifier")}
    assert made["dataset"] == digest_dataset(run / "dataset") and made["weights"].items() >= weights.items()
    assert made["predictions"].keys() == {"NAMD", "other"} and made["predictions"]["NAMD"]["num_runs"] == 3
    assert made["predictions"]["NAMD"]["weights"]["autoencoder"] == weights["autoencoder"]
    assert made["predictions"]["NAMD"]["language_model"]["digest"] and made["version"]


@pytest.mark.parametrize("where", ["predictions", "compared"])
@pytest.mark.parametrize("change", ["crop", "record", "interval", "spacing", "weights of a case", "settings of a case"])
def test_other_predictions_are_refused(run: Path, where: str, change: str) -> None:
    folder = run / "predictions"
    if where == "compared":
        folder = Path(shutil.copytree(folder, run / "elsewhere"))
    said = "1 of 3 cases were generated from other crops or records than those of the dataset: patient-10_n1"
    if change == "crop":
        shutil.copy(run / "dataset" / "9_t0.nii.gz", run / "dataset" / "10_t0.nii.gz")
    elif change == "record":
        change_datalist(run, lambda case: case["ehr"].update(age=77))
    elif change == "interval":
        change_datalist(run, lambda case: case.update(interval_days=700))
    elif change == "spacing":
        change_spacing(folder / "patient-10_n1" / "samples.nii.gz", 2.0)
        said = "pixels of patient-10_n1 are 1.2 x 1.4 mm, but 0.6 x 0.7 mm in the dataset"
    elif change == "weights of a case":
        change_provenance(folder, lambda made: made["weights"].update(autoencoder="0" * 64))
        said = "its cases were not all made alike: from patient-9_n1 to patient-10_n1, weights::autoencoder was"
    else:
        change_provenance(folder, lambda made: made.update(guidance_scale=3.5))
        said = ", is 3.5"
    others = {"other": folder} if where == "compared" else {}
    message = refusal(lambda: record(run, **others))
    first = folder if where == "predictions" or change not in ("crop", "record", "interval") else run / "predictions"
    assert message.startswith(f"{first}: ") and said in message and message.endswith("Run inference again.")


def test_crops_cut_anew_at_another_spacing_are_refused(run: Path) -> None:
    """The crop's file and its spacing have changed; predictions by another program show it by their header alone."""
    for index in (9, 10, 11):
        change_spacing(run / "dataset" / f"{index}_t0.nii.gz", 2.8)
    assert "3 of 3 cases were generated from other crops" in refusal(lambda: record(run))
    for path in (run / "predictions").glob(f"*/{FILE}"):
        path.unlink()
    assert "pixels of patient-9_n1 are 0.6 x 0.7 mm, but 1.68 x 1.96 mm in the" in refusal(lambda: record(run))


def test_other_weights_are_refused_for_the_method_itself_alone(run: Path) -> None:
    """Compared methods have weights of their own."""
    path = run / "models" / "autoencoder.safetensors"
    autoencoder = load_network(path)
    save_network(autoencoder, path)
    record(run)
    autoencoder.latent_scale.mul_(0.5)
    save_network(autoencoder, path)
    message = refusal(lambda: record(run))
    assert f"{run / 'predictions'}: generated by other weights than those in {run / 'models'} (autoencoder)" in message
    mine = run / "mine"
    shutil.copytree(run / "predictions", mine)
    for path in mine.glob(f"*/{FILE}"):
        made = json.loads(path.read_text())
        path.write_text(
            json.dumps(
                made
                | {
                    "weights": made["weights"]
                    | {"autoencoder": digest_weights(run / "models" / "autoencoder.safetensors")}
                }
            )
        )
    evaluation_record(run / "dataset", "test", run / "models", mine, {"other": run / "predictions"})


def test_tables_of_another_dataset_are_refused(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, rows = run / "alone.csv", ([f"patient-{index}_n1" for index in (9, 10, 11)], [0.5, 0.6, 0.7])
    judged = partial(evaluation_record, run / "dataset", "test", run / "models", run / "predictions")
    write_table(path, 0, *rows, {"dataset": digest_dataset(run / "dataset")})
    assert judged(tables={"record": path})["tables"] == {"record": table_record(path)}
    assert "does not say" not in caplog.text
    change_datalist(run, lambda case: case.update(malignant=1 - case["malignant"]))
    assert refusal(lambda: judged(tables={"record": path})).startswith(f"{path}: not made from these: dataset was ")
    path.with_suffix(".json").unlink()
    assert judged(tables={"record": path})["tables"] == {"record": {}}
    assert "does not say which dataset it was made from" in caplog.text


def test_predictions_that_do_not_say_are_judged_with_a_warning(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    for path in (run / "predictions").glob(f"*/{FILE}"):
        path.unlink()
    assert record(run)["predictions"] == {"NAMD": {}}
    assert "its predictions do not say which weights made them" in caplog.text
    (run / "predictions" / "patient-9_n1" / "samples.nii.gz").write_bytes(b"cut off")
    assert "samples.nii.gz cannot be read" in refusal(lambda: record(run))


def test_the_refusal_comes_before_any_work(
    run: Path, make_workflow: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    change_datalist(run, lambda case: case["ehr"].update(age=77))
    evaluation = make_workflow("evaluate", run, "small", dataset_dir=str(run / "dataset"))
    monkeypatch.setattr("scripts.weights.checkpoints.load_tensors", None)  # no network can be opened
    assert "other crops or records" in refusal(evaluation.run)
    assert not (run / "evaluation").exists()


@pytest.mark.parametrize("section", ["predict", "unpaired"])
def test_a_section_without_follow_ups_is_refused_before_anything_is_read(
    tiny_dataset: Path, tmp_path: Path, section: str
) -> None:
    with pytest.raises(DatalistError, match=f"{section} has no follow-ups"):
        evaluation_record(tiny_dataset, section, tmp_path / "no models", tmp_path / "no predictions")


def test_a_table_that_lacks_a_case_is_refused_before_any_work(run: Path) -> None:
    write_table(run / "table.csv", 0, ["patient-9_n1", "patient-10_n1"], [0.5, 0.6])
    judged = partial(evaluation_record, run / "dataset", "test", run / "models", run / "predictions")
    assert "no probability for 1 of 3 cases: patient-11_n1" in refusal(
        lambda: judged(tables={"short": run / "table.csv"})
    )


def test_cases_that_trained_the_weights_are_counted(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A crop of the training section under another name."""
    assert record(run)["training_cases"] == {"n_cases": 3, "n_trained": 0, "unknown": []}
    assert "trained these weights" not in caplog.text
    shutil.copy(run / "dataset" / "2_t1.nii.gz", run / "dataset" / "10_t1.nii.gz")
    assert record(run)["training_cases"]["n_trained"] == 1
    assert "1 of 3 cases trained these weights: what is said of them is no evaluation" in caplog.text
    assert "does not say which cases trained" not in caplog.text
    shutil.rmtree(run / "models" / "training_cases")
    assert record(run)["training_cases"]["n_trained"] == 0
    assert "does not say which cases trained autoencoder, unet_conditional, classifier" in caplog.text


def test_predictions_of_validation_are_used_where_they_are_alike(run: Path) -> None:
    """Else the record says why thresholds are not fixed on them."""

    def said() -> str:
        return record(run)["validation_predictions"]["NAMD"]

    assert said().startswith("there are no predictions of the validation section")
    own = pairs(run / "dataset", "test")[0]
    both = (pairs(run / "dataset", "validation", interval) for interval in (True, False))
    for items in zip(*both, strict=True):
        case = run / "predictions" / items[0]["case_id"]
        shutil.copytree(run / "predictions" / "patient-9_n1", case)
        made = json.loads((case / FILE).read_text())
        interval = made["case_sha256"] == digest_case(own["baseline"], own["report"])
        made["case_sha256"] = digest_case(items[0]["baseline"], items[0 if interval else 1]["report"])
        (case / FILE).write_text(json.dumps(made))
    assert said() == USED
    for path in (run / "predictions").glob(f"patient-[678]_n1/{FILE}"):
        made = json.loads(path.read_text())
        path.write_text(json.dumps(made | {"guidance_scale": 3.5}))
    assert "made otherwise than these" in said()
    shutil.copy(run / "dataset" / "8_t0.nii.gz", run / "dataset" / "7_t0.nii.gz")
    assert "of other crops or records" in said()
    change = json.loads((run / "dataset" / "datalist.json").read_text()) | {"validation": []}
    (run / "dataset" / "datalist.json").write_text(json.dumps(change))
    assert said() == "the dataset has no validation section"
