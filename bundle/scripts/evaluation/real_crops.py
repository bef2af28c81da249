"""The real crops of an evaluated section, gathered batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
from ignite.engine import Engine, Events

from scripts.data.padding import real_key
from scripts.evaluation.report.cohort import describe
from scripts.evaluation.study import Cases, Study


class RealCrops:
    """An Ignite handler that keeps the real crops of every batch; at the end of the epoch :meth:`judge` is called.

    Args:
        datalist: of the dataset, see :func:`scripts.data.load_datalist`.
        section: whose crops the batches hold.
        open_section: gives the training section by name, as :func:`scripts.evaluation.sections.open_section`.
    """

    def __init__(
        self, datalist: Mapping[str, Any], section: str, open_section: Callable[[str], Study] | None = None
    ) -> None:
        self.datalist, self.section = datalist, section
        self.open_section = open_section and cache(open_section)
        self.real: dict[str, list[np.ndarray]] = {"baseline": [], "follow_up": []}
        self.spacing: dict[str, list[np.ndarray]] = {"baseline": [], "follow_up": []}
        self.unpadded: list[np.ndarray] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.gather)
        engine.add_event_handler(Events.COMPLETED, self.judge)

    def judge(self, engine: Engine) -> None:
        """What is done with all crops."""
        raise NotImplementedError

    def gather(self, engine: Engine) -> None:
        """Keeps the real crops of a batch, their pixel spacing, and where the follow-ups are not padded."""
        batch: Any = engine.state.batch
        for key, parts in self.real.items():
            parts.append(np.asarray(batch[key].as_tensor()))
            self.spacing[key].append(np.linalg.norm(batch[key].meta["original_affine"], axis=-2)[:, :2])  # (n, 4, 4)
        if real_key("follow_up") in batch:
            self.unpadded.append(np.asarray(batch[real_key("follow_up")]))

    def study(self) -> Study:
        """The section as it is evaluated."""
        training = self.open_section("training") if self.open_section and self.datalist["training"] else None
        return Study(
            cases=Cases.of(self.datalist[self.section]),
            baseline=np.concatenate(self.real["baseline"]),
            follow_up=np.concatenate(self.real["follow_up"]),
            spacing={key: np.concatenate(parts) for key, parts in self.spacing.items()},
            dataset=self.datalist.get("name", "unnamed"),
            simulated=self.datalist.get("simulated", ""),
            training=None if training is None else (training.cases, training.baseline),
            cohort=describe(self.datalist, self.section),
            unpadded=np.concatenate(self.unpadded) if self.unpadded else None,
        )
