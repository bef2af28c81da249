"""Files of results: ``<predictions_dir>/<case_id>/result.json`` and a row of ``<predictions_dir>/results.csv`` a case.

Both are made from what was saved of each case, so that cases that were there already get theirs too; what is up to date
is not made again, and then no network is opened.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.files import read_mapping, write_json, write_text
from scripts.fingerprint import comparable
from scripts.predictions import PredictionError, read_provenance
from scripts.results.case import FORMAT, PAGE, RESULT, Item, Results
from scripts.results.reference import LATENTS, REFERENCE, digest_files
from scripts.results.size import refuse_other_sizes
from scripts.results.table import as_csv, columns, headline

logger = logging.getLogger(__name__)

TABLE = "results.csv"
"""File in a folder of predictions."""

SETTINGS = ("version", "guidance_scale", "solver", "num_steps", "seed")
"""Of a prediction's provenance, what a result repeats."""


def write_results(
    predictions_dir: str | Path,
    items: Sequence[Item],
    methods: Results,
    pages: bool = False,
    size_dir: str | Path | None = None,
) -> None:
    """Writes result.json of each case that has none of the same prediction, record and weights, and results.csv.

    Args:
        items: of :func:`scripts.data.inference_items`; each has a prediction.
        methods: of the weights; nothing of them is opened where all results are there.
        pages: also draw result.pdf of each case, a page to print.
        size_dir: predictions of the same cases, guided for size, from which growth is measured.
    """
    folder = Path(predictions_dir)
    weights = {**digest_files(methods.models_dir), **_digests(methods.models_dir)}
    if size_dir is not None:
        refuse_other_sizes(size_dir, folder, [item["case_id"] for item in items])
    digests = {item["case_id"]: _digest_inputs(folder, item, weights, size_dir) for item in items}
    if rest := [item for item in items if not _is_done(folder / item["case_id"], digests[item["case_id"]])]:
        for item, result in methods.of(rest, folder, size_dir):
            made = read_provenance(folder, item["case_id"])
            origin: dict[str, Any] = {
                "sha256": digests[item["case_id"]],
                "prediction_sha256": _digest(comparable(made)),
            }
            origin |= {name: made.get(name) for name in SETTINGS}
            write_json(folder / item["case_id"] / RESULT, rounded({**result, "made_from": origin}))
            (folder / item["case_id"] / PAGE).unlink(missing_ok=True)
    results = [read_mapping(folder / item["case_id"] / RESULT, PredictionError) for item in items]
    table = as_csv([columns(result) for result in results])
    if not (folder / TABLE).is_file() or (folder / TABLE).read_bytes() != table.encode():
        write_text(folder / TABLE, table)
    for item in items if pages else ():
        if not (folder / item["case_id"] / PAGE).is_file():
            from scripts.results.page import write_page  # draws

            write_page(folder / item["case_id"], item["image"])
    if len(results) == 1:
        logger.info(headline(results[0]))


def add_flags(case_dir: str | Path, more: Sequence[str]) -> None:
    """Adds flags to a written result.json, each once, and to the row of the case in results.csv, if there is one.

    A page that was drawn before would lack them, so it is removed; :func:`scripts.results.write_page` draws it again.

    Args:
        case_dir: the case's folder, ``<predictions_dir>/<case_id>``.
        more: plain sentences.
    """
    path = Path(case_dir) / RESULT
    result = read_mapping(path, PredictionError)
    result["flags"] += [sentence for sentence in more if sentence not in result["flags"]]
    write_json(path, result)
    path.with_name(PAGE).unlink(missing_ok=True)
    table = Path(case_dir).parent / TABLE
    if table.is_file():
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        write_text(table, as_csv([columns(result) if row["case_id"] == result["case_id"] else row for row in rows]))


def rounded(content: Any) -> Any:
    """Content of a JSON file with its numbers to five digits.

    >>> rounded({"change": [0.1234567, 12345.678], "n": 7})
    {'change': [0.12346, 12346.0], 'n': 7}
    """
    if isinstance(content, Mapping):
        return {name: rounded(value) for name, value in content.items()}
    if isinstance(content, list):
        return [rounded(value) for value in content]
    return float(f"{content:.5g}") if isinstance(content, float) else content


def _digest_inputs(folder: Path, item: Item, weights: Mapping[str, str], size_dir: str | Path | None) -> str:
    """The digest of all that a case's result depends on."""
    made = {"format": FORMAT, "prediction": comparable(read_provenance(folder, item["case_id"]))}
    if size_dir is not None:
        made["size"] = comparable(read_provenance(size_dir, item["case_id"]))
    return _digest({**made, "ehr": item["ehr"], "interval_days": item["interval_days"], **weights})


def _digests(models_dir: str | Path) -> dict[str, str]:
    """Digests of what single cases are compared with."""
    paths = (Path(models_dir) / name for name in (REFERENCE, LATENTS))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.is_file()}


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _is_done(folder: Path, digest: str) -> bool:
    path = folder / RESULT
    return path.is_file() and read_mapping(path, PredictionError).get("made_from", {}).get("sha256") == digest
