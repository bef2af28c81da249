"""Which cases trained some weights: digests of their crops, kept beside the weights, by which an evaluation knows them.

``models_dir/training_cases/<weights>.json`` has the digest of the weights and those of all crops that they, or weights
that they go on from, were trained on. A digest of pixels cannot be turned back into an image, and only who has a crop
can tell that it is among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from scripts.data.datalist import load_datalist
from scripts.data.digest import crops_of, digest_crop
from scripts.errors import UserError
from scripts.files import read_mapping, write_json
from scripts.fingerprint import digest_weights

FOLDER = "training_cases"
"""Name of the folder beside the weights."""

TRAINED = (
    *("autoencoder.safetensors", "unet_conditional.safetensors", "classifier.safetensors"),
    *("direct_classifier.safetensors", "record_only.json"),
)
"""Weights files that have an effect on an evaluation; the last two are rows of their own, where they are published."""


def write_training_cases(
    weights: str | Path,
    dataset_dir: str | Path,
    image_size: int,
    earlier: Mapping[str, tuple[str | Path, str]] | None = None,
) -> Path:
    """Writes the digests of a dataset's training crops beside the weights that were trained on them.

    Args:
        weights: the file.
        image_size: side in pixels of the central square that training sees.
        earlier: by name, weights that training went on from: their file, and the digest that they had. What is listed
            beside them is added; where nothing is, or of crops of another size, ``unknown`` has the name.

    Returns:
        The file that was written. Its digests are sorted, so that their order says nothing.
    """
    weights, folder, datalist = Path(weights), Path(dataset_dir), load_datalist(dataset_dir)
    entries = [*datalist["training"], *datalist.get("unpaired", [])]
    digests = {digest_crop(folder / crop, image_size) for entry in entries for crop in crops_of(entry)}
    unknown = set()
    for name, (path, digest) in (earlier or {}).items():
        known = _listed(Path(path), digest)
        if known is None or known["image_size"] != image_size:
            unknown.add(name)
        else:
            digests.update(known["crops"])
            unknown.update(known.get("unknown", ()))
    content = {"weights": digest_weights(weights), "image_size": image_size, "crops": sorted(digests)}
    content |= {"unknown": sorted(unknown)} if unknown else {}
    path = weights.parent / FOLDER / f"{weights.stem}.json"
    write_json(path, content)
    return path


def trained_on(dataset_dir: str | Path, cases: Iterable[Mapping[str, Any]], models_dir: str | Path) -> dict[str, Any]:
    """How many cases trained the weights in a folder: their baseline or their follow-up is among the training crops.

    Args:
        cases: entries of the dataset's datalist.

    Returns:
        ``n_cases``; ``n_trained``, those that trained any of :data:`TRAINED`; and ``unknown``, the weights, and those
        under them, of which it is not known what trained them, since no list of theirs is there.
    """
    cases, folder = list(cases), Path(dataset_dir)
    known: dict[int, set[str]] = {}
    unknown = []
    for name in TRAINED:
        weights = Path(models_dir) / name
        if not weights.is_file():
            continue
        listed = _listed(weights)
        if listed is None:
            unknown.append(weights.stem)
        else:
            known.setdefault(listed["image_size"], set()).update(listed["crops"])
            unknown += [f"{each} under {weights.stem}" for each in listed.get("unknown", ())]
    trained = [
        any(digest_crop(folder / crop, size) in digests for size, digests in known.items() for crop in crops_of(case))
        for case in cases
    ]
    return {"n_cases": len(cases), "n_trained": sum(trained), "unknown": unknown}


def trained_sentence(seen: Mapping[str, Any]) -> str:
    """How many of the cases trained the weights, in words, given what :func:`trained_on` found.

    >>> trained_sentence({"n_cases": 40, "n_trained": 3, "unknown": []})
    '3 of 40 cases trained these weights'
    """
    return f"{seen['n_trained']} of {seen['n_cases']} cases trained these weights"


def _listed(weights: Path, digest: str | None = None) -> dict[str, Any] | None:
    """What was noted of the weights in a file; None where nothing was, or of others than ``digest``, the file's own."""
    path = weights.parent / FOLDER / f"{weights.stem}.json"
    if not path.is_file():
        return None
    content = read_mapping(path)
    if not {"weights", "image_size", "crops"} <= content.keys():
        raise UserError(f"{path}: expected weights, image_size and crops. Was it copied whole?")
    return content if content["weights"] == (digest or digest_weights(weights)) else None
