"""Tables of a cross-validation, by which weights are published that were trained on all patients but those of test.

Such weights have seen every case of training and validation; what may be said of them is what the weights of the folds,
trained alike on the other folds, say of the cases left out. One table has probabilities, another diameters, as
``benchmarks/fold_choice.py`` writes them; beside each stands how it was made.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scripts.comparators.tables import read_table, refuse_other_table, table_record
from scripts.errors import listed
from scripts.evaluation.nodules.growth import Growth, Sizes, measure_all
from scripts.evaluation.sections import open_sections
from scripts.results.reference import PublishedReferenceError

SAMPLING = ("num_runs", "num_steps", "solver", "guidance_scale", "image_size")
"""What a table of generated images says of how they were made, under ``sampling``."""

DIAMETERS = ("long", "perpendicular")
"""Columns of a table of sizes, in mm."""

SECTIONS = ("training", "validation")
"""Whose cases a table has, each by weights that did not see its patient."""


def sampling_of(table: str | Path) -> dict[str, Any] | None:
    """How the images were made that a table speaks of; None where nothing stands beside it that says so.

    Raises:
        PublishedReferenceError: it says only a part.
    """
    found = table_record(table).get("sampling")
    if found is None:
        return None
    if missing := [name for name in SAMPLING if name not in found]:
        raise PublishedReferenceError(
            f"{Path(table).with_suffix('.json')}: sampling has no {', '.join(missing)}; expected how the images of the "
            "table were made, as benchmarks/fold_choice.py writes it."
        )
    return {name: found[name] for name in SAMPLING}


def measured_by_tables(dataset_dir: str | Path, image_size: int, tables: Mapping[str, str | Path]) -> Growth:
    """The nodules of training and validation: real ones measured here, generated ones by tables.

    Args:
        tables: by guidance scale, of :data:`DIAMETERS`.

    Raises:
        ComparatorError: a table lacks a case.
        PublishedReferenceError: a diameter is none, or a table is of another guidance scale.
    """
    study = open_sections(dataset_dir, SECTIONS, image_size)
    assert study.spacing is not None
    real = {"real_baseline": study.baseline[None], "real_follow_up": study.follow_up[None]}
    known = {scale: _sizes(path, float(scale), study.cases.ids) for scale, path in tables.items()}
    return Growth(measure_all(real, study.spacing) | known, study, None)


def _sizes(path: str | Path, scale: float, case_ids: list[str]) -> Sizes:
    refuse_other_table(path, {"sampling": (sampling_of(path) or {}) | {"guidance_scale": scale}})
    long, perpendicular = (read_table(path, case_ids, axis) for axis in DIAMETERS)
    right = ((long > 0) & (perpendicular > 0) & np.isfinite(long + perpendicular)).all(axis=0)
    if odd := [case_ids[index] for index in np.flatnonzero(~right)]:
        raise PublishedReferenceError(f"{path}: expected diameters in mm above 0; those of {listed(odd)} are none.")
    everywhere = np.ones_like(long, dtype=bool)
    return Sizes(long, perpendicular, np.full_like(long, np.nan), everywhere, ~everywhere)
