"""The direct classifier, which predicts the outcome from baseline crop and record, without generating a follow-up."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from torch import Tensor, nn

from scripts import networks
from scripts.comparators.apply import write_probabilities
from scripts.comparators.contract import Condition
from scripts.comparators.regression import RecordRegression
from scripts.data.datalist import cases_of, outcome
from scripts.diffusion.noise import Draw
from scripts.ehr.encoding import records
from scripts.files import write_tensors
from scripts.networks.classifiers import NoduleClassifier
from scripts.training.batches import prepare_crop_batch
from scripts.training.checkpointing import Checkpoint
from scripts.weights.checkpoints import FORMAT_VERSION, CheckpointError, load_tensors, read_metadata

logger = logging.getLogger(__name__)


class DirectClassifier(nn.Module):
    """A classifier of the baseline crop whose last linear layer also takes the record.

    That layer starts as the logistic regression on the record, so that training only has to add what the crop tells.
    From a random start the network memorises the training crops before it learns to use the record.

    It is a :class:`~scripts.comparators.contract.ProbabilityMethod`.

    Args:
        classifier: gives the crop's features; its last layer is replaced.
        regression: on the training section's records.
    """

    reads = frozenset({"image", "record"})
    stochastic = False

    def __init__(self, classifier: NoduleClassifier, regression: RecordRegression) -> None:
        super().__init__()
        self.regression = regression
        width = classifier.width
        self.reader = classifier
        self.reader.head = nn.Identity()  # unused, so it would never get gradients
        self.head = nn.Linear(width + len(regression.columns), 1)
        with torch.no_grad():
            self.head.weight[:, :width] = 0.0
            self.head.weight[:, width:] = torch.from_numpy(regression.coefficients)
            self.head.bias[:] = regression.intercept

    def forward(self, crops: Tensor, record: Tensor) -> Tensor:
        """Logits (B, 1) of malignancy for baseline crops (B, 1, H, W) in [-1, 1] and records as numbers (B, F)."""
        return self.head(torch.cat([self.reader(crops), record], dim=1))

    @torch.no_grad()
    def probability(self, baseline: Tensor, condition: Sequence[Condition], draw: Draw) -> Tensor:
        """Probabilities of malignancy (B,), see :class:`~scripts.comparators.contract.ProbabilityMethod`."""
        known = self.regression.numbers(records([{"ehr": each.record} for each in condition]))
        return self(baseline, torch.from_numpy(known).to(baseline)).sigmoid().flatten()

    def save(self, path: str | Path, extra: Mapping[str, Any] | None = None) -> None:
        """Writes the weights as safetensors; the metadata have the reader's arguments and the columns of the record.

        Args:
            extra: JSON-serialisable facts that are stored with the weights.
        """
        regression = {"columns": list(self.regression.columns), "intercept": self.regression.intercept}
        metadata = {
            **{"format": "pt", "namd_format": FORMAT_VERSION, "network": type(self.reader).__name__},
            "config": json.dumps(self.reader.config),
            "extra": json.dumps({**(extra or {}), "regression": regression}),
        }
        write_tensors(path, self.state_dict(), metadata)

    @classmethod
    def load(cls, path: str | Path) -> DirectClassifier:
        """The classifier that :meth:`save` wrote, on the CPU, in evaluation mode.

        Raises:
            CheckpointError: the file is absent, damaged, or of another network.
        """
        metadata = read_metadata(path, "NoduleClassifier")
        regression = metadata["extra"].get("regression", {})
        if "columns" not in regression:
            raise CheckpointError(f"{path}: holds a {metadata['network']}, expected a direct classifier.")
        reader = getattr(networks, metadata["network"])(**metadata["config"])
        network = cls(reader, RecordRegression(**regression))
        network.load_state_dict(load_tensors(path))
        return network.eval()


def direct_items(
    dataset_dir: str | Path, sections: Sequence[str], regression: RecordRegression
) -> list[dict[str, Any]]:
    """MONAI items ``case_id``, ``image`` (the baseline's path), ``record`` (float32), ``malignant`` (NaN: unknown).

    The record is encoded as the regression's input.
    """
    cases = cases_of(dataset_dir, sections)
    return [
        {
            "case_id": case["case_id"],
            "image": str(Path(dataset_dir) / case["baseline"]),
            "record": numbers,
            "malignant": outcome(case),
        }
        for case, numbers in zip(cases, regression.numbers(records(cases)).astype(np.float32), strict=True)
    ]


def prepare_direct_batch(
    batch: Mapping[str, Any], device: torch.device | str | None = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, dict[str, Tensor], tuple[Tensor], dict[str, Any]]:
    """The batch of :class:`DirectClassifier`: crops, target, and the records as the network's second argument."""
    image, target = prepare_crop_batch(batch, device, non_blocking, **kwargs)
    return image, target, (batch["record"].to(image),), {}


def publish_direct(
    checkpoint: Checkpoint,
    network: DirectClassifier,
    dataset_dir: str | Path,
    image_size: int,
    table: str | Path,
    run: int,
    weights: str | Path,
) -> None:
    """Writes the best epoch's weights, and its probabilities of validation and test as one run of ``table``."""
    best = checkpoint.load_best()
    logger.info(f"Epoch {best['epoch']} is published")
    if idist.get_rank() == 0:
        device = next(network.parameters()).device
        network.save(weights, extra={**best, "record": checkpoint.record})
        write_probabilities(network.eval(), dataset_dir, table, run, image_size, device=device)
