"""Weights know which crops trained them: whatever these are called, and no others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from scripts.data.datalist import load_datalist
from scripts.errors import UserError
from scripts.fingerprint import digest_weights
from scripts.training.cases import FOLDER, TRAINED, trained_on, trained_sentence, write_training_cases
from tests.bundle.helpers import BUNDLE

STAGES = ("autoencoder", "unet_unconditional", "unet_conditional", "classifier")


@pytest.fixture
def models(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained / "models", tmp_path / "models"))


def test_training_notes_its_crops_and_nothing_else(trained: Path, tiny_dataset: Path) -> None:
    """Of every stage; twelve crops of six pairs, and the unpaired one, as digests in order."""
    for stage in STAGES:
        noted = json.loads((trained / "models" / FOLDER / f"{stage}.json").read_text())
        assert noted.keys() == {"weights", "image_size", "crops"} and noted["image_size"] == 32
        assert noted["weights"] == digest_weights(trained / "models" / f"{stage}.safetensors")
        assert len(noted["crops"]) == 13 and noted["crops"] == sorted(noted["crops"])
        assert all(len(digest) == 32 and int(digest, 16) >= 0 for digest in noted["crops"])


def test_training_cases_are_known_and_others_are_not(models: Path, tiny_dataset: Path) -> None:
    datalist = load_datalist(tiny_dataset)
    for section, count in (("training", 6), ("validation", 0), ("test", 0)):
        found = trained_on(tiny_dataset, datalist[section], models)
        assert found == {"n_cases": len(datalist[section]), "n_trained": count, "unknown": []}


def test_a_crop_is_known_under_another_name(models: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    """Also where it is the follow-up of one pair that stands as the baseline of another."""
    shutil.copy(tiny_dataset / "3_t1.nii.gz", tmp_path / "mine.nii.gz")
    shutil.copy(tiny_dataset / "9_t1.nii.gz", tmp_path / "other.nii.gz")
    cases = [{"baseline": "mine.nii.gz", "follow_up": "other.nii.gz"}, {"baseline": "other.nii.gz"}]
    found = trained_on(tmp_path, cases, models)
    assert found["n_trained"] == 1 and trained_sentence(found) == "1 of 2 cases trained these weights"


def test_weights_of_which_nothing_was_noted_are_named(models: Path, tiny_dataset: Path) -> None:
    """Those whose list is gone, and those that are others than the list is of; it is not taken for none."""
    (models / FOLDER / "classifier.json").unlink()
    noted = models / FOLDER / "autoencoder.json"
    noted.write_text(json.dumps(json.loads(noted.read_text()) | {"weights": "0" * 64}))
    found = trained_on(tiny_dataset, load_datalist(tiny_dataset)["training"], models)
    assert found["unknown"] == ["autoencoder", "classifier"] and found["n_trained"] == 6
    noted.write_text("{}")
    with pytest.raises(UserError, match=r"autoencoder.json: expected weights, image_size and crops"):
        trained_on(tiny_dataset, [], models)


@pytest.fixture
def split_anew(tiny_dataset: Path, tmp_path: Path) -> Path:
    """The same cases, of which one of training and one of test have changed places."""
    folder = Path(shutil.copytree(tiny_dataset, tmp_path / "split"))
    datalist = json.loads((folder / "datalist.json").read_text())
    datalist["training"][0], datalist["test"][0] = datalist["test"][0], datalist["training"][0]
    (folder / "datalist.json").write_text(json.dumps(datalist))
    return folder


@pytest.mark.parametrize("stage", ["autoencoder", "classifier"])
def test_cases_of_weights_that_were_gone_on_from_are_known(
    make_workflow: Any, trained: Path, split_anew: Path, tmp_path: Path, stage: str
) -> None:
    settings = {"pretrained": str(trained / "models" / f"{stage}.safetensors"), "dataset_dir": str(split_anew)}
    make_workflow(f"train_{stage}", tmp_path, "small", max_epochs=1, **settings).run()
    found = trained_on(split_anew, load_datalist(split_anew)["test"], tmp_path / "models")
    assert found == {"n_cases": 3, "n_trained": 1, "unknown": []}


@pytest.mark.parametrize("pretrained", [False, True])
def test_cases_of_the_stage_before_are_known(
    make_workflow: Any, models: Path, trained: Path, split_anew: Path, tmp_path: Path, pretrained: bool
) -> None:
    """Of the unconditional U-Net, or of the finished one; the autoencoder's own list is left out of it."""
    (models / FOLDER / "autoencoder.json").unlink()
    settings = {"pretrained": str(trained / "models") if pretrained else None, "dataset_dir": str(split_anew)}
    (models / "classifier.safetensors").unlink()
    make_workflow("train_conditional", tmp_path, "small", max_epochs=1, **settings).run()
    found = trained_on(split_anew, load_datalist(split_anew)["test"], models)
    assert found == {"n_cases": 3, "n_trained": 1, "unknown": ["autoencoder"]}


@pytest.mark.parametrize("lacks", ["the list", "these weights", "this size", "nothing", "what lay under it"])
def test_weights_gone_on_from_of_which_nothing_was_noted_are_named(
    models: Path, tiny_dataset: Path, tmp_path: Path, lacks: str
) -> None:
    """By the digest that they had then, since they may have been replaced meanwhile."""
    source, noted = models / "autoencoder.safetensors", models / FOLDER / "autoencoder.json"
    digest, size = digest_weights(source), 16 if lacks == "this size" else 32
    source.unlink()
    if lacks == "the list":
        noted.unlink()
    if lacks == "what lay under it":
        noted.write_text(json.dumps(json.loads(noted.read_text()) | {"unknown": ["older"]}))
    new = Path(shutil.copy(models / "classifier.safetensors", tmp_path))
    earlier = {"pretrained": (source, "0" * 64 if lacks == "these weights" else digest)}
    write_training_cases(new, tiny_dataset, size, earlier)
    expected = {"nothing": [], "what lay under it": ["older under classifier"]}
    assert trained_on(tiny_dataset, [], tmp_path)["unknown"] == expected.get(lacks, ["pretrained under classifier"])


def test_the_weights_of_the_bundle_know_theirs() -> None:
    """The 507 training pairs of LIDC-progression-real; nothing of a patient stands there but digests."""
    for file in map(Path, TRAINED):
        noted = json.loads((BUNDLE / "models" / FOLDER / f"{file.stem}.json").read_text())
        assert noted["weights"] == digest_weights(BUNDLE / "models" / file)
        assert len(noted["crops"]) == 2 * 507 and noted.keys() == {"weights", "image_size", "crops"}
