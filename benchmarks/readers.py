"""Two classifiers of malignancy, for `recipes.py` and `limits.py`: the judge, and a linear probe of the latents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

import data_prep  # noqa: F401 (puts the bundle on the path)
from scripts.data.datalist import pairs
from scripts.data.transforms import preprocessing
from scripts.weights.checkpoints import load_network

IMAGE_SIZE = 64
TIMES = ("baseline", "follow_up")


def crops(dataset: Path, section: str) -> dict[str, Tensor]:
    """The real crops of a section by time, (cases, 1, 64, 64) in [-1, 1]."""
    load = preprocessing(TIMES, IMAGE_SIZE)
    cases = [load(item) for item in pairs(dataset, section)]
    return {time: torch.stack([case[time].as_tensor() for case in cases]) for time in TIMES}


def outcomes(dataset: Path, section: str) -> np.ndarray:
    """Outcomes (cases,), 1 malignant, 0 benign; in LIDC-progression all are known."""
    return np.array([item["malignant"] for item in pairs(dataset, section)])


class Readers:
    """The judge of ``models``, and logistic regression on its autoencoder's latents of the training crops."""

    def __init__(self, dataset: Path, models: Path) -> None:
        self.autoencoder: Any = load_network(models / "autoencoder.safetensors", "LatentAutoencoder")
        self.judge: Any = load_network(models / "classifier.safetensors", "NoduleClassifier")
        seen = np.concatenate([self._latents(each) for each in crops(dataset, "training").values()])
        self.probe = LogisticRegression(C=0.01, max_iter=3000).fit(seen, np.tile(outcomes(dataset, "training"), 2))

    @torch.no_grad()
    def read(self, images: Tensor) -> np.ndarray:
        """Probabilities (2, cases) by judge and probe of images (cases, runs, H, W), averaged over runs."""
        flat = images.flatten(0, 1)[:, None]
        judged = torch.cat([torch.sigmoid(self.judge(part)).flatten() for part in flat.split(256)]).numpy()
        both = np.stack([judged, self.probe.predict_proba(self._latents(flat))[:, 1]])
        return both.reshape(2, len(images), -1).mean(axis=2)

    @torch.no_grad()
    def _latents(self, images: Tensor) -> np.ndarray:
        parts = [self.autoencoder.encode_stage_2_inputs(part).flatten(1) for part in images.split(256)]
        return torch.cat(parts).numpy()
