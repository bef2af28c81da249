"""Publishing, beside the weights, what single cases are judged by: calibration, held-out AUROC, how training cases are.

Only aggregates are written: no latent, no number of a case, and percentiles of 100 cases or more.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scripts.arrays import Array
from scripts.comparators.record import out_of_fold, record_regression, with_outcome
from scripts.comparators.regression import RecordRegression
from scripts.comparators.tables import read_table, refuse_other_table, table_record
from scripts.data.datalist import load_datalist, outcome
from scripts.data.digest import digest_dataset
from scripts.data.transforms import baseline_crops
from scripts.errors import listed
from scripts.files import write_json, write_tensors
from scripts.fingerprint import code_version
from scripts.results.case import encoder
from scripts.results.held_out import Known, compare, score, thresholds
from scripts.results.probabilities import Readers
from scripts.results.reference import (
    FILES,
    FORMAT,
    LATENTS,
    METHODS,
    REFERENCE,
    PublishedReferenceError,
    digest_files,
    pooled,
)
from scripts.results.sources import HELD_OUT, ON_HELD_OUT, held_out_images, on_table
from scripts.results.training import describe_latents, describe_training
from scripts.training.cases import trained_on, trained_sentence, write_training_cases
from scripts.weights.checkpoints import read_metadata, trained_image_size
from scripts.weights.parts import PARTS, digest_parts

logger = logging.getLogger(__name__)

TRAINED_HERE = (PARTS["autoencoder"], PARTS["unet_conditional"], FILES["classifier"])
"""Files that must not say that they were trained on another dataset."""


def publish_reference(
    dataset_dir: str | Path,
    models_dir: str | Path,
    predictions_dir: str | Path,
    direct: str | Path,
    tables: Mapping[str, str | Path] | None = None,
    folds: int = 5,
    resamples: int = 2000,
    device: str | torch.device = "cpu",
    size_predictions: Sequence[str | Path] = (),
    size_tables: Mapping[str, str | Path] | None = None,
) -> None:
    """Writes record_only.json, direct_classifier.safetensors, reference.json and reference.safetensors to models_dir.

    Of the first two it notes what trained them (:mod:`scripts.training.cases`), unless the direct classifier does not
    say on which dataset that was.

    Args:
        dataset_dir: that the weights were trained on. Its validation section may be empty where tables say all.
        predictions_dir: has follow-ups of the validation section; the test section is to choose nothing. It is not read
            where the table of generated images says how they were made.
        direct: weights of one training of the direct classifier; without the file none are published, by tables or not.
        tables: by method, tables of probabilities (:mod:`scripts.comparators.tables`) of all cases of training and
            validation, each by weights that were not fitted on its patient; they replace the section. A table's runs
            are averaged, as a case's runs are.
        folds: of the record alone.
        resamples: of the bootstrap over patients.
        size_predictions: folders with follow-ups of the validation section by the same weights, guided otherwise,
            among which, and ``predictions_dir``, the one for size is chosen; see :mod:`scripts.results.size`.
        size_tables: by guidance scale, tables of diameters (:mod:`scripts.results.sources`), where none are read.

    Raises:
        UserError: weights of another dataset or of held-out cases, or predictions or tables that do not fit.
    """
    tables = _known(tables or {}, direct)
    folder, datalist, digest = Path(models_dir), load_datalist(dataset_dir), digest_dataset(dataset_dir)
    cases = with_outcome([*datalist["training"], *datalist["validation"]])
    crossed = {name: _out_of_fold(path, digest, [case["case_id"] for case in cases]) for name, path in tables.items()}
    _refuse_other_dataset(digest, *(folder / each for each in TRAINED_HERE), Path(direct))
    _refuse_trained(trained_on(dataset_dir, datalist[HELD_OUT], folder), folder)
    image_size = trained_image_size(folder / FILES["classifier"])
    given = (image_size, predictions_dir, tables, size_predictions, size_tables or {})
    samples, made_by, sizes = held_out_images(dataset_dir, folder, *given)
    named = {"name": datalist.get("name"), "simulated": datalist.get("simulated")}
    RecordRegression.of(record_regression(dataset_dir, folds)).write(folder / FILES["record_only"], **named)
    _copy_direct(dataset_dir, Path(direct), folder, image_size, digest)
    said = _said(dataset_dir, Readers(folder, image_size, device), samples, image_size)
    known, origin = _held_out(said, datalist, crossed, folds)
    content: dict[str, Any] = {
        **{"format": FORMAT, "dataset": named["name"], "simulated": named["simulated"]},
        "methods": {name: score(each, cases, origin[name], resamples) for name, each in known.items()},
        "compared": compare(known, cases),
        "thresholds": _thresholds(said, datalist, known, tables),
        **sizes,
        **_describe(dataset_dir, folder, image_size, device),
        "made_from": {"dataset": digest, "weights": {**digest_parts(folder), **digest_files(folder)}}
        | {"sampling": made_by, **code_version()},
    }
    write_json(folder / REFERENCE, content)
    _log(folder / REFERENCE, content["compared"])


def _log(path: Path, compared: Mapping[str, Any]) -> None:
    found = ", ".join(f"{name} {value:.3f}" for name, value in compared["auroc"].items())
    logger.info(f"Wrote {path}; AUROC on {compared['n']} held-out cases: {found or 'none'}")


def _said(
    dataset_dir: str | Path, readers: Readers, samples: Array | None, image_size: int
) -> list[dict[str, dict[str, Any]]]:
    """What each method says of the validation section's cases; nothing where it is empty."""
    if not (ehrs := [case["ehr"] for case in load_datalist(dataset_dir)[HELD_OUT]]):
        return []
    return readers.probabilities(samples, baseline_crops(dataset_dir, HELD_OUT, image_size), ehrs)


def _held_out(
    said: Sequence[Mapping[str, Mapping[str, Any]]],
    datalist: Mapping[str, Any],
    crossed: Mapping[str, tuple[Known, str]],
    folds: int,
) -> tuple[dict[str, Known], dict[str, str]]:
    """Probabilities by method and case, and in words which cases these are."""
    held_out = [case["case_id"] for case in with_outcome(datalist[HELD_OUT])]
    by_case = dict(zip([case["case_id"] for case in datalist[HELD_OUT]], said, strict=True))
    known: dict[str, Known] = {}
    origin = {}
    for name in ("direct_classifier", "generated", "baseline"):
        values = {case_id: by_case[case_id][name].get("uncalibrated") for case_id in held_out}
        known[name] = {case_id: value for case_id, value in values.items() if value is not None}
        origin[name] = ON_HELD_OUT
    cases = with_outcome([*datalist["training"], *datalist["validation"]])
    ids = [case["case_id"] for case in cases]
    if (by_record := out_of_fold(cases, folds)) is not None:
        known["record_only"] = dict(zip(ids, by_record.tolist(), strict=True))
        origin["record_only"] = f"{folds}-fold cross-validation over training and validation, by patient"
    for name, (probabilities, on) in crossed.items():
        known[name], origin[name] = probabilities, on
    return {name: each for name, each in known.items() if each}, origin


def _thresholds(
    said: Sequence[Mapping[str, Mapping[str, Any]]],
    datalist: Mapping[str, Any],
    known: Mapping[str, Known],
    tables: Mapping[str, str | Path],
) -> dict[str, Any]:
    """The entry `thresholds`: those of each method by rule, and in words on which cases they were fixed.

    Args:
        said: of the validation section; where it has no cases, all is out of fold.
        known: by method, probabilities; of methods in ``tables`` they are out of fold, and replace the section.
        tables: by method, where these stood, with what has to be said of them.
    """
    crossed = {name: values for name, values in known.items() if name in tables or not said}
    sections = {HELD_OUT: datalist[HELD_OUT], "out of fold": [*datalist["training"], *datalist[HELD_OUT]]}
    on: dict[tuple[str, str], list[str]] = {}
    found = {}
    for name in METHODS:
        place = "out of fold" if name in crossed else HELD_OUT
        labels = np.array([outcome(case) for case in sections[place]])
        values = (
            np.array([crossed[name].get(case["case_id"], np.nan) for case in sections[place]])
            if name in crossed
            else np.array([case[name].get("uncalibrated", np.nan) for case in said])
        )
        told = np.isfinite(values) & np.isfinite(labels)
        if limits := thresholds(values[told], labels[told]):
            found[name] = limits
            note = table_record(tables[name]).get("note") if name in tables else None
            on.setdefault((place, f"; {note}" if note else ""), []).append(name)
    words = {HELD_OUT: f"the {HELD_OUT} section", "out of fold": "cross-validation over training and validation"}
    simulated = f"; {datalist['simulated']}" if datalist.get("simulated") else ""
    places = [
        f"{words[place]} of {datalist.get('name')} ({_counted(sections[place])}"
        f"{': ' + ', '.join(names) if len(on) > 1 else ''}{simulated}{note})"
        for (place, note), names in on.items()
    ]
    return {"on": " and ".join(places), "methods": found}


def _counted(cases: Sequence[Mapping[str, Any]]) -> str:
    labels = np.array([outcome(case) for case in cases])
    return f"{int(np.isfinite(labels).sum())} cases, {int((labels == 1).sum())} malignant"


def _describe(
    dataset_dir: str | Path, folder: Path, image_size: int, device: str | torch.device
) -> dict[str, dict[str, Any] | None]:
    """The entries `training` and `latents`; writes reference.safetensors, or removes an older one."""
    baselines = baseline_crops(dataset_dir, "training", image_size)
    patients = [str(case["patient_id"]) for case in load_datalist(dataset_dir)["training"]]
    latents = describe_latents(pooled(encoder(folder, device)(baselines)), patients)
    (folder / LATENTS).unlink(missing_ok=True)
    if latents is not None:
        write_tensors(
            folder / LATENTS, {name: torch.from_numpy(each.astype(np.float32)) for name, each in latents[1].items()}
        )
    return {"training": describe_training(dataset_dir, baselines), "latents": None if latents is None else latents[0]}


def _known(tables: Mapping[str, str | Path], direct: str | Path) -> dict[str, str | Path]:
    """The tables, unless one is of no method, or of the direct classifier where there is none to publish."""
    known = [name for name in METHODS if name != "brock"]
    if unknown := [name for name in tables if name not in known]:
        raise PublishedReferenceError(f"tables: no such method: {listed(unknown)}; expected {', '.join(known)}.")
    if "direct_classifier" in tables and not Path(direct).is_file():
        raise PublishedReferenceError(
            f"tables: {tables['direct_classifier']} is of the direct classifier, but {direct}, which would be "
            "published, is not there. Train it (direct_classifier.yaml), or leave the table out."
        )
    return dict(tables)


def _out_of_fold(path: str | Path, digest: str, case_ids: Sequence[str]) -> tuple[Known, str]:
    """A table's probabilities, its runs averaged, and in words which cases these are of."""
    refuse_other_table(path, {"dataset": digest})
    return dict(zip(case_ids, read_table(path, case_ids).mean(axis=0).tolist(), strict=True)), on_table(path)


def _copy_direct(dataset_dir: str | Path, source: Path, folder: Path, image_size: int, digest: str) -> None:
    """Publishes weights of the direct classifier, or removes older ones where there are none.

    Notes what trained the record alone and, where it says that it was this dataset, the direct classifier.
    """
    target = folder / FILES["direct_classifier"]
    target.unlink(missing_ok=True)
    if source.is_file():
        shutil.copyfile(source, target)
    else:
        logger.warning(f"{source}: no such file, so none is published; direct_classifier.yaml trains it.")
    for name in ("record_only", "direct_classifier"):
        if name == "record_only" or _trained_on(target) == digest:
            write_training_cases(folder / FILES[name], dataset_dir, image_size)


def _refuse_other_dataset(digest: str, *paths: Path) -> None:
    """Refuses weights that say that they were trained on another dataset; those of versions before 0.7 do not say."""
    for path in paths:
        if (other := _trained_on(path)) not in (None, digest):
            raise PublishedReferenceError(
                f"{path}: trained on another dataset ({other[:12]}) than this one ({digest[:12]}), so that what "
                "is held out here may have been seen there. Give the dataset of its training."
            )


def _refuse_trained(seen: Mapping[str, Any], folder: Path) -> None:
    """Refuses weights that were trained on held-out cases, in this training or in one that it went on from."""
    if seen["n_trained"]:
        raise PublishedReferenceError(
            f"{folder}: {trained_sentence(seen)}, of the {HELD_OUT} section, so that they are not held out. Give "
            "weights that did not go on from such a training."
        )


def _trained_on(path: Path) -> str | None:
    """The digest of the dataset that weights say they were trained on; None where they do not, or are not there."""
    return (read_metadata(path)["extra"].get("record") or {}).get("dataset") if path.is_file() else None
