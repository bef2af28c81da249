"""A worker that copies a result instead of generating it: ``python copying.py CONFIG CASE_DIR COUNTS``."""

from __future__ import annotations

import logging
import shutil
import sys
from pathlib import Path
from typing import Any

import deploy
from deploy import dicom_case
from deploy.dicom_out import open_source, write_objects
from deploy.worker import Worker, read_config

assert deploy


def main(config: str, case_dir: str, counts: str) -> None:
    """Each result that is made is a file in ``counts``, named by its key and a number."""

    def predict(
        predictor: Any,
        series: Path,
        point: Any,
        record: Any,
        out: Path,
        dicom: Path,
        *,
        with_slice: bool,
        **options: Any,
    ):
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(Path(case_dir).parent, out)
        asked = dicom_case.ask(predictor, series, point, record, **options)
        write_objects(open_source(series, point), out / "nodule", dicom, asked.key, with_slice)
        Path(counts, asked.key).touch()

    dicom_case.predict = predict
    logging.basicConfig(level=logging.INFO)
    Worker(read_config(Path(config))).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
