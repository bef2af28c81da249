"""Progress of a run: a bar on the terminal, and one log line per epoch."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

logger = logging.getLogger(__name__)


class Progress:
    """Ignite handler that draws a bar over all iterations, with the time left, if standard error is a terminal.

    Log lines appear above the bar.

    Args:
        loss: function from the engine's output to the number that is shown beside the bar.
    """

    def __init__(self, loss: Callable[[Any], float] | None = None) -> None:
        self.loss = loss
        self.bar: tqdm | None = None
        self._redirected = ExitStack()

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.step)
        engine.add_event_handler(Events.COMPLETED, self.close)

    def start(self, engine: Engine) -> None:
        """Draws the bar before the first iteration, which may take long; a resumed run starts it where it stopped."""
        state = engine.state
        if self.bar is None:
            self.bar = tqdm(
                total=(state.max_epochs or 1) * (state.epoch_length or 0),
                initial=state.iteration,
                disable=None,
                dynamic_ncols=True,
                bar_format="{desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix} [{elapsed}, {remaining} left]",
            )
            if not self.bar.disable:
                self._redirected.enter_context(logging_redirect_tqdm())
        if state.max_epochs != 1:
            self.bar.set_description(f"epoch {state.epoch} of {state.max_epochs}")

    def step(self, engine: Engine) -> None:
        assert self.bar is not None
        if self.bar.disable:
            return
        if self.loss is not None:
            self.bar.set_postfix(loss=f"{self.loss(engine.state.output):.4f}", refresh=False)
        self.bar.update(engine.state.iteration - self.bar.n)

    def close(self, engine: Engine) -> None:
        self._redirected.close()
        if self.bar is not None:
            self.bar.close()
            self.bar = None


class EpochLog:
    """Ignite handler that logs each epoch's training loss, validation metrics and the time left.

    Attach it after validation.

    Args:
        folder: of the stage, with its TensorBoard files.
        loss: function from the engine's output to the training loss.
        validator: engine whose metrics are logged after the epochs that were validated.
    """

    def __init__(self, folder: str | Path, loss: Callable[[Any], float], validator: Engine | None = None) -> None:
        self.folder = Path(folder)
        self.loss = loss
        self.validator = validator
        self.losses: list[float] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.gather)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.log)

    def start(self, engine: Engine) -> None:
        state = engine.state
        self.started, self.epochs = time.monotonic(), 0
        logger.info(f"Training {self.folder.name}: {state.max_epochs} epochs of {state.epoch_length} steps at most")
        logger.info(f"To see its curves: tensorboard --logdir {self.folder.parent}")

    def gather(self, engine: Engine) -> None:
        self.losses.append(self.loss(engine.state.output))

    def log(self, engine: Engine) -> None:
        epoch, last = engine.state.epoch, engine.state.max_epochs or engine.state.epoch
        self.epochs += 1
        left = (time.monotonic() - self.started) / self.epochs * (last - epoch)
        numbers = {"train_loss": sum(self.losses) / len(self.losses)}
        if self.validator is not None and self.validator.state.epoch == epoch:  # else they are of an earlier epoch
            numbers |= dict(sorted(self.validator.state.metrics.items()))
        text = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        logger.info(f"Epoch {epoch} of {last}: {text}; {tqdm.format_interval(left)} left at most")
        self.losses.clear()
