"""Checkpoints of a training stage; an interrupted run that resumes from them ends with the same weights."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

from scripts.errors import UserError
from scripts.files import write_atomically

logger = logging.getLogger(__name__)


class Checkpoint:
    """Ignite handler that saves after each epoch, keeps the best epoch, stops early, and resumes at the start.

    ``folder/last.pt`` holds all ``objects`` after the last complete epoch, ``folder/best.pt`` the ``best`` objects of
    the epoch with the lowest ``key_metric``. Both are written atomically and open with ``weights_only=True``.

    Args:
        folder: of this stage.
        objects: by name, everything that resuming needs; each has ``state_dict`` and ``load_state_dict``.
        best: by name, what is kept of the best epoch.
        evaluator: validation engine whose ``state.metrics[key_metric]`` is compared; without one the last epoch is the
            best.
        key_metric: name of the metric; lower is better.
        patience: training stops at the first validation that is this many epochs after the best one; 0 never stops.
    """

    def __init__(
        self,
        folder: str | Path,
        objects: Mapping[str, Any],
        best: Mapping[str, Any],
        evaluator: Engine | None = None,
        key_metric: str = "val_loss",
        patience: int = 0,
    ) -> None:
        self.folder = Path(folder)
        self.objects = dict(objects)
        self.best = dict(best)
        self.evaluator = evaluator
        self.key_metric = key_metric
        self.patience = patience
        self.progress: dict[str, Any] = {
            "epoch": 0,
            "iteration": 0,
            "best_value": float("inf"),
            "best_epoch": 0,
            "stopped": False,
        }

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.resume)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def resume(self, engine: Engine) -> None:
        """Loads ``last.pt`` if it exists, and continues after its epoch."""
        path = self.folder / "last.pt"
        if not path.is_file():
            return
        state = torch.load(path, map_location="cpu", weights_only=True)
        try:
            for name, item in self.objects.items():
                item.load_state_dict(state[name])
        except (KeyError, RuntimeError, ValueError) as error:
            raise UserError(
                f"{path}: does not fit this configuration ({str(error).splitlines()[0]}). "
                "Give the run another --output_dir, or delete the file to start again."
            ) from error
        self.progress = state["progress"]
        engine.state.epoch, engine.state.iteration = self.progress["epoch"], self.progress["iteration"]
        logger.info(f"Resumed after epoch {self.progress['epoch']} from {path}")
        if self.progress["stopped"]:
            engine.terminate()

    def save(self, engine: Engine) -> None:
        """Saves at the end of an epoch, after its validation, and stops training when ``patience`` is exhausted."""
        self.progress |= {"epoch": engine.state.epoch, "iteration": engine.state.iteration}
        value = self._value()
        if value is not None:
            if value < self.progress["best_value"]:
                self.progress |= {"best_value": value, "best_epoch": engine.state.epoch}
                self._write("best.pt", self.best)
            elif self.patience and engine.state.epoch - self.progress["best_epoch"] >= self.patience:
                self.progress["stopped"] = True
        self._write("last.pt", self.objects)
        if self.progress["stopped"]:
            logger.info(f"No better than epoch {self.progress['best_epoch']} for {self.patience} epochs: stopping")
            engine.terminate()

    def load_best(self) -> dict[str, Any]:
        """Loads the best epoch's state into the ``best`` objects; returns its number and key metric, by name.

        Raises:
            UserError: there is no best epoch, since every loss was NaN or infinite.
        """
        idist.barrier()  # rank 0 may still be writing
        path = self.folder / "best.pt"
        if not path.is_file():
            raise UserError(
                f"{path}: not there, because no validation gave a finite {self.key_metric}. "
                "Lower the learning rate, or look at the data."
            )
        state = torch.load(path, map_location="cpu", weights_only=True)
        for name, item in self.best.items():
            item.load_state_dict(state[name])
        return {"epoch": state["progress"]["best_epoch"], self.key_metric: state["progress"]["best_value"]}

    def _value(self) -> float | None:
        """The key metric of this epoch; None where it was not validated."""
        if self.evaluator is None:
            return -float(self.progress["epoch"])
        return self.evaluator.state.metrics.pop(self.key_metric, None)

    def _write(self, name: str, objects: Mapping[str, Any]) -> None:
        """Writes the state of ``objects`` and the progress, on rank 0 alone."""
        if idist.get_rank() != 0:
            return
        state = {key: item.state_dict() for key, item in objects.items()} | {"progress": dict(self.progress)}
        with write_atomically(self.folder / name) as path:
            torch.save(state, path)
