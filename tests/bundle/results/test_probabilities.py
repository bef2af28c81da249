"""Probabilities of each method: those of the networks opened by hand, and reasons where there is none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.comparators.contract import Condition
from scripts.comparators.direct import DirectClassifier
from scripts.comparators.record import RecordOnly
from scripts.comparators.regression import RecordRegression
from scripts.data.transforms import baseline_crops
from scripts.diffusion.noise import CaseNoise
from scripts.ehr import brock
from scripts.results.probabilities import Readers
from scripts.weights.checkpoints import load_network
from tests.bundle.results.conftest import SIZE

WHOLE = {"age": 60, "gender": 1, "diagemph": 0, "sct_long_dia": 8, "sct_pre_att": 1, "sct_epi_loc": 3}
WHOLE |= {"sct_margins": 1, "fammother": 1}


def test_each_method_reads_what_it_reads_elsewhere(cohort: Path, published: Path) -> None:
    cases = json.loads((cohort / "datalist.json").read_text())["validation"][:4]
    ehrs = [case["ehr"] for case in cases[:3]] + [WHOLE]
    baselines = baseline_crops(cohort, "validation", SIZE)[:4]
    samples = np.stack([baselines, baselines[::-1]])
    found = Readers(published, SIZE).probabilities(samples, baselines, ehrs)
    crops, conditions = torch.from_numpy(baselines), [Condition(ehr) for ehr in ehrs]
    judge = load_network(published / "classifier.safetensors")
    with torch.no_grad():
        judged = torch.sigmoid(judge(crops)).flatten().double().numpy()
        draw = CaseNoise(crops, 0)
        direct = DirectClassifier.load(published / "direct_classifier.safetensors").probability(crops, conditions, draw)
        record = RecordOnly(RecordRegression.read(published / "record_only.json")).probability(crops, conditions, draw)
    for index, case in enumerate(found):
        assert case["baseline"] == {"uncalibrated": pytest.approx(judged[index], abs=1e-6)}
        runs = judged[[index, 3 - index]]
        assert case["generated"]["uncalibrated"] == pytest.approx(runs.mean(), abs=1e-6)
        assert case["generated"]["runs"]["sd"] == pytest.approx(runs.std(ddof=1), abs=1e-6)
        assert case["direct_classifier"]["uncalibrated"] == pytest.approx(direct[index].item(), abs=1e-6)
        assert case["record_only"]["uncalibrated"] == pytest.approx(record[index].item(), abs=1e-12)
    lacks = "lacks the number of nodules, which is no feature of the record"
    assert found[3]["brock"] == {"not_computable": lacks, "at_most": brock.at_most(WHOLE)}
    assert found[0]["brock"]["not_computable"].endswith("location in the lung, lung cancer in the family")
    assert "at_most" not in found[0]["brock"]


def test_without_a_record_it_says_nothing(published: Path) -> None:
    crop = np.zeros((1, 1, SIZE, SIZE), np.float32)
    (case,) = Readers(published, SIZE).probabilities(crop[None], crop, [{}])
    nothing = {"not_computable": "nothing of the record is known"}
    assert case["record_only"] == case["direct_classifier"] == nothing and "uncalibrated" in case["baseline"]
    assert case["generated"]["runs"]["sd"] is None, "of one run"


def test_what_is_not_there_is_named(published: Path, tmp_path: Path) -> None:
    for name in ("classifier.safetensors", "direct_classifier.safetensors"):
        shutil.copy(published / name, tmp_path)
    crop = np.zeros((1, 1, 16, 16), np.float32)
    readers = Readers(tmp_path, 16)
    (case,) = readers.probabilities(crop[None], crop, [WHOLE])
    assert case["record_only"] == {"not_computable": "no record_only.json beside the weights"}
    for name in ("generated", "baseline"):
        assert case[name] == {"not_computable": "classifier.safetensors is for crops of 32 px, these have 16"}
    assert readers.lacking.keys() == {"record_only", "classifier", "direct_classifier"}
