"""Checkpoints of a training stage; an interrupted run that resumes from them ends with the same weights."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from torch import Tensor
from torch.optim import Optimizer

from scripts.errors import UserError, listed
from scripts.files import remove, write_atomically
from scripts.training.record import refuse_another
from scripts.training.stage import BEST, LAST, read_checkpoint

logger = logging.getLogger(__name__)

SHARE = 0.01
"""Of the time, at most so much goes into writing ``last.pt``, where minutes pass between two writings."""


class Checkpoint:
    """Ignite handler that saves at the end of epochs, keeps the best epoch, stops early, and resumes at the start.

    ``folder/last.pt`` holds all ``objects`` after the last epoch that was saved, ``folder/best.pt`` the ``best``
    objects of the epoch with the lowest ``key_metric`` up to then, both with the run's record. Both are written
    atomically and open with ``weights_only=True``. Tensors go from where they are to the file, one after another, so
    that nothing is copied for ``last.pt``; training waits for it. Of a best epoch a copy is kept in memory until then.

    Args:
        folder: of this stage.
        objects: by name, everything that resuming needs; each has ``state_dict`` and ``load_state_dict``.
        best: by name, what is kept of the best epoch.
        evaluator: validation engine whose ``state.metrics[key_metric]`` is compared; without one the last epoch is the
            best.
        key_metric: name of the metric; lower is better.
        patience: training stops at the first validation that is this many epochs after the best one; 0 never stops.
        keep_interval: every so many epochs ``epoch_N.pt`` keeps the ``best`` objects, if epoch N is validated; 0: none.
        keep_last: of these, the last so many are kept, and ``published``; 0: all.
        minutes: that pass at least between two writings of ``last.pt``, and :data:`SHARE` as much time as the last one
            took; it is written after the first and the last epoch anyway. 0: after every epoch. Resuming trains what
            came after it again, and to the same best epoch.
        published: number of a kept epoch to take in place of the best one.
        record: of :func:`scripts.training.stage_record`; a checkpoint with another one is refused.
        advice: what the error says to do where no epoch had a finite ``key_metric``.
    """

    def __init__(
        self,
        folder: str | Path,
        objects: Mapping[str, Any],
        best: Mapping[str, Any],
        evaluator: Engine | None = None,
        key_metric: str = "val_loss",
        patience: int = 0,
        keep_interval: int = 0,
        keep_last: int = 0,
        minutes: float = 0,
        published: int | None = None,
        record: Mapping[str, Any] | None = None,
        advice: str = "Lower the learning rate, or look at the data.",
    ) -> None:
        self.folder = Path(folder)
        self.objects = dict(objects)
        self.best = dict(best)
        self.evaluator = evaluator
        self.key_metric = key_metric
        self.patience = patience
        self.keep_interval, self.keep_last = keep_interval, keep_last
        self.minutes, self.due = minutes, -math.inf
        self._best: dict[str, Any] = {}
        self._newer = False  # whether that is of an epoch after the one in best.pt
        self.published = published
        self.record = dict(record or {})
        self.advice = advice
        self.progress: dict[str, Any] = {
            "epoch": 0,
            "iteration": 0,
            "best_value": float("inf"),
            "best_epoch": 0,
            "stopped": False,
        }

    def attach(self, engine: Engine) -> None:
        if self.published is not None and (not self.keep_interval or self.published % self.keep_interval):
            self._kept(self.published)  # this run will not keep it
        engine.add_event_handler(Events.STARTED, self.resume)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def resume(self, engine: Engine) -> None:
        """Loads ``last.pt`` if it exists, and continues after its epoch; else nothing of an earlier run is the best.

        Raises:
            UserError: the file is damaged, or of other data, settings or objects.
        """
        path = self.folder / LAST
        if not path.is_file():
            if idist.get_rank() == 0:
                remove(self.folder / BEST)
            return
        state = read_checkpoint(path, mmap=True)
        if self.record:
            refuse_another(path, state.get("record"), self.record)
        try:
            for name, item in self.objects.items():
                item.load_state_dict(copy.deepcopy(state.pop(name)))  # else the optimiser's would stay in the file
        except (KeyError, RuntimeError, ValueError) as error:
            raise UserError(
                f"{path}: does not fit this configuration ({str(error).splitlines()[0]}). "
                "Give the run another --output_dir, or --restart true to train from the start."
            ) from error
        for item in self.objects.values():
            if isinstance(item, Optimizer):
                lay_out(item)
        self.progress = state["progress"]
        self.progress["stopped"] &= self._exhausted()  # patience may have been raised
        engine.state.epoch, engine.state.iteration = self.progress["epoch"], self.progress["iteration"]
        logger.info(f"Resumed after epoch {self.progress['epoch']} from {path}")
        if self.progress["stopped"]:
            engine.terminate()

    def save(self, engine: Engine) -> None:
        """Saves at the end of an epoch, after its validation, and stops training when ``patience`` is exhausted."""
        self.progress |= {"epoch": engine.state.epoch, "iteration": engine.state.iteration}
        value = self._value()
        if value is not None:
            if self.keep_interval and engine.state.epoch % self.keep_interval == 0:
                epoch = {"best_value": value, "best_epoch": engine.state.epoch}
                self._write(f"epoch_{engine.state.epoch}.pt", self._state(self.best, epoch))
                self._forget()
            if value < self.progress["best_value"]:
                self.progress |= {"best_value": value, "best_epoch": engine.state.epoch}
                self._remember()
            else:
                self.progress["stopped"] = self._exhausted()
        ended = self.progress["stopped"] or engine.state.epoch >= (engine.state.max_epochs or 0)
        if ended or time.monotonic() >= self.due:
            self._write_last()
        if self.progress["stopped"]:
            logger.info(f"No better than epoch {self.progress['best_epoch']} for {self.patience} epochs: stopping")
            engine.terminate()

    def _write_last(self) -> None:
        """Writes ``last.pt``, and ``best.pt`` where a better epoch came since, on rank 0 alone."""
        start = time.monotonic()
        if self._newer:
            self._write(BEST, self._best)
            self._newer = False
        self._write(LAST, self._state(self.objects))
        end = time.monotonic()
        self.due = end + max(60 * self.minutes, (end - start) / SHARE) if self.minutes else end

    def _remember(self) -> None:
        """Copies the state of the ``best`` objects, on rank 0 alone."""
        if idist.get_rank() == 0:
            self._best = copied(self._state(self.best), self._best)
            self._newer = True

    def load_best(self) -> dict[str, Any]:
        """Loads the best epoch's state into the ``best`` objects; returns its number and key metric, by name.

        With ``published``, that epoch's; without an evaluator there is no metric.

        Raises:
            UserError: there is no best epoch, since every loss was NaN or infinite; or ``published`` was not kept.
        """
        idist.barrier()  # rank 0 may still be writing
        path = self.folder / BEST if self.published is None else self._kept(self.published)
        if not path.is_file():
            raise UserError(f"{path}: not there, because no validation gave a finite {self.key_metric}. {self.advice}")
        state = read_checkpoint(path)
        for name, item in self.best.items():
            item.load_state_dict(state[name])
        found = {"epoch": state["progress"]["best_epoch"]}
        return found if self.evaluator is None else found | {self.key_metric: state["progress"]["best_value"]}

    def _kept(self, epoch: int) -> Path:
        """The file of a kept epoch; a UserError, if it was not kept."""
        path = self.folder / f"epoch_{epoch}.pt"
        if not path.is_file():
            raise UserError(
                f"{path}: epoch {epoch} was not kept; kept are {listed([*map(str, self._epochs())]) or 'none'}. Give "
                "another --publish_epoch; --keep_interval and --keep_last say which epochs are kept in training."
            )
        return path

    def _epochs(self) -> list[int]:
        """The numbers of the epochs that are kept."""
        return sorted(int(each.stem.removeprefix("epoch_")) for each in self.folder.glob("epoch_*.pt"))

    def _forget(self) -> None:
        """Removes what ``keep_last`` does not keep, on rank 0 alone."""
        old = self._epochs()[: -self.keep_last] if self.keep_last and idist.get_rank() == 0 else []
        for epoch in old:
            if epoch != self.published:
                remove(self.folder / f"epoch_{epoch}.pt")

    def _exhausted(self) -> bool:
        """Whether the best epoch is at least ``patience`` epochs ago."""
        return bool(self.patience) and self.progress["epoch"] - self.progress["best_epoch"] >= self.patience

    def _value(self) -> float | None:
        """The key metric of this epoch; None where it was not validated."""
        if self.evaluator is None:
            return -float(self.progress["epoch"])
        return self.evaluator.state.metrics.pop(self.key_metric, None)

    def _state(self, objects: Mapping[str, Any], progress: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The state of ``objects``, the progress, with the changes given, and the record; nothing is copied."""
        states = {name: item.state_dict() for name, item in objects.items()}
        return states | {"progress": {**self.progress, **(progress or {})}, "record": self.record}

    def _write(self, name: str, state: Mapping[str, Any]) -> None:
        """Writes a state, on rank 0 alone."""
        if idist.get_rank() == 0:
            with write_atomically(self.folder / name) as path:
                torch.save(state, path)


def lay_out(optimizer: Optimizer) -> None:
    """Gives an optimiser's tensors the layout of their weights, which may be another than the file's.

    A fused step walks through the memory of both alike.
    """
    for weight, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == weight.shape:
                state[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


def copied(state: Any, place: Any = None) -> Any:
    """A copy of nested states in the CPU's memory.

    Args:
        place: an earlier copy, whose tensors are written again. A GPU writes to them itself, since their pages are
            pinned.
    """
    if isinstance(state, Mapping):
        return {key: copied(each, (place or {}).get(key)) for key, each in state.items()}
    if not isinstance(state, Tensor):
        return copy.deepcopy(state)
    if place is None:
        place = torch.empty_like(state, device="cpu", pin_memory=state.is_cuda)
    return place.copy_(state)
