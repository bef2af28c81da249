"""Methods beside the weights are opened and applied as their classes do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.comparators.direct import DirectClassifier
from scripts.comparators.published import probabilities, published
from scripts.comparators.regression import RecordRegression
from scripts.ehr.encoding import records
from scripts.errors import UserError
from scripts.networks.classifiers import ResNetClassifier

COLUMN = {"feature": "sct_long_dia", "median": 2.0, "logarithm": True, "mean": 2.0, "scale": 0.5, "coefficient": 1.5}
CASES = [{"ehr": {"sct_long_dia": size}} for size in (5, 9, 20)]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    regression = RecordRegression([COLUMN], -1.0)
    regression.write(tmp_path / "record_only.json")
    direct = DirectClassifier(ResNetClassifier(32, (4, 4, 8, 8)), regression)
    torch.nn.init.normal_(direct.head.weight)
    direct.save(tmp_path / "direct_classifier.safetensors")
    return tmp_path


def test_they_say_what_their_classes_say(models: Path) -> None:
    crops = np.random.default_rng(0).uniform(-1, 1, (3, 1, 32, 32))
    methods = published(models)
    assert list(methods) == ["record alone", "direct classifier"]
    known = records(CASES)
    alone = probabilities(methods["record alone"], crops, CASES)
    np.testing.assert_allclose(alone, RecordRegression([COLUMN], -1.0).probability(known)[None])
    direct = DirectClassifier.load(models / "direct_classifier.safetensors")
    with torch.no_grad():
        numbers = torch.from_numpy(direct.regression.numbers(known)).float()
        expected = torch.sigmoid(direct(torch.from_numpy(crops).float(), numbers)).flatten().numpy()
    found = probabilities(methods["direct classifier"], crops, CASES)
    assert found.shape == (1, 3) and not np.allclose(found, alone)
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)


def test_what_is_not_there_is_not_taken_and_what_is_damaged_is_refused(models: Path) -> None:
    (models / "direct_classifier.safetensors").unlink()
    assert list(published(models)) == ["record alone"]
    (models / "record_only.json").write_text("{}")
    with pytest.raises(UserError, match=r"record_only.json: no regression on the record"):
        published(models)
