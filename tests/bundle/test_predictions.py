"""Predictions on disk: what is written where in the patient, what is done again, and what is read back."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from PIL import Image
from safetensors.torch import load_file, save_file

from scripts import predictions
from scripts.data.transforms import preprocessing, to_hu
from scripts.ehr.report import radiology_report
from scripts.predictions import (
    MARK,
    PredictionError,
    PredictionSaver,
    case_provenance,
    crop_affine,
    end_if_done,
    pending,
    provenance,
    read_predictions,
    share,
)
from tests.bundle.training.helpers import forked, torchrun


def write(folder: Path, case_id: str, hu: np.ndarray) -> None:
    (folder / case_id).mkdir()
    nib.save(nib.Nifti1Image(hu, np.diag([-0.5, -0.5, 1, 1])), folder / case_id / "samples.nii.gz")


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_values_order_and_window(tmp_path, dtype):
    hu = {name: np.zeros((64, 64, 1, 3), dtype) for name in ("a", "b")}
    hu["a"][5, 9, 0] = [-1000, 400, -300]
    hu["b"][:] = 3000
    for name, values in hu.items():
        write(tmp_path, name, values)
    images = read_predictions(tmp_path, ["b", "a"])
    assert images.shape == (3, 2, 1, 64, 64) and images.dtype == np.float32
    np.testing.assert_allclose(images[:, 1, 0, 5, 9], [-1, 1, 0], atol=1e-6)
    assert (images[:, 0] == 1).all()


@pytest.mark.parametrize("shape", [(64, 64, 1), (64, 64, 1, 1)])
def test_a_single_run(tmp_path, shape):
    write(tmp_path, "a", np.zeros(shape, np.int16))
    assert read_predictions(tmp_path, ["a"]).shape == (1, 1, 1, 64, 64)


def test_missing_cases_are_named(tmp_path):
    write(tmp_path, "a", np.zeros((8, 8, 1, 2), np.int16))
    with pytest.raises(PredictionError, match=r"for 7 of 8 cases: b0, b1, b2, b3, b4 and 2 more.*Run inference"):
        read_predictions(tmp_path, ["a", *(f"b{index}" for index in range(7))])
    with pytest.raises(PredictionError, match="no case ids"):
        read_predictions(tmp_path, [])


def test_runs_must_agree(tmp_path):
    write(tmp_path, "a", np.zeros((8, 8, 1, 2), np.int16))
    write(tmp_path, "b", np.zeros((8, 8, 1, 3), np.int16))
    with pytest.raises(PredictionError, match=r"a has \(2, 8, 8\), but not b \(3, 8, 8\)"):
        read_predictions(tmp_path, ["a", "b"])


def test_damaged_files_are_named(tmp_path):
    write(tmp_path, "a", np.zeros((8, 8, 2, 2), np.int16))
    with pytest.raises(PredictionError, match=r"a/samples.nii.gz has shape \(8, 8, 2, 2\); expected"):
        read_predictions(tmp_path, ["a"])
    write(tmp_path, "b", np.full((8, 8, 1, 2), np.nan, np.float32))
    with pytest.raises(PredictionError, match="not finite"):
        read_predictions(tmp_path, ["b"])
    whole = (tmp_path / "b" / "samples.nii.gz").read_bytes()
    for name, content in (("c", b"not NIfTI"), ("d", whole[: len(whole) // 2])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "samples.nii.gz").write_bytes(content)
        with pytest.raises(PredictionError, match="cannot be read"):
            read_predictions(tmp_path, [name])


# --- where a crop lies in the patient

OBLIQUE = np.array([[-0.6, 0.05, 0.1, 12.0], [0.04, -0.7, 0.0, -7.0], [0.02, 0.03, 1.5, 40.0], [0, 0, 0, 1]])


def baseline_of(folder: Path, shape: tuple[int, int], size: int) -> MetaTensor:
    """The preprocessed crop of an image whose every pixel has its own value, index * 2 - 1000 HU."""
    hu = np.arange(shape[0] * shape[1]).reshape(*shape, 1) * 2 - 1000
    nib.save(nib.Nifti1Image(hu.astype(np.int16), OBLIQUE), folder / "crop.nii.gz")
    return preprocessing(["image"], size)({"image": str(folder / "crop.nii.gz")})["image"]


@pytest.mark.parametrize("shape", [(24, 24), (25, 25), (24, 25), (26, 20)])
@pytest.mark.parametrize("size", [8, 15, 16, 20])
def test_crop_affine_puts_each_pixel_where_it_was(tmp_path: Path, shape: tuple[int, int], size: int) -> None:
    """The pixel itself says which one it is."""
    crop = baseline_of(tmp_path, shape, size)
    affine = crop_affine(crop)
    for pixel in ((0, 0), (crop.shape[1] - 1, crop.shape[2] - 1), (3, 5)):
        index = np.unravel_index(int(round((float(to_hu(crop[0][pixel])) + 1000) / 2)), shape)
        np.testing.assert_allclose(affine @ [*pixel, 0, 1], OBLIQUE @ [*index, 0, 1], atol=1e-6)


# --- writing


@pytest.fixture
def samples() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (3, 16, 16)).astype(np.float32)


def test_written_prediction(tmp_path: Path, samples: np.ndarray) -> None:
    baseline = baseline_of(tmp_path, (24, 26), 16)
    folder = PredictionSaver(tmp_path / "predictions", {"seed": 1}).save("a", baseline, to_hu(samples))
    assert folder == tmp_path / "predictions" / "a"
    hu = samples * 700 - 300
    expected = {
        "samples": np.moveaxis(hu, 0, -1)[:, :, None],
        "mean": hu.mean(axis=0)[..., None],
        "std": hu.std(axis=0)[..., None],
    }
    for name, values in expected.items():
        image = nib.load(folder / f"{name}.nii.gz")
        np.testing.assert_allclose(image.get_fdata(), values, atol=0.501)
        assert image.get_data_dtype() == np.int16 and image.header.get_xyzt_units()[0] == "mm"
        assert image.header["descrip"].item().decode() == MARK and MARK.startswith("SYNTHETIC")
        np.testing.assert_allclose(image.affine @ [0, 0, 0, 1], OBLIQUE @ [4, 5, 0, 1], atol=1e-5)
        np.testing.assert_allclose(image.affine[:3, :3], OBLIQUE[:3, :3], atol=1e-6)
    with Image.open(folder / "panel.png") as picture:
        assert picture.info["Comment"] == MARK
    assert {path.name for path in folder.parent.iterdir()} == {"a"}, "nothing temporary stays"
    np.testing.assert_allclose(read_predictions(folder.parent, ["a"])[:, 0, 0], samples, atol=0.501 / 700)


def test_the_picture_shows_the_interval_and_nothing_else_of_the_record(
    tmp_path: Path, samples: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    draw = predictions.panel

    def spy(*arguments: Any) -> Any:
        figure = draw(*arguments)
        drawn.append(figure.get_supxlabel() + figure.get_suptitle())
        return figure

    monkeypatch.setattr(predictions, "panel", spy)
    report = radiology_report({"age": 66, "gender": 2, "famfather": 1}, 365)
    baseline = baseline_of(tmp_path, (24, 24), 16)
    PredictionSaver(tmp_path / "predictions", {}).save("a", baseline, to_hu(samples), report=report)
    assert "Follow-up after 12 months." in drawn[0] and not any(word in drawn[0] for word in ("66", "woman", "father"))


def test_a_prediction_is_replaced_whole_or_not_at_all(
    tmp_path: Path, samples: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline = baseline_of(tmp_path, (24, 24), 16)
    saver = PredictionSaver(tmp_path / "predictions", {})
    folder = saver.save("a", baseline, to_hu(samples))
    (folder / "old").touch()
    before = (folder / "samples.nii.gz").read_bytes()

    def no_picture(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(predictions, "panel", no_picture)
        saver.save("a", baseline, to_hu(-samples))
    assert (folder / "samples.nii.gz").read_bytes() == before
    saver.save("a", baseline, to_hu(-samples))
    np.testing.assert_allclose(read_predictions(folder.parent, ["a"])[:, 0, 0], -samples, atol=0.501 / 700)
    assert not (folder / "old").exists() and [path.name for path in folder.parent.iterdir()] == ["a"]


def test_a_batch_is_written_case_by_case(tmp_path: Path, tiny_dataset: Path) -> None:
    """Each case gets its own samples, its own place, and a record of what it was made from."""
    from ignite.engine import Engine

    items = [
        {"case_id": f"case-{index}", "image": str(tiny_dataset / f"{index}_t0.nii.gz"), "report": f"report {index}"}
        for index in range(3)
    ]
    loader = DataLoader(Dataset(items, preprocessing(["image"], 16)), batch_size=2)
    engine = Engine(lambda engine, batch: {"pred": to_hu(batch["image"].as_tensor().repeat(1, 2, 1, 1) * 0.5)})
    made_by = {"models_sha256": "0", "seed": 1}
    PredictionSaver(tmp_path, made_by).attach(engine)
    assert pending(items, tmp_path, made_by) == items
    engine.run(loader)
    assert pending(items, tmp_path, made_by) == []
    for item in items:
        crop = preprocessing(["image"], 16)(item)["image"]
        written = read_predictions(tmp_path, [item["case_id"]])
        np.testing.assert_allclose(written[:, 0, 0], 0.5 * np.stack([crop[0]] * 2), atol=0.501 / 700)


# --- what is done again


PARTS = ("autoencoder", "unet_conditional", "conditioner/set_0/adapter_model")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    (folder / "conditioner" / "set_0").mkdir(parents=True)
    for number, name in enumerate(PARTS):
        save_file({"weight": torch.tensor([number])}, folder / f"{name}.safetensors")
    return folder


@pytest.mark.parametrize("part", PARTS)
def test_other_weights_have_another_provenance(models: Path, part: str) -> None:
    """Values count, not bytes."""
    before = provenance(models, seed=1)
    path = models / f"{part}.safetensors"
    save_file({"weight": torch.tensor([PARTS.index(part)])}, path, {"written": "again"})
    assert provenance(models, seed=1) == before
    save_file({"weight": torch.tensor([9])}, path)
    assert provenance(models, seed=1) != before


def test_weights_that_do_not_generate_leave_predictions_valid(models: Path) -> None:
    before = provenance(models, seed=1, num_runs=3)
    assert before["seed"] == 1 and before["num_runs"] == 3
    (models / "classifier.safetensors").write_text("trained after inference")
    (models / "unet_unconditional.safetensors").write_text("not used any more")
    assert provenance(models, seed=1, num_runs=3) == before
    assert provenance(models, seed=2, num_runs=3) != before


def test_the_language_models_weights_count_and_not_its_place(models: Path, tiny_llm: Path, tmp_path: Path) -> None:
    def made(llm: Path, **arguments: Any) -> dict[str, Any]:
        return provenance(models, conditioner_arguments={"llm": str(llm), **arguments})

    copy = Path(shutil.copytree(tiny_llm, tmp_path / "elsewhere" / tiny_llm.name))
    assert made(copy) == made(tiny_llm) != made(tiny_llm, dtype="bfloat16")
    weights = load_file(copy / "model.safetensors")
    save_file({name: 2 * each for name, each in weights.items()}, copy / "model.safetensors", {"format": "pt"})
    assert made(copy) != made(tiny_llm)


def test_another_version_of_the_code_makes_nothing_again(tmp_path: Path, samples: np.ndarray) -> None:
    made_by = {"weights": {}, "version": "0.7.0", "commit": "a"}
    item = {"case_id": "crop", "image": str(tmp_path / "crop.nii.gz"), "report": "age 60"}
    baseline = baseline_of(tmp_path, (24, 24), 16)
    saver = PredictionSaver(tmp_path / "predictions", made_by)
    saver.save("crop", baseline, to_hu(samples), case_provenance(made_by, item["image"], item["report"]))
    assert pending([item], tmp_path / "predictions", {"weights": {}, "version": "0.8.0", "commit": "b"}) == []


@pytest.mark.parametrize("rest", [[], [1]])
def test_inference_ends_where_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, rest: list[int]
) -> None:
    ended: list[bool] = []
    monkeypatch.setattr(predictions, "end_here", lambda: ended.append(True))
    with caplog.at_level("INFO"):
        end_if_done(tmp_path, [{"case_id": "a"}], rest)
    assert bool(ended) == (not rest) == ("0 generated, 1 already there" in caplog.text)


@pytest.mark.parametrize("change", ["crop", "report", "settings", "nothing"])
def test_a_case_is_done_again_where_what_it_was_made_from_changed(
    tmp_path: Path, samples: np.ndarray, change: str
) -> None:
    """Above all: another patient's crop that bears the same name never gets this patient's prediction."""
    made_by: dict[str, Any] = {"models_sha256": "0", "guidance_scale": 1.0}
    item = {"case_id": "crop", "image": str(tmp_path / "crop.nii.gz"), "report": "age 60"}
    baseline = baseline_of(tmp_path, (24, 24), 16)
    saver = PredictionSaver(tmp_path / "predictions", made_by)
    saver.save("crop", baseline, to_hu(samples), case_provenance(made_by, item["image"], item["report"]))
    if change == "crop":
        (tmp_path / "elsewhere").mkdir()
        baseline_of(tmp_path / "elsewhere", (24, 25), 16)
        item["image"] = str(tmp_path / "elsewhere" / "crop.nii.gz")
    elif change == "report":
        item["report"] = "age 61"
    elif change == "settings":
        made_by["guidance_scale"] = 2.0
    assert pending([item], tmp_path / "predictions", made_by) == ([] if change == "nothing" else [item])


# --- several processes


def test_processes_share_the_pending_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [{"case_id": str(number)} for number in range(7)]
    assert share(items) == items
    monkeypatch.setattr("ignite.distributed.get_world_size", lambda: 3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr("ignite.distributed.get_rank", lambda rank=rank: rank)
        shares.append(share(items))
    assert [len(each) for each in shares] == [3, 2, 2]
    assert sorted(item["case_id"] for each in shares for item in each) == [item["case_id"] for item in items]


@pytest.mark.processes
def test_two_processes_generate_what_one_does(
    trained: Path, tiny_dataset: Path, tiny_settings: dict[str, Any], make_workflow: Callable[..., Any], tmp_path: Path
) -> None:
    """To the rounding of HU, and once; what one lost, the next call makes again, and nothing else."""
    settings = {name: tiny_settings[name] for name in ("conditioner_arguments", "num_runs", "num_steps", "batch_size")}
    settings |= {"dataset_dir": tiny_dataset, "models_dir": trained / "models", "section": "training"}
    make_workflow("inference", tmp_path / "1", "small", **settings).run()
    torchrun("inference", tmp_path, 2, **settings, output_dir=tmp_path / "2")
    one, two = (tmp_path / number / "predictions" for number in "12")
    names = sorted(str(path.relative_to(one)) for path in one.rglob("*") if path.is_file())
    assert names == sorted(str(path.relative_to(two)) for path in two.rglob("*") if path.is_file())
    assert len([name for name in names if name.endswith("samples.nii.gz")]) > 2
    samples = {name: nib.load(one / name).get_fdata() for name in names if name.endswith("samples.nii.gz")}  # type: ignore[attr-defined]
    for name, expected in samples.items():
        np.testing.assert_allclose(nib.load(two / name).get_fdata(), expected, atol=1)  # type: ignore[attr-defined]
    first = Path(next(iter(samples))).parent
    shutil.rmtree(two / first)
    before = {name: (two / name).stat().st_mtime_ns for name in samples if Path(name).parent != first}
    forked(2, lambda: make_workflow("inference", tmp_path / "2", "small", "multi_gpu", **settings).run())
    assert (two / first / "result.json").is_file() and len((two / "results.csv").read_text().splitlines()) > 3
    assert before == {name: (two / name).stat().st_mtime_ns for name in before}
