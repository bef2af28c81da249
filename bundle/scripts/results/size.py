"""Guidance for size: generated images from which growth is measured may be guided otherwise than those of the outcome.

Guidance by the record makes images tell the outcome, and exaggerates. Which guidance tells sizes best is chosen on the
validation section by the fair CRPS of the long diameter, and published in reference.json beside that of the outcome,
which the weights bring.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.errors import listed
from scripts.evaluation.nodules.growth import Growth
from scripts.evaluation.statistics.forecasts import crps
from scripts.files import read_mapping
from scripts.fingerprint import comparable, differences
from scripts.predictions import PredictionError, read_provenance
from scripts.results.held_out import held_out_growth
from scripts.results.reference import REFERENCE, PublishedReferenceError
from scripts.weights.parts import digest_parts

logger = logging.getLogger(__name__)


def choose_size_guidance(growth: Growth, scales: Sequence[str], on: str) -> dict[str, Any]:
    """The entry `size` of reference.json.

    Args:
        growth: held-out cases, measured, with images of two runs or more by guidance scale.
        scales: guidance scales, names of these images; the first one is the outcome's, which stays where nothing can be
            measured.
        on: in words, which cases these are.

    Returns:
        ``guidance_scale``, the one of the least mean fair CRPS; ``crps_mm`` by guidance scale; ``n`` nodules that can
        be measured; ``growth`` of the chosen one, of :func:`scripts.results.held_out.held_out_growth`, which says that
        it was chosen on these nodules.

    Raises:
        PublishedReferenceError: images of a single run.
    """
    if single := [scale for scale in scales if len(growth.measured[scale].long) < 2]:
        raise PublishedReferenceError(
            f"guidance {listed(single)}: there is one run a case, expected 2 or more for a fair CRPS."
        )
    use = growth.measurable
    if not use.any():
        logger.warning(f"No nodule can be measured at both times, so {scales[0]} stays the guidance scale for size.")
        return {"guidance_scale": float(scales[0]), "crps_mm": {}, "n": 0, "growth": None}
    truth = growth.after["measured"].long[0, use]
    scores = {scale: float(crps(growth.measured[scale].long[:, use], truth).mean()) for scale in scales}
    best = min(scores, key=lambda scale: scores[scale])
    optimistic = f"{on}; of {len(scales)} guidance scales chosen on these nodules, so that its figures are optimistic"
    return {
        "guidance_scale": float(best),
        "crps_mm": {scale: float(f"{score:.4g}") for scale, score in scores.items()},
        "n": int(use.sum()),
        "growth": held_out_growth(growth, best, optimistic),
    }


def size_guidance(models_dir: str | Path) -> float:
    """The guidance scale that was published for size with the weights in a folder.

    Raises:
        PublishedReferenceError: none was, or it is of other weights.
    """
    path = Path(models_dir) / REFERENCE
    content = read_mapping(path, PublishedReferenceError) if path.is_file() else {}
    found = content.get("size")
    if found is None:
        raise PublishedReferenceError(
            f"{path}: has no guidance scale for size. Publish one (publish_reference.yaml with --size_predictions), or "
            "give --guidance_scale."
        )
    made, weights = content["made_from"]["weights"], digest_parts(models_dir)
    if other := [name for name, digest in weights.items() if made.get(name) != digest]:
        raise PublishedReferenceError(
            f"{path}: its guidance scale for size is of other weights ({listed(other)}). Publish one for these."
        )
    return float(found["guidance_scale"])


def refuse_other_sizes(size_dir: str | Path, predictions_dir: str | Path, case_ids: Sequence[str]) -> None:
    """Refuses images for size that differ from those for the outcome in more than guidance, before anything is written.

    Raises:
        PredictionError: names the case and what differs.
    """
    for case_id in case_ids:
        if not (made := comparable(read_provenance(size_dir, case_id))):
            raise PredictionError(
                f"{size_dir}: has no follow-ups of {case_id}. Run inference there first, with --for_size True."
            )
        other = comparable(read_provenance(predictions_dir, case_id))
        for each in (made, other):
            each.pop("guidance_scale", None)
        if found := differences(other, made):
            raise PredictionError(
                f"{size_dir}: {case_id} was not made as in {predictions_dir}: {listed(found)}. Run inference again."
            )
