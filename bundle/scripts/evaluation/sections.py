"""A section of a dataset as it is evaluated, opened from its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scripts.data.datalist import DatalistError, load_datalist, pairs
from scripts.data.transforms import preprocessing
from scripts.evaluation.study import Cases, Study
from scripts.predictions import pixel_mm


def open_section(dataset_dir: str | Path, section: str, image_size: int) -> Study:
    """A section's cases and crops, with their spacing.

    Raises:
        DatalistError: the section is empty.
    """
    return open_sections(dataset_dir, (section,), image_size)


def open_sections(dataset_dir: str | Path, sections: Sequence[str], image_size: int) -> Study:
    """The cases and crops of several sections as one, as :func:`open_section`."""
    keys = ("baseline", "follow_up")
    load = preprocessing(keys, image_size)
    items = [item for section in sections for item in pairs(dataset_dir, section)]
    if not items:
        raise DatalistError(
            f"{dataset_dir}: its {' and '.join(sections)} section is empty; expected cases that no weights were fitted "
            "on."
        )
    loaded = [load({key: item[key] for key in keys}) for item in items]
    crops = {key: np.stack([np.asarray(item[key]) for item in loaded]) for key in keys}
    spacing = {key: np.stack([pixel_mm(item[key]) for item in loaded]) for key in keys}
    datalist = load_datalist(dataset_dir)
    cases = Cases.of([case for section in sections for case in datalist[section]])
    return Study(cases, crops["baseline"], crops["follow_up"], spacing=spacing)
