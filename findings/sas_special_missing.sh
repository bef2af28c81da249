#!/usr/bin/env bash
# What happens   SAS has 28 missing values (., ._, .A to .Z; trials use .M for missing, .N for not applicable and so on).
#                pandas.read_sas shows all of a SAS7BDAT as one NaN, isna() and describe() see no difference, and yet the
#                letter is still there, in the bits of the NaN: it survives copies and sorting, and is lost in parquet.
# Versions       pandas 3.1.1, pyreadstat 1.3.7, Debian 12's libreadstat1 1.1.8 (makes the file)
# One expects    one NaN like another, or a documented way to the letter.
# Source         pandas' read_sas does not mention special missing values; pyreadstat's user_missing returns them for
#                SAS7BDAT. Layout of a missing value: ReadStat's source.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet pandas==3.1.1 pyreadstat==1.3.7 pyarrow==26.0.1 numpy==2.4.6
apt-get -o APT::Sandbox::User=root download --quiet=2 libreadstat1=1.1.8-1
dpkg -x libreadstat1_*.deb deb
venv/bin/python -W ignore - deb/usr/lib/*/libreadstat.so.1 <<'PYTHON'
import ctypes as c
import struct
import sys

import pandas as pd
import pyreadstat

lib = c.CDLL(sys.argv[1])
lib.readstat_writer_init.restype = lib.readstat_add_variable.restype = c.c_void_p
with open("a.sas7bdat", "wb") as file:
    sink = c.CFUNCTYPE(c.c_ssize_t, c.c_void_p, c.c_size_t, c.c_void_p)(lambda p, n, _: file.write(c.string_at(p, n)))
    out = c.c_void_p(lib.readstat_writer_init())
    lib.readstat_set_data_writer(out, sink)
    lib.readstat_writer_set_file_format_is_64bit(out, 1)
    column = c.c_void_p(lib.readstat_add_variable(out, b"X", 5, c.c_size_t(0)))  # 5: a double
    assert lib.readstat_begin_writing_sas7bdat(out, None, c.c_long(4)) == 0
    for value in (7.0, None, b"M", b"N"):
        lib.readstat_begin_row(out)
        if isinstance(value, float):
            lib.readstat_insert_double_value(out, column, c.c_double(value))
        elif value is None:
            lib.readstat_insert_missing_value(out, column)
        else:
            lib.readstat_insert_tagged_missing_value(out, column, c.c_char(value))
        lib.readstat_end_row(out)
    assert lib.readstat_end_writing(out) == 0


def letters(column):
    """What the third byte of each NaN, inverted, spells."""
    return [chr(~struct.pack(">d", v)[2] & 0xFF) if pd.isna(v) else float(v) for v in column.to_numpy()]


print("pandas", pd.__version__, "pyreadstat", pyreadstat.__version__)
read = pd.read_sas("a.sas7bdat").iloc[:, 0]
print("shown:", read.tolist(), "bits:", letters(read))
assert read.isna().tolist() == [False, True, True, True], "pandas tells them apart now"
assert letters(read) == [7.0, ".", "M", "N"], "the letters are no longer in the bits"
assert letters(read[::-1].sort_values().copy()) == [7.0, "N", "M", "."], "sorting loses them now"
read.to_frame("x").to_parquet("a.parquet")
again = letters(pd.read_parquet("a.parquet")["x"])
assert "M" not in again, "parquet keeps them now"
theirs = pyreadstat.read_sas7bdat("a.sas7bdat", user_missing=True)[0].iloc[:, 0].tolist()
assert theirs[2:] == ["M", "N"], "pyreadstat does not return them any more"
PYTHON
