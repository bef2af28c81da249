"""What publishing is told of generated images of held-out cases: predictions, or tables of a cross-validation.

Predictions are of the validation section. Weights that were trained on all patients but those of test have seen every
case of it; what may be said of them is what the weights of folds, trained alike on the other folds, say of the cases
left out. One table has probabilities, another diameters, as ``benchmarks/fold_choice.py`` writes them; beside each
stands how it was made: ``dataset``, its digest; ``sampling`` of the images; ``conditioner``, settings of the weights',
as far as folds differ in them; ``note``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scripts.arrays import Array
from scripts.comparators.tables import read_table, refuse_other_table, table_record
from scripts.conditioning.settings import read_settings
from scripts.data.digest import digest_dataset
from scripts.diffusion.settings import sampling_settings
from scripts.errors import listed
from scripts.evaluation.nodules.forecasts import Section
from scripts.evaluation.nodules.growth import Growth, Sizes, measure_all
from scripts.evaluation.sections import open_section, open_sections
from scripts.evaluation.study import Study
from scripts.fingerprint import comparable
from scripts.predictions import read_predictions, read_provenance
from scripts.results.held_out import held_out_growth
from scripts.results.reference import SAMPLING, PublishedReferenceError, sampled
from scripts.results.size import choose_size_guidance
from scripts.weights.parts import PARTS, digest_parts

logger = logging.getLogger(__name__)

DIAMETERS = ("long", "perpendicular")
"""Columns of a table of sizes, in mm."""

HELD_OUT = "validation"
"""The section on which what has no out-of-fold table is judged."""

ON_HELD_OUT = (
    f"{HELD_OUT} section, not cross-validated: no weights were fitted on it, but epochs and settings were chosen by it"
)
"""In words, which cases these are."""

SECTIONS = ("training", "validation")
"""Whose cases a table has, each by weights that did not see its patient."""


def held_out_images(
    dataset_dir: str | Path,
    folder: Path,
    image_size: int,
    predictions_dir: str | Path,
    tables: Mapping[str, str | Path],
    size_predictions: Sequence[str | Path],
    size_tables: Mapping[Any, str | Path],
) -> tuple[Array | None, dict[str, Any], dict[str, Any]]:
    """What publishing is told of generated images of held-out cases.

    Args:
        dataset_dir, predictions_dir, tables, size_predictions, size_tables: see
            :func:`scripts.results.publish.publish_reference`.
        folder: of the weights.

    Returns:
        Images of the validation section, None where a table speaks for them; how they were made; and the entries
        ``growth`` and ``size`` of reference.json.

    Raises:
        UserError: what is given does not go together, or was not made by these weights.
    """
    made_by = None
    if generated := tables.get("generated"):
        made_by = sampling_of(generated)
        _refuse_other_conditioner(generated, folder)
        if made_by is None:
            logger.warning(
                f"{generated}: nothing beside it says how its images were sampled; taken for {predictions_dir}'s."
            )
    if made_by and size_predictions:
        raise PublishedReferenceError(
            f"size_predictions: {tables['generated']} tells of other cases, out of fold; give size_tables of the same."
        )
    if made_by:
        scales = by_scale(size_tables, made_by["guidance_scale"])
        _refuse_other_settings(tables["generated"], made_by, folder)
        for path in scales.values():
            _refuse_other_conditioner(path, folder)
        for scale, path in scales.items():
            refuse_other_table(path, {"sampling": {**made_by, "guidance_scale": float(scale)}})
        return None, made_by, _sizes_by_tables(dataset_dir, image_size, scales)
    if size_tables:
        raise PublishedReferenceError(
            "size_tables: expected a table of generated images too, with a .json beside it that says how they were "
            "made (sampling); else sizes are told of validation predictions (size_predictions)."
        )
    study = open_section(dataset_dir, HELD_OUT, image_size)
    samples = read_predictions(predictions_dir, study.cases.ids)
    made_by = _same_weights(predictions_dir, study.cases.ids, folder)
    return samples, made_by, _sizes(study, {predictions_dir: samples}, size_predictions, folder)


def _refuse_other_settings(table: str | Path, made_by: Mapping[str, Any], folder: Path) -> None:
    """Refuses a table of images at another guidance scale or size than the weights bring, as their results would."""
    settings = sampling_settings(folder)
    for name in ("guidance_scale", "image_size"):
        if made_by[name] != settings[name]:
            raise PublishedReferenceError(
                f"{table}: made at {name} {made_by[name]}, but the weights in {folder} bring {settings[name]}. Train "
                f"the conditional stage with --{name} {made_by[name]}, or give the table of their {name}."
            )


def _refuse_other_conditioner(table: str | Path, folder: Path) -> None:
    """Refuses a table of weights whose conditioner was trained otherwise, as without prompts; some do not say."""
    own = read_settings(folder / PARTS["conditioner"]) or {}
    for name, value in table_record(table).get("conditioner", {}).items():
        if own.get(name, value) != value:
            raise PublishedReferenceError(
                f"{table}: of weights trained with {name} {value}, but those in {folder} have {own[name]}. Train the "
                "conditional stage with the overlay of the table's (no_prompts.yaml), or give the table of theirs."
            )


def _sizes(
    study: Study, images: Mapping[str | Path, Array], others: Sequence[str | Path], models_dir: Path
) -> dict[str, dict[str, Any] | None]:
    """The entry `growth` and, if there are predictions to choose among, `size`.

    Args:
        images: by folder, those of the guidance of the outcome.
        others: folders with images that are guided otherwise.
    """
    ids = study.cases.ids
    folders: dict[str, str | Path] = {}
    sampling: dict[str, dict[str, Any]] = {}
    for each in (*images, *others):
        made = _same_weights(each, ids, models_dir)
        scale = f"{made['guidance_scale'] or 0:g}"
        if scale in folders:
            raise PublishedReferenceError(
                f"{each}: generated at guidance scale {scale}, as {folders[scale]}; expected another one."
            )
        folders[scale], sampling[scale] = each, {name: made.get(name) for name in ("solver", "num_steps")}
    read = {scale: images[each] if each in images else read_predictions(each, ids) for scale, each in folders.items()}
    return _entries(Section(study, read).measured(), sampling, ON_HELD_OUT)


def _sizes_by_tables(
    dataset_dir: str | Path, image_size: int, tables: Mapping[str, str | Path]
) -> dict[str, dict[str, Any] | None]:
    """The entry `growth` and, if there are tables to choose among, `size`, out of fold.

    Args:
        tables: of :func:`scripts.results.sources.by_scale`.
    """
    if not tables:
        logger.warning("Without size_tables nothing is published of growth.")
        return {"growth": None}
    measured = measured_by_tables(dataset_dir, image_size, tables, digest_dataset(dataset_dir))
    made = {each: sampling_of(path) or {} for each, path in tables.items()}
    sampling = {each: {name: made[each].get(name) for name in ("solver", "num_steps")} for each in tables}
    return _entries(measured, sampling, on_table(next(iter(tables.values()))))


def _entries(measured: Growth, sampling: Mapping[str, Any], on: str) -> dict[str, dict[str, Any] | None]:
    """The entry `growth` and, if there are guidance scales to choose among, `size`.

    Args:
        sampling: by guidance scale, that of the outcome first.
        on: in words, which cases were measured.
    """
    first, *others = sampling
    entries = {"growth": held_out_growth(measured, first, on)}
    if others:
        entries["size"] = {**choose_size_guidance(measured, list(sampling), on), "sampling": sampling}
    return entries


def _same_weights(predictions_dir: str | Path, case_ids: Sequence[str], folder: Path) -> dict[str, Any]:
    """The settings of sampling that all predictions share, after a check that the folder's weights made them."""
    made = [comparable(read_provenance(predictions_dir, case_id)) for case_id in case_ids]
    for each in made:
        each.pop("case_sha256", None)
    weights = digest_parts(folder)
    if any(each != made[0] for each in made) or made[0].get("weights") != weights:
        raise PublishedReferenceError(
            f"{predictions_dir}: not all of its cases were generated alike by the weights in {folder}. Run inference "
            "again with these weights."
        )
    return sampled(made[0])


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
    return sampled(found)


def on_table(table: str | Path) -> str:
    """In words, which cases a table is of, and what has to be said beside its figures, as on which it was chosen."""
    return "; ".join(filter(None, ("out-of-fold table over training and validation", table_record(table).get("note"))))


def by_scale(tables: Mapping[Any, str | Path], scale: float) -> dict[str, str | Path]:
    """Tables of sizes by guidance scale, in one form, that of the outcome first.

    Args:
        tables: keys may be numbers or text.
        scale: of the outcome, whose table must be there if any is.

    Raises:
        PublishedReferenceError: a key is no number, two are the same, or the outcome's is missing.
    """
    found: dict[str, str | Path] = {}
    for key, path in tables.items():
        try:
            name = f"{float(key):g}"
        except (TypeError, ValueError) as error:
            raise PublishedReferenceError(f"size_tables: {key!r} is no guidance scale; expected a number.") from error
        if name in found:
            raise PublishedReferenceError(f"size_tables: two tables of guidance scale {name}; expected one.")
        found[name] = path
    if found and f"{scale:g}" not in found:
        raise PublishedReferenceError(
            f"size_tables: none of guidance scale {scale:g}, that of the outcome; expected it among {', '.join(found)}."
        )
    return {name: found[name] for name in sorted(found, key=lambda each: each != f"{scale:g}")}


def measured_by_tables(
    dataset_dir: str | Path, image_size: int, tables: Mapping[str, str | Path], digest: str
) -> Growth:
    """The nodules of training and validation: real ones measured here, generated ones by tables.

    Args:
        tables: by guidance scale, of :data:`DIAMETERS`.
        digest: of the dataset.

    Raises:
        ComparatorError: a table lacks a case, or is of another guidance scale or dataset.
        PublishedReferenceError: a diameter is none.
    """
    study = open_sections(dataset_dir, SECTIONS, image_size)
    assert study.spacing is not None
    real = {"real_baseline": study.baseline[None], "real_follow_up": study.follow_up[None]}
    known = {scale: _read_sizes(path, float(scale), digest, study.cases.ids) for scale, path in tables.items()}
    return Growth(measure_all(real, study.spacing) | known, study, None)


def _read_sizes(path: str | Path, scale: float, digest: str, case_ids: list[str]) -> Sizes:
    refuse_other_table(path, {"dataset": digest, "sampling": (sampling_of(path) or {}) | {"guidance_scale": scale}})
    long, perpendicular = (read_table(path, case_ids, axis) for axis in DIAMETERS)
    right = ((long > 0) & (perpendicular > 0) & np.isfinite(long + perpendicular)).all(axis=0)
    if odd := [case_ids[index] for index in np.flatnonzero(~right)]:
        raise PublishedReferenceError(f"{path}: expected diameters in mm above 0; those of {listed(odd)} are none.")
    everywhere = np.ones_like(long, dtype=bool)
    return Sizes(long, perpendicular, np.full_like(long, np.nan), everywhere, ~everywhere)
