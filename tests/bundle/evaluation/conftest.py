"""What the tests of the evaluation share."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from scripts.networks.perceptual import PerceptualDistance
from tests.bundle.evaluation.studies import make_study, run


@pytest.fixture
def study() -> dict[str, Any]:
    """Arguments of `tests.bundle.evaluation.studies.run`."""
    return make_study()


@pytest.fixture(scope="session")
def distance():
    """The perceptual distance without a download."""
    with nothing_downloaded():
        return PerceptualDistance("alex")


@pytest.fixture(autouse=True)
def no_download():
    """No test finds weights that this machine may have downloaded."""
    with nothing_downloaded():
        yield


@contextmanager
def nothing_downloaded():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.hub, "get_dir", lambda: "no-such-folder")
        yield


@pytest.fixture(scope="session")
def outcome(tmp_path_factory, distance, laid_out):
    """The study, what `evaluate` returned, and where it wrote, with figures as people see them."""
    study, folder = make_study(), tmp_path_factory.mktemp("evaluation")
    study["reconstruction"] = study["follow_up"]
    study["predicted"] = {"direct <u>classifier</u>": np.tile(np.linspace(0, 1, 12), (2, 1))}
    study["encoders"] = {
        title: lambda x, start=start: torch.cat([x[:, :, start::8, start::8], -x[:, :, :8, :8]], dim=1)
        for title, start in (("aligned", 0), ("not aligned", 4))
    }
    study["training"] = (study["follow_up"], study["cases"])
    with nothing_downloaded(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("matplotlib.layout_engine.ConstrainedLayoutEngine.execute", laid_out)
        return study, run(study, folder, drawn=True, perceptual=distance), folder
