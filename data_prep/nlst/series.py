"""CT series that there are: in NCI's Imaging Data Commons, or in a folder."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow.parquet

from data_prep.errors import DataError

SERIES = {
    "pid": "PatientID",
    "series_uid": "SeriesInstanceUID",
    "study_uid": "StudyInstanceUID",
    "slices": "instanceCount",
    "size_mb": "series_size_MB",
    "transfer_syntax": "transfer_syntax_name",
    "url": "series_aws_url",
    "licence": "license_short_name",
    "doi": "source_DOI",
}
"""Our names of the index's columns."""

EXTRA = "pip install -e '.[nlst]'"


def installed_index(needed: bool = True) -> Path | None:
    """The index that the package ``idc-index-data`` brings; None where it is not installed and not needed.

    Raises:
        DataError: not installed, but needed.
    """
    try:
        from idc_index_data import IDC_INDEX_PARQUET_FILEPATH
    except ImportError:
        if needed:
            raise DataError(f"No index of the Imaging Data Commons: {EXTRA}, or name it: --idc-index.") from None
        return None
    return Path(IDC_INDEX_PARQUET_FILEPATH)


def idc_index(path: Path) -> pd.DataFrame:
    """All CT series of NLST in an index of the Imaging Data Commons, columns :data:`SERIES`; ``folder`` is empty.

    Raises:
        DataError: it is no such index.
    """
    try:
        ours = [("collection_id", "==", "nlst"), ("Modality", "==", "CT")]
        table = pyarrow.parquet.read_table(path, columns=list(SERIES.values()), filters=ours)
    except Exception as error:  # pyarrow raises what it likes
        raise DataError(f"{path}: cannot be read as the index of the Imaging Data Commons ({error}).") from error
    series = table.to_pandas().set_axis(list(SERIES), axis=1)
    series = series.astype({"slices": int, "size_mb": float})
    return series.assign(pid=pd.to_numeric(series["pid"]), folder=None)


def exam_key(pid: pd.Series, series_uid: pd.Series) -> pd.Series:
    """The participant, and the first and last five digits of the series UID's last component.

    The tracking table names a series so, with the study year after the participant.
    """
    last = series_uid.astype(str).str.rsplit(".", n=1).str[-1]
    return pid.astype("Int64").astype(str) + "-" + last.str[:5] + last.str[-5:]


def attach(findings: pd.DataFrame, series: pd.DataFrame) -> pd.DataFrame:
    """Findings with the columns of their series: :data:`SERIES`, ``folder``, and ``instances``: images by the index.

    ``folder`` and ``series_uid`` are empty where the series is not there. A series that is another participant's in the
    Imaging Data Commons is a ``doubt``.

    Raises:
        DataError: an exam of the tracking table fits several series.
    """
    facts = [name for name in (*SERIES, "folder", "instances") if name != "pid"]
    known = series.reindex(columns=["pid", *facts]).drop_duplicates("series_uid")
    known = known[known["pid"].isin(findings["pid"]) | known["series_uid"].isin(findings["series_uid"])]
    known = known.assign(key=exam_key(known["pid"], known["series_uid"]))
    by_uid = findings["series_uid"].isin(known["series_uid"])
    exam = findings["exam"].astype("string")
    key = findings["pid"].astype(str) + "-" + exam.str[-10:]
    wanted = key[~by_uid & exam.notna()]
    several = known.loc[known["key"].duplicated(keep=False) & known["key"].isin(wanted), "key"].unique()
    if len(several):
        raise DataError(f"exam: {len(several)} fit several series, such as {several[0]}. Name the series: series_uid.")
    uids = known.set_index("key")["series_uid"]
    named = findings["series_uid"].where(by_uid, key.map(uids[~uids.index.duplicated()]))
    owner = named.map(known[known["folder"].isna()].set_index("series_uid")["pid"])
    stranger = owner.notna() & owner.ne(findings["pid"])
    if stranger.any():
        findings = findings.assign(doubt=findings["doubt"].mask(stranger, "its series is another participant's"))
    return (
        findings.assign(series_uid=named)
        .drop(columns=[*facts[1:]], errors="ignore")
        .merge(known[facts], on="series_uid", how="left", validate="many_to_one")
    )
