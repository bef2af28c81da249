"""Fetches series from the Imaging Data Commons, one by one, through ``idc-index``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
from rich.progress import track

from data_prep.errors import DataError
from data_prep.nlst.series import EXTRA
from data_prep.unforeseen import Streak, UnforeseenError, ends_run
from scripts.files import write_atomically

SPARE_MB = 2048.0
"""Left free on the disk."""


def client() -> Any:
    """A client of the Imaging Data Commons.

    Raises:
        DataError: ``idc-index`` is not installed.
    """
    try:
        from idc_index import IDCClient
    except ImportError:
        raise DataError(f"idc-index is not installed, which fetches series: {EXTRA}.") from None
    return IDCClient()


def fetch(series: pd.DataFrame, folder: Path, source: Any) -> dict[str, str]:
    """Fetches series into a folder each, named by their UID; what is there in full is not fetched again.

    Args:
        series: ``series_uid``, ``slices`` and ``size_mb``.
        folder: where to.
        source: see :func:`client`.

    Returns:
        What went wrong, by UID: one series that fails does not stop the others.

    Raises:
        DataError: the disk is too small for what is missing, or full; or series in a row fail in the same way.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = series[[not (folder / uid).is_dir() for uid in series["series_uid"]]]
    need, free = float(wanted["size_mb"].sum()) + SPARE_MB, shutil.disk_usage(folder).free / 2**20
    if need > free:
        raise DataError(
            f"{folder}: {need / 1024:,.0f} GB are needed for {len(wanted):,} series, {free / 1024:,.0f} GB are free. "
            "Name a larger disk (--dicom), or take fewer (--preset)."
        )
    failed: dict[str, str] = {}
    streak = Streak()
    for row in track(list(wanted.itertuples()), description="Fetching series"):
        cause = ""
        try:
            with write_atomically(folder / row.series_uid) as target:
                target.mkdir()
                source.download_from_selection(
                    downloadDir=str(target),
                    seriesInstanceUID=[row.series_uid],
                    dirTemplate=None,
                    quiet=True,
                    show_progress_bar=False,
                )
                count = sum(path.is_file() for path in target.iterdir())
                if count != row.slices:
                    raise DataError(f"{count} files came, expected {row.slices}")
        except Exception as error:  # idc-index, s5cmd and the network raise what they like
            if stop := ends_run(error, folder):
                raise DataError(stop) from error
            failed[row.series_uid], cause = str(error), UnforeseenError(folder, error).cause
        streak.see(cause, failed.get(row.series_uid, ""))
    return failed
