"""The crops that are gathered: where they are padded, and what is done once all are there."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import pytest
from ignite.engine import Engine
from monai.data import DataLoader, Dataset

from scripts.data.datalist import pairs
from scripts.data.transforms import preprocessing
from scripts.evaluation.real_crops import RealCrops
from scripts.evaluation.study import Study


class Kept(RealCrops):
    """Keeps the study."""

    def judge(self, engine: Engine) -> None:
        self.kept = self.study()


@pytest.fixture
def kept(tiny_dataset: Path) -> Study:
    """Of three follow-ups that are padded below the middle and later."""
    items = pairs(tiny_dataset, "test")
    for number, item in enumerate(items):
        rows, columns, _ = nib.load(item["follow_up"]).shape
        item |= {"baseline_unpadded": None, "follow_up_unpadded": [0, rows // 2 + number, 0, columns]}
    crops = Kept(json.loads((tiny_dataset / "datalist.json").read_text()), "test")
    engine = Engine(lambda engine, batch: None)
    crops.attach(engine)
    engine.run(DataLoader(Dataset(items, preprocessing(["baseline", "follow_up"], 32)), batch_size=2))
    return crops.kept


def test_what_of_the_follow_ups_is_padded_is_known(kept: Study) -> None:
    unpadded = kept.unpadded
    assert unpadded is not None and unpadded.dtype == bool and unpadded.shape == (3, 1, 32, 32)
    assert unpadded[:, 0, :, 0].sum(axis=1).tolist() == [16, 17, 18] and (unpadded == unpadded[..., :1]).all()


def test_the_cases_are_the_sections(kept: Study, tiny_dataset: Path) -> None:
    assert kept.cases.ids == [item["case_id"] for item in pairs(tiny_dataset, "test")]
    assert kept.training is None, "which was not opened"
