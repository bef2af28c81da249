"""What validation measures is a mean over cases, whatever the batches, and over those alone that are known."""

from __future__ import annotations

import math

import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from torch import nn

from scripts.errors import UserError
from scripts.losses import OutcomeLoss
from scripts.training.metrics import hu_error, validation_loss


def test_validation_loss_is_averaged_over_samples_not_batches() -> None:
    pred = torch.arange(5.0)
    parts = [(pred[:4], torch.zeros(4)), (pred[4:], torch.zeros(1))]
    engine = Engine(lambda engine, batch: {"pred": batch[0], "label": batch[1]})
    validation_loss(nn.MSELoss()).attach(engine, "val_loss")
    assert engine.run(parts).metrics["val_loss"] == pytest.approx((0 + 1 + 4 + 9 + 16) / 5)


def test_validation_loss_is_averaged_over_known_outcomes() -> None:
    """Four that are easy, and one that is wrong among three of unknown outcome; then a batch of unknown ones alone."""
    logits = torch.tensor([3.0, 3.0, -3.0, -3.0, -3.0, 50.0, -50.0, 9.0, 1.0])[:, None]
    outcome = torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0, *[math.nan] * 4], dtype=torch.float64)
    engine = Engine(lambda engine, part: {"pred": logits[part], "label": {"malignant": outcome[part]}})
    validation_loss(OutcomeLoss()).attach(engine, "val_loss")
    expected = (4 * math.log1p(math.exp(-3)) + math.log1p(math.exp(3))) / 5
    assert expected == pytest.approx(0.6486, abs=1e-4)
    for size in (1, 3, 4, 9):
        parts = [slice(start, start + size) for start in range(0, 9, size)]
        assert engine.run(parts).metrics["val_loss"] == pytest.approx(expected, rel=1e-6), size


def test_validation_loss_of_known_outcomes_is_that_over_all_samples() -> None:
    """To the bit."""
    torch.manual_seed(0)
    logits, outcome = torch.randn(11, 1), (torch.rand(11) < 0.5).double()
    label = {"image": torch.zeros(11, 1, 2, 2), "malignant": outcome}
    engine = Engine(lambda engine, part: {"pred": logits[part], "label": {k: v[part] for k, v in label.items()}})
    loss = OutcomeLoss()
    validation_loss(loss).attach(engine, "known")
    validation_loss(lambda pred, target: loss(pred, target)).attach(engine, "all")
    metrics = engine.run([slice(0, 4), slice(4, 8), slice(8, 11)]).metrics
    assert metrics["known"] == metrics["all"]


@pytest.mark.parametrize("loss", [OutcomeLoss(), nn.MSELoss()])
def test_a_validation_section_without_known_outcomes_is_refused(loss: nn.Module) -> None:
    """Where the loss is over known outcomes alone; an empty section has a refusal of its own."""

    def attach(outcomes: list[float]) -> None:
        data = Dataset([{"malignant": outcome} for outcome in outcomes])
        evaluator = SupervisedEvaluator("cpu", DataLoader(data), nn.Identity())
        validation_loss(loss).attach(evaluator, "val_loss")

    attach([math.nan, 1.0])
    attach([])
    if isinstance(loss, OutcomeLoss):
        with pytest.raises(UserError, match=r"^No case of the dataset's validation section has a known outcome"):
            attach([math.nan, math.nan])
    else:
        attach([math.nan, math.nan])


def test_reconstruction_error_is_in_hounsfield_units() -> None:
    image = torch.zeros(2, 1, 4, 4)
    engine = Engine(lambda engine, batch: {"pred": {"reconstruction": image + 0.1}, "label": {"image": image}})
    hu_error().attach(engine, "val_mae_hu")
    assert engine.run([0]).metrics["val_mae_hu"] == pytest.approx(0.1 * 1400 / 2, rel=1e-5)
