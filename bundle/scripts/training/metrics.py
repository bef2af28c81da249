"""What validation measures: the training loss, and the error of reconstructions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ignite.engine import Engine
from ignite.metrics import Loss, Metric
from ignite.metrics.metric import EpochWise, MetricUsage
from torch import Tensor

from scripts.data.transforms import to_hu
from scripts.errors import UserError
from scripts.losses import over_known

EPOCH = EpochWise()
"""A metric that is reset before each validation and computed after it."""


class ValidationLoss(Loss):
    """A loss averaged over the samples of the validation section, whatever the batches.

    A loss that leaves samples out has a method ``counted``, which says how many of a target it averages over; batches
    weigh as many. The terms of an autoencoder's loss leave out different samples, so its batches weigh all of theirs.
    """

    def __init__(self, loss: Callable[[Any, Any], Tensor]) -> None:
        self.counted: Callable[[Any], int] | None = getattr(loss, "counted", None)
        super().__init__(
            loss,
            output_transform=lambda output: (output["pred"], output["label"]),
            batch_size=self.counted or (lambda label: len(label["image"] if isinstance(label, Mapping) else label)),
        )

    def attach(self, engine: Engine, name: str, usage: str | MetricUsage = EPOCH) -> None:
        """Attaches the metric to the engine of validation, before any training.

        Raises:
            UserError: the loss would average over none of the engine's cases.
        """
        items = getattr(getattr(getattr(engine, "data_loader", None), "dataset", None), "data", ())
        if self.counted is not None and len(items) and not any(self.counted(item) for item in items):
            raise UserError(
                "No case of the dataset's validation section has a known outcome, expected some, by which the best "
                "epoch is chosen. Give some, or compose no_validation.yaml last and give --max_epochs."
            )
        super().attach(engine, name, usage)


def validation_loss(loss: Callable[[Any, Any], Tensor]) -> Metric:
    """The training loss as a metric, averaged over the validation section (:class:`ValidationLoss`)."""
    return ValidationLoss(loss)


def hu_error() -> Metric:
    """Mean absolute error of the reconstruction in HU (inside the window and without padding), over validation."""

    def error(prediction: Tensor, target: Tensor) -> Tensor:
        return (to_hu(prediction) - to_hu(target)).abs().mean()

    return validation_loss(lambda pred, label: over_known(error, pred["reconstruction"], label["image"]))
