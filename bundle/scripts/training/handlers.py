"""Ignite handlers of the training stages: seeds, gradient clipping, averages, prompts, logs, validation.

Random numbers depend on the seed and the epoch alone, and a checkpoint is written at the end of every epoch, so an
interrupted and resumed run ends with the same weights as an uninterrupted one.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data.utils import set_rnd
from monai.engines import Evaluator, IterationEvents
from monai.handlers import TensorBoardStatsHandler, ValidationHandler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from scripts.errors import UserError
from scripts.provenance import Provenance
from scripts.training.checkpointing import Checkpoint
from scripts.training.engines import stepped, steps_taken
from scripts.training.progress import EpochLog, Progress

logger = logging.getLogger(__name__)


class EpochSeed:
    """Seeds Python, NumPy, torch and the dataset's transforms at each epoch's start, by ``seed``, epoch and rank."""

    def __init__(self, seed: int, dataset: Any = None) -> None:
        self.seed = seed
        self.dataset = dataset

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        # the rank, so that processes draw different noise
        seed = int(np.random.SeedSequence([self.seed, engine.state.epoch, idist.get_rank()]).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        if self.dataset is not None:
            set_rnd(self.dataset, seed)


class GradientClip:
    """Clips the global norm of the gradients to ``max_norm`` after each backward pass.

    Under ``amp``, gradients are still multiplied by the loss scale then; they are divided by it first. Gradients that
    are still summed over further batches (``accumulation_steps``) are left alone.
    """

    def __init__(self, network: nn.Module, max_norm: float) -> None:
        self.network = network
        self.max_norm = max_norm

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        if not stepped(engine):
            return
        if getattr(engine, "scaler", None) is not None:
            engine.scaler.unscale_(engine.optimizer)
        nn.utils.clip_grad_norm_(self.network.parameters(), self.max_norm)


class LearningRate:
    """Sets the next step's learning rate. MONAI's ``LrScheduleHandler`` would count accumulated batches as steps."""

    def __init__(self, scheduler: LRScheduler) -> None:
        self.scheduler = scheduler

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED(event_filter=stepped), self)

    def __call__(self, engine: Engine) -> None:
        self.scheduler.step()


class ExponentialAverage:
    """An exponential moving average of a module's weights over steps; with ``decay`` 0, the module itself.

    The decay of update n is min(decay, (1 + n) / (10 + n)), so that the average of a short run forgets its start.
    """

    def __init__(self, module: nn.Module, decay: float = 0.0) -> None:
        self.decay = decay
        self.source = module
        self.averaged = AveragedModel(module, use_buffers=False) if decay else None
        # gathered once: AveragedModel.update_parameters gathers and groups them in every step
        self._averages: list[Tensor] = list(self.module.parameters())
        self._weights: list[Tensor] = list(module.parameters())
        self._buffers = list(zip(self.module.buffers(), module.buffers(), strict=True))

    @property
    def module(self) -> nn.Module:
        """The averaged module, which is validated and published."""
        return self.source if self.averaged is None else self.averaged.module

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED(event_filter=stepped), self)

    def __call__(self, engine: Engine) -> None:
        if self.averaged is None:
            return
        count = int(self.averaged.n_averaged)
        decay = min(self.decay, (1.0 + count) / (10.0 + count)) if count else 0.0  # the first is the module itself
        with torch.no_grad():
            torch._foreach_lerp_(self._averages, self._weights, 1.0 - decay)
            for average, current in self._buffers:
                average.copy_(current)
        self.averaged.n_averaged += 1

    def state_dict(self) -> dict[str, Any]:
        return {} if self.averaged is None else self.averaged.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self.averaged is not None:
            self.averaged.load_state_dict(state)


class FreezePrompts:
    """Ends the training of prompts and LoRA after ``steps`` steps; contexts are computed once and cached from then on.

    Where nothing learns, that is from the start. Attach it after the checkpoint, since it depends on the iteration that
    is resumed from.

    Args:
        conditioner: a :class:`scripts.conditioning.ReportConditioner`.
        steps: of the optimiser; a negative number trains prompts and LoRA to the end.
        reports: the training reports, whose contexts are all computed at once. Computed batch by batch, their padding,
            and with it rounding errors, would depend on whether and when the run was interrupted.
    """

    def __init__(self, conditioner: Any, steps: int, reports: Sequence[str] = ()) -> None:
        self.conditioner = conditioner
        self.steps = steps
        self.reports = list(reports)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if 0 <= self.steps <= steps_taken(engine) and self._learning():
            self.conditioner.requires_grad_(False)
            self.conditioner.zero_grad(set_to_none=True)  # else the optimiser would continue to change them
            self._read()

    def start(self, engine: Engine) -> None:
        """Logs how long prompts are trained, since these steps are slow; where none learns, the reports are read."""
        if not self._learning():
            self._read()
        self(engine)
        if self._learning():
            until = "to the end" if self.steps < 0 else f"up to step {self.steps}"
            logger.info(f"The prompts learn {until}, through the language model: about 20 s a step on two CPU cores")

    def _read(self) -> None:
        if self.reports:
            logger.info(f"The prompts are kept from here on: reading {len(set(self.reports))} reports with them")
            self.conditioner.encode(self.reports)

    def _learning(self) -> bool:
        return any(weight.requires_grad for weight in self.conditioner.parameters())


class LossTerms:
    """Writes the terms of a loss (its attribute ``terms``) to TensorBoard at each iteration."""

    def __init__(self, loss: Any, folder: str | Path) -> None:
        self.loss = loss
        self.folder = folder

    def attach(self, engine: Engine) -> None:
        TensorBoardStatsHandler(
            log_dir=str(self.folder),
            iteration_log=True,
            epoch_log=False,
            output_transform=lambda _: {f"loss_{name}": float(value) for name, value in self.loss.terms.items()},
        ).attach(engine)


class Handlers(list):
    """A list of handlers that is attached as one, for configurations whose list of handlers must be built by a call."""

    def attach(self, engine: Engine) -> None:
        for handler in self:
            handler.attach(engine)


def train_handlers(
    folder: str | Path,
    seed: int,
    dataset: Any,
    network: nn.Module,
    lr_scheduler: Any,
    checkpoint: Checkpoint,
    validator: Evaluator | None = None,
    val_interval: int = 1,
    max_norm: float = 1.0,
    ema: ExponentialAverage | None = None,
    loss: Any = None,
    extra: Sequence[Any] = (),
) -> Handlers:
    """The handlers of every training stage, in the order in which they must run. Only rank 0 logs and writes.

    Args:
        folder: of the stage; TensorBoard's files and provenance.json go there.
        seed, dataset: for :class:`EpochSeed`.
        network: whose gradients are clipped to ``max_norm``.
        lr_scheduler: steps with the optimiser; None for a constant rate.
        validator: runs every ``val_interval`` epochs and after the last.
        ema: the moving average to update, if any.
        loss: its ``terms``, if it has any, are logged.
        extra: further handlers, attached last.
    """
    handlers: list[Any] = [EpochSeed(seed, dataset), GradientClip(network, max_norm)]
    if lr_scheduler is not None:
        handlers.append(LearningRate(lr_scheduler))
    if ema is not None:
        handlers.append(ema)
    if idist.get_rank() == 0:
        handlers += [Provenance(folder, seed=seed, record=checkpoint.record), Progress(_loss)]
        handlers.append(TensorBoardStatsHandler(log_dir=str(folder), output_transform=_loss, tag_name="train_loss"))
        if hasattr(loss, "terms"):
            handlers.append(LossTerms(loss, folder))
    if validator is not None:
        handlers.append(Validation(interval=val_interval, validator=validator))
    if idist.get_rank() == 0:
        handlers.append(EpochLog(folder, _loss, validator))
    return Handlers([*handlers, checkpoint, *extra])


class Validation(ValidationHandler):
    """MONAI's ``ValidationHandler``, which here also runs after the last epoch, so that every run has a best epoch.

    Raises:
        UserError: when attached, if there is nothing to validate on.
    """

    def attach(self, engine: Engine) -> None:
        if self.validator is not None and not len(self.validator.data_loader):  # type: ignore[arg-type]
            raise UserError(
                "The dataset's validation section is empty, expected cases by which the best epoch is chosen. To train "
                "on all cases compose no_validation.yaml last, and give --max_epochs."
            )

        def due(engine: Engine, epoch: int) -> bool:
            return epoch % self.interval == 0 or epoch == engine.state.max_epochs

        engine.add_event_handler(Events.EPOCH_COMPLETED(event_filter=due), self)


def validation_handlers(folder: str | Path) -> list[Any]:
    """The handlers of validation: TensorBoard curves, on rank 0. :class:`scripts.training.EpochLog` logs numbers."""
    return [TensorBoardStatsHandler(log_dir=str(folder), iteration_log=False)] if idist.get_rank() == 0 else []


def _loss(output: Any) -> float:
    """The loss of an iteration, from the trainer's output."""
    first = output[0] if isinstance(output, Sequence) else output
    return first["loss"].item()
