"""A section opened from its files is what its files hold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from scripts.data.datalist import DatalistError, pairs
from scripts.data.transforms import preprocessing
from scripts.evaluation.sections import open_section


def test_cases_crops_and_pixels_are_those_of_the_datalist(tiny_dataset: Path) -> None:
    study = open_section(tiny_dataset, "validation", 32)
    items = [preprocessing(["baseline", "follow_up"], 32)(item) for item in pairs(tiny_dataset, "validation")]
    for key in ("baseline", "follow_up"):
        np.testing.assert_array_equal(getattr(study, key), np.stack([np.asarray(item[key]) for item in items]))
        np.testing.assert_allclose(study.spacing[key], [[0.6, 0.7]] * 3, rtol=1e-6)  # type: ignore[index]
    assert study.cases.ids == [item["case_id"] for item in items]


def test_an_empty_section_is_refused(tiny_dataset: Path, tmp_path: Path) -> None:
    datalist = json.loads((tiny_dataset / "datalist.json").read_text())
    (tmp_path / "datalist.json").write_text(json.dumps({**datalist, "training": []}))
    with pytest.raises(DatalistError, match="training section is empty"):
        open_section(tmp_path, "training", 32)
