"""A method applied to a dataset: every case that is held out, with its own crop, record and noise."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from scripts.comparators.apply import write_probabilities
from scripts.comparators.contract import Condition
from scripts.comparators.tables import read_table, table_record
from scripts.data.digest import digest_dataset
from scripts.data.transforms import baseline_crops
from scripts.diffusion.noise import Draw
from tests.bundle.helpers import refusal


class Method:
    """Whose probability tells what it was given: the crop's mean, the age, or its noise."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.reads = frozenset({"image"} if kind == "image" else {"record"})
        self.stochastic = kind == "noise"
        self.batches: list[int] = []

    def probability(self, baseline: Tensor, condition: Sequence[Condition], draw: Draw) -> Tensor:
        self.batches.append(len(condition))
        if self.kind == "image":
            return (baseline.mean(dim=(1, 2, 3)) + 1) / 2
        if self.kind == "noise":
            return torch.sigmoid(draw((4,)).mean(dim=1))
        return torch.tensor([record["age"] / 100 for record, _ in condition])


IDS = [f"patient-{index}_n1" for index in range(6, 12)]


@pytest.mark.parametrize("kind", ["image", "record"])
def test_each_case_gets_its_own(tiny_dataset: Path, tmp_path: Path, kind: str) -> None:
    method = Method(kind)
    write_probabilities(method, tiny_dataset, tmp_path / "table.csv", run=3, image_size=32, batch_size=4)
    table = pd.read_csv(tmp_path / "table.csv")
    assert table.case_id.tolist() == IDS and set(table.run) == {3} and method.batches == [4, 2]
    expected = [(55 + index) / 100 for index in range(6, 12)]
    if kind == "image":
        images = np.concatenate([baseline_crops(tiny_dataset, section, 32) for section in ("validation", "test")])
        expected = (images.mean(axis=(1, 2, 3)) + 1) / 2
    np.testing.assert_allclose(read_table(tmp_path / "table.csv", IDS)[0], expected, rtol=1e-4)


def test_crops_are_read_only_where_the_method_reads_them(tiny_dataset: Path, tmp_path: Path) -> None:
    for path in tiny_dataset.iterdir():
        (tmp_path / path.name).touch()  # crops that cannot be read
    (tmp_path / "datalist.json").write_text((tiny_dataset / "datalist.json").read_text())
    write_probabilities(Method("record"), tmp_path, tmp_path / "table.csv")
    assert read_table(tmp_path / "table.csv", IDS).shape == (1, 6)
    with pytest.raises(RuntimeError, match="LoadImaged"):
        write_probabilities(Method("image"), tmp_path, tmp_path / "images.csv")
    assert not (tmp_path / "images.csv").exists()


def test_a_table_says_what_it_was_made_from_and_takes_no_runs_of_another_dataset(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    write_probabilities(Method("record"), tiny_dataset, tmp_path / "table.csv")
    assert table_record(tmp_path / "table.csv").items() >= {"dataset": digest_dataset(tiny_dataset)}.items()
    other = shutil.copytree(tiny_dataset, tmp_path / "other")
    shutil.copy(other / "9_t0.nii.gz", other / "10_t0.nii.gz")
    before = (tmp_path / "table.csv").read_bytes()
    said = refusal(lambda: write_probabilities(Method("record"), other, tmp_path / "table.csv", run=1))
    assert re.search("table.csv: not made from these: dataset was [0-9a-f]{12}, is [0-9a-f]{12}. Remove the", said)
    assert (tmp_path / "table.csv").read_bytes() == before


def test_runs_draw_their_own_noise(tiny_dataset: Path, tmp_path: Path) -> None:
    for run in (0, 1, 0):
        write_probabilities(Method("noise"), tiny_dataset, tmp_path / "table.csv", run=run)
    first, second = read_table(tmp_path / "table.csv", IDS)
    assert not np.isclose(first, second).any()
