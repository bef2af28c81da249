"""SAS's tables: the trial's codes among the missing values, names that are too long, several tables in a file."""

import base64
import gzip
import struct
from pathlib import Path

import pandas as pd
import pyreadstat
import pytest

from data_prep.errors import DataError
from data_prep.nlst import coordinates, tables
from data_prep.nlst.flow import Flow
from data_prep.nlst.join import join
from data_prep.tables import read_columns
from tests.data_prep.nlst.test_join import SAS7BDAT, case

SENTINEL = 65536.0
CODED = b"\x45\x10" + bytes(6)
"""The sentinel as an IBM float of 8 bytes, by hand: 0.1 (hexadecimal) times 16 to the power of 5."""


def xport(path: Path, table: pd.DataFrame, version: int = 8, code: str = "E") -> Path:
    """XPORT by ReadStat's writer; cells with the sentinel become a special missing value: its letter, and zeros."""
    pyreadstat.write_xport(table, str(path), file_format_version=version)
    content = path.read_bytes()
    path.write_bytes(content.replace(CODED, code.encode() + bytes(7)))
    return path


def days_of(path: Path) -> list[object]:
    return read_columns(path, ("pid",), ("scr_days0", "note"))["scr_days0"].fillna("").tolist()


@pytest.mark.parametrize("code", "EN_Z")
def test_special_missing_values_of_xport(tmp_path, code):
    table = pd.DataFrame({"PID": [1, 2, 3, 4], "NOTE": ["E", "", "b", "c"], "SCR_DAYS0": [10, SENTINEL, None, 12.5]})
    path = xport(tmp_path / "prsn.xpt", table.astype({"PID": float}), code=code)
    assert days_of(path) == [10, f".{code}", "", 12.5]
    assert read_columns(path, ("pid",), ("note",))["note"].tolist() == ["E", "", "b", "c"]


def sas7bdat(
    path: Path, pids: list[float], days: list[object], names: tuple[str, str] = ("SCR_DAYS0", "SCR_DAYS1")
) -> Path:
    """SAS7BDAT of three rows: the file at hand under other names, with ``pid`` and the second day patched in.

    A special missing value is a NaN as SAS writes it, whose third byte is the letter's complement.
    """
    content = bytearray(gzip.decompress(base64.b64decode(SAS7BDAT)))
    for old, new in ((b"SCT_LONG_DIA", b"SCR_DAYS0"), (b"SCT_PERP_DIA", b"SCR_DAYS1")):
        assert content.count(old) == 1
        content[:] = content.replace(old, new.ljust(len(old)))
    first = content.index(struct.pack("<d", 51)) - 24
    for row, (pid, day) in enumerate(zip(pids, days, strict=True)):
        start = first + 64 * row
        cell = (
            struct.pack("<d", day) if isinstance(day, float) else bytes([0] * 5 + [0xFF - ord(str(day)[1]), 255, 255])
        )
        content[start : start + 8], content[start + 40 : start + 48] = struct.pack("<d", pid), cell
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("code", [".E", ".N", "._", ".Z"])
def test_special_missing_values_of_sas7bdat(tmp_path, code):
    path = sas7bdat(tmp_path / "prsn.sas7bdat", [1, 2, 3], [370.5, code, ".S"])
    assert read_columns(path, ("pid",), ("scr_days1",))["scr_days1"].tolist() == [370.5, code, ".S"]


@pytest.mark.parametrize("kind", ["csv", "xpt", "sas7bdat"])
def test_a_screen_after_the_diagnosis_is_left_out_whatever_file_says_so(tmp_path, kind):
    given, places = case()
    path = tmp_path / f"prsn.{kind}"
    if kind == "csv":
        path.write_text("pid,scr_days0,scr_days1\n1,10,.E\n2,20,.N\n3,5,370\n")
    elif kind == "xpt":
        xport(path, pd.DataFrame({"pid": [1.0, 2, 3], "scr_days0": [10.0, 20, 5], "scr_days1": [SENTINEL, None, 370]}))
    else:
        sas7bdat(path, [1, 2, 3], [".E", ".N", 370.0])
    trial = tables.check({**given, "prsn": read_columns(path, ("pid",), tables.SPECS["prsn"].taken)})
    flow, findings = Flow(), coordinates.checked(places.reindex(columns=list(coordinates.FINDINGS)), "places")
    join(trial, findings, flow)
    assert [reason for taken in flow.exclusions for reason, _ in taken] == ["scan after the diagnosis of a lung cancer"]


def test_xport_of_version_5_cannot_hold_the_trials_names(tmp_path):
    short = pd.DataFrame({"pid": [1.0], "study_yr": [0.0], "ctdxqual": [SENTINEL]})
    path = xport(tmp_path / "screen.xpt", short, version=5)
    screen = tables.SPECS["screen"]
    assert read_columns(path, screen.key, screen.taken)["ctdxqual"].tolist() == [".E"]
    for name in ("prsn", "ctab", "canc"):
        with pytest.raises(DataError, match="XPORT version 5 has names of at most 8 letters, so") as caught:
            tables.read({name: path})
        assert {"prsn": "scr_days0", "ctab": "sct_ab_num", "canc": "candx_days"}[name] in str(caught.value)


def test_a_cohort_table_in_xport(tmp_path):
    from data_prep.contract import read_cohort

    with pytest.raises(DataError, match="XPORT version 5 .* Export it as XPORT version 8"):
        read_cohort(xport(tmp_path / "c.xpt", pd.DataFrame({"age": [1.0]}), version=5))
    with pytest.raises(DataError, match="column patient_id: missing"):
        read_cohort(xport(tmp_path / "c.xpt", pd.DataFrame({"age": [61.0]})))


def test_several_tables_in_one_file(tmp_path):
    path = xport(tmp_path / "prsn.xpt", pd.DataFrame({"pid": [1.0], "scr_days0": [3.0]}))
    content = path.read_bytes()
    path.write_bytes(content + content[content.index(b"HEADER RECORD*******MEMBV8") :])
    with pytest.raises(DataError, match="holds several tables"):
        read_columns(path, ("pid",), ("scr_days0",))


def test_what_is_no_sas_table(tmp_path):
    for name in ("a.xpt", "a.sas7bdat"):
        (tmp_path / name).write_bytes(b"LIBV8 nothing" * 30)
        with pytest.raises(DataError, match="cannot be read"):
            read_columns(tmp_path / name, ("pid",), ())
