"""The result of a case: what is in its result.json, whose keys are in bundle/docs/evaluation.md."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scripts.arrays import Array
from scripts.data.transforms import HU_PER_UNIT, MARK, preprocessing
from scripts.evaluation.nodules.growth import YEAR, measure
from scripts.predictions import pixel_mm, read_predictions, read_provenance
from scripts.results.flags import Case, flags
from scripts.results.growth import growth
from scripts.results.probabilities import Readers
from scripts.results.reference import (
    METHODS,
    Reference,
    open_reference,
    other_images,
    pooled,
    said_beside,
    sampled_otherwise,
)
from scripts.weights.checkpoints import load_network
from scripts.weights.parts import PARTS

logger = logging.getLogger(__name__)

RESULT, PAGE = "result.json", "result.pdf"
"""Files in the folder of a case."""

FORMAT = 2
"""Of result.json; raised where the same predictions would give another one."""

WARNING = "Research use only, not for clinical decisions. Generated images are synthetic."

BATCH = 16
"""Cases at once."""

Item = Mapping[str, Any]
"""Of :func:`scripts.data.inference_items`."""


class Results:
    """Makes results from saved predictions, with the methods and the reference of a folder of weights.

    Both are opened when the first result is made, and stay open for the next.

    Args:
        models_dir: holds the weights and, where they were published, what single cases are compared with.
        made_by: of :func:`scripts.predictions.provenance`.
    """

    def __init__(self, models_dir: str | Path, made_by: Mapping[str, Any], device: str | torch.device = "cpu") -> None:
        self.models_dir, self.made_by, self.device = Path(models_dir), made_by, device
        self.load = preprocessing(["image"], made_by["image_size"])

    @cached_property
    def reference(self) -> Reference:
        """What single cases are compared with."""
        return open_reference(self.models_dir, self.made_by)

    @cached_property
    def readers(self) -> Readers:
        """The methods that give a probability."""
        return Readers(self.models_dir, self.made_by["image_size"], self.device)

    @cached_property
    def encode(self) -> Callable[[Array], Array] | None:
        """Of the baselines, whose distance from training's is told; None where that was not published."""
        return encoder(self.models_dir, self.device) if self.reference.mean is not None else None

    @cached_property
    def lacking(self) -> list[str]:
        """In words, what no result can tell for want of a file; logged once."""
        lacking = [*self.reference.lacking, *self.readers.lacking.values()]
        if lacking:
            logger.warning(f"{self.models_dir}: results lack {'; '.join(lacking)}. publish_reference.yaml makes it.")
        return lacking

    def of(
        self, items: Sequence[Item], predictions_dir: str | Path, size_dir: str | Path | None = None
    ) -> Iterator[tuple[Item, dict[str, Any]]]:
        """Each item with its result; growth is measured from the images in ``size_dir``, if there are any."""
        scale, held_out = self._size(size_dir, [item["case_id"] for item in items])
        for start in range(0, len(items), BATCH):
            some = items[start : start + BATCH]
            crops = [self.load({"image": item["image"]})["image"] for item in some]
            baselines, spacing = np.stack([np.asarray(crop) for crop in crops]), np.stack([*map(pixel_mm, crops)])
            samples = read_predictions(predictions_dir, [item["case_id"] for item in some])
            said = self.readers.probabilities(samples, baselines, [item["ehr"] for item in some])
            differences = HU_PER_UNIT * np.median(np.abs(samples - baselines).mean(axis=(2, 3, 4)), axis=0)
            measured = samples if size_dir is None else read_predictions(size_dir, [item["case_id"] for item in some])
            sizes = measure(baselines[None], spacing), measure(measured, spacing)
            latents = [None] * len(some) if self.encode is None else pooled(self.encode(baselines))
            for index, item in enumerate(some):
                before, after = (each.take(np.array([index])) for each in sizes)
                factors = self.reference.factors(held_out, len(samples), item["interval_days"])
                size = growth(before, after, item["interval_days"] or YEAR, factors)
                size |= {"guidance_scale": scale, "held_out": held_out}
                case = Case(
                    ehr=item["ehr"],
                    interval_days=item["interval_days"],
                    crop=baselines[index, 0],
                    pixel_mm=spacing[index],
                    size=before,
                    latent=latents[index],
                    change_hu=float(differences[index]),
                )
                sentences = flags(case, self.reference, said[index], size, len(samples))
                yield item, self._result(item, len(samples), said[index], size, sentences)

    def _size(self, size_dir: str | Path | None, case_ids: Sequence[str]) -> tuple[float | None, dict[str, Any] | None]:
        """The guidance scale of the images that growth is measured from, and how far such growth is off."""
        made = self.made_by if size_dir is None else read_provenance(size_dir, case_ids[0])
        scale, content = made.get("guidance_scale"), self.reference.content
        if not content:
            return scale, None
        outcome, size = content["made_from"]["sampling"], content.get("size", {})
        entries = [(outcome, content), *([(size, size)] if size else [])]  # size's says that it was chosen, so it wins
        found = {made.get("guidance_scale"): entry.get("growth") for made, entry in entries}.get(scale)
        published = {**outcome, "guidance_scale": scale, **size.get("sampling", {}).get(f"{scale or 0:g}", {})}
        if other_images(published, made):
            return scale, None
        return scale, said_beside(found, sampled_otherwise(published, made))

    def _result(
        self, item: Item, runs: int, said: Mapping[str, Mapping[str, Any]], size: Mapping[str, Any], found: list[str]
    ) -> dict[str, Any]:
        methods, content = ranked(said, self.reference), self.reference.content
        first = methods[0]["method"]
        return {
            **{"format": FORMAT, "synthetic": MARK, "warning": WARNING, "case_id": item["case_id"]},
            **{"interval_days": item["interval_days"], "num_runs": runs},
            "best_method": first if first in self.reference.compared else None,
            "methods": methods,
            "growth": dict(size),
            "flags": found,
            "lacking": self.lacking,
            "held_out_cases": {name: content.get(name) for name in ("dataset", "simulated", "compared")},
        }


def ranked(said: Mapping[str, Mapping[str, Any]], reference: Reference) -> list[dict[str, Any]]:
    """The entry `methods`: the best on held-out cases first, those that could not be computed last.

    Args:
        said: of :meth:`scripts.results.probabilities.Readers.probabilities`.
    """
    entries = []
    for name in reference.order:
        entry: dict[str, Any] = {"method": name, "title": METHODS[name]}
        if "uncalibrated" in said[name]:
            entry["probability"] = reference.calibrated(name, said[name]["uncalibrated"])
        entries.append({**entry, **said[name], "held_out": reference.held_out(name)})
    return sorted(entries, key=lambda entry: "not_computable" in entry)


def encoder(models_dir: str | Path, device: str | torch.device) -> Callable[[Array], Array]:
    """A function from crops (N, 1, H, W) to the latents of a folder's autoencoder (N, C, h, w)."""
    autoencoder: Any = load_network(Path(models_dir) / PARTS["autoencoder"], "LatentAutoencoder").to(device)

    @torch.no_grad()
    def encode(crops: Array) -> Array:
        parts = torch.as_tensor(crops, dtype=torch.float32, device=device).split(64)
        return np.concatenate([autoencoder.encode_stage_2_inputs(part).double().cpu().numpy() for part in parts])

    return encode
