"""Applying a compared method to the held-out sections of a dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from scripts.comparators.contract import Condition, ProbabilityMethod
from scripts.comparators.tables import HELD_OUT, write_table
from scripts.data.datalist import cases_of
from scripts.data.digest import digest_dataset
from scripts.data.transforms import baseline_crops
from scripts.diffusion.noise import CaseNoise
from scripts.fingerprint import code_version


def write_probabilities(
    method: ProbabilityMethod,
    dataset_dir: str | Path,
    table: str | Path,
    run: int = 0,
    image_size: int = 64,
    batch_size: int = 64,
    device: str | torch.device = "cpu",
) -> None:
    """Writes a method's probabilities of all cases of validation and test into ``table``, as one run of it.

    Crops are read only if the method reads images.

    Args:
        run: number of the run in the table, and seed of a stochastic method's noise.
        image_size: side of the crops in pixels.
        batch_size: cases at once.
    """
    cases = cases_of(dataset_dir, HELD_OUT)
    images = np.empty((len(cases), 1, 0, 0), dtype=np.float32)
    if "image" in method.reads:
        images = np.concatenate([baseline_crops(dataset_dir, section, image_size) for section in HELD_OUT])
    probabilities: list[float] = []
    for start in range(0, len(cases), batch_size):
        baseline = torch.from_numpy(images[start : start + batch_size]).to(device)
        condition = [Condition.of(case) for case in cases[start : start + batch_size]]
        probabilities += method.probability(baseline, condition, CaseNoise(baseline, seed=run)).tolist()
    record = {"dataset": digest_dataset(dataset_dir), "method": type(method).__name__, **code_version()}
    write_table(table, run, [case["case_id"] for case in cases], probabilities, record)
