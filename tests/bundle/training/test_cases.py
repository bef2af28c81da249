"""Weights know which crops trained them: whatever these are called, and no others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from scripts.data.datalist import load_datalist
from scripts.errors import UserError
from scripts.fingerprint import digest_weights
from scripts.training.cases import FOLDER, TRAINED, trained_on, trained_sentence
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


def test_the_weights_of_the_bundle_know_theirs() -> None:
    """The 427 training pairs of LIDC-progression; nothing of a patient stands there but digests."""
    for file in map(Path, TRAINED):
        noted = json.loads((BUNDLE / "models" / FOLDER / f"{file.stem}.json").read_text())
        assert noted["weights"] == digest_weights(BUNDLE / "models" / file)
        assert len(noted["crops"]) == 2 * 427 and noted.keys() == {"weights", "image_size", "crops"}
