"""How the evaluated models were trained: curves, commands and best epochs, read from their stages' folders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from scripts.files import read_mapping
from scripts.provenance import FILE
from scripts.weights.checkpoints import read_metadata

WEIGHTS = {
    "autoencoder": "autoencoder",
    "unconditional": "unet_unconditional",
    "conditional": "unet_conditional",
    "classifier": "classifier",
}
"""Each stage's weights file in models_dir, without its suffix."""


@dataclass(frozen=True)
class Stage:
    """The log of a training stage, or of inference.

    Attributes:
        name: a key of `WEIGHTS`, or inference.
        facts: JSON-serialisable: `command`, `seed`, `started` and `versions` from its provenance.json; `record` and
            `best`, epoch and loss, that are stored with its weights; `same_weights`, whether the curves are of these.
        training, validation: epochs and mean losses; empty without logs.
    """

    name: str
    facts: dict[str, Any]
    training: Sequence[tuple[float, float]] = ()
    validation: Sequence[tuple[float, float]] = ()


def read_stages(output_dir: str | Path, models_dir: str | Path, predictions_dir: str | Path) -> list[Stage]:
    """The stages with logs or provenance in `output_dir`, or facts stored with their weights; and inference."""
    stages = []
    for name, weights in WEIGHTS.items():
        folder, path = Path(output_dir) / name, Path(models_dir) / f"{weights}.safetensors"
        extra = read_metadata(path)["extra"] if path.is_file() else {}
        training, validation = read_curves(folder, extra.get("epoch"))
        facts = _json(folder / FILE)
        if best := {key: value for key, value in extra.items() if isinstance(value, (int, float))}:
            facts["best"] = best
            facts["same_weights"] = _holds(validation, best) if validation else None
        if record := extra.get("record"):
            facts["record"] = record  # of the weights, whatever the folder's last start was
        if facts or training:
            stages.append(Stage(name, facts, training, validation))
    settings = [_json(path) for path in sorted(Path(predictions_dir).glob(f"*/{FILE}"))[:1]]
    return stages + [Stage("inference", each) for each in settings if each]


def read_curves(folder: Path, epochs: int | None = None) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Training and validation loss of a stage from its TensorBoard files, as (epoch, loss); empty where there is none.

    Training losses are logged per iteration and averaged here over epochs. The length of an epoch follows from the
    iterations that were logged before the last validation; without any validation from the number of ``epochs``, and
    where that is not known all iterations are one epoch.
    """
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload() if folder.is_dir() else None
    found = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]} if events is not None else {}
    losses, checks = found.get("train_loss", []), found.get("val_loss", [])
    if not losses:
        return [], [(event.step, event.value) for event in checks]
    before = [event.step for event in losses if checks and event.wall_time <= checks[-1].wall_time]
    length = max(1, round(before[-1] / checks[-1].step if before else losses[-1].step / (epochs or 1)))
    by_epoch: dict[int, list[float]] = {}
    for event in losses:
        by_epoch.setdefault((event.step - 1) // length + 1, []).append(event.value)
    training = [(float(epoch), sum(values) / len(values)) for epoch, values in sorted(by_epoch.items())]
    return training, [(float(event.step), event.value) for event in checks]


def _holds(validation: Sequence[tuple[float, float]], best: dict[str, Any]) -> bool:
    """Whether the validation curve has the best epoch and loss that are stored with the weights."""
    return any(
        epoch == best.get("epoch") and math.isclose(loss, best.get("val_loss", math.nan), rel_tol=1e-4)
        for epoch, loss in validation
    )


def _json(path: Path) -> dict[str, Any]:
    """The content of a JSON file; empty where there is none."""
    return read_mapping(path) if path.is_file() else {}
