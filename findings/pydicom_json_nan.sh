#!/usr/bin/env bash
# What happens   A DICOM double may be NaN or infinite. pydicom's to_json() then writes NaN and Infinity bare, which is no
#                JSON: a strict reader refuses the whole data set for one value. The form of the DICOM JSON model, the
#                strings "NaN", "inf" and "-inf", from_json() understands and to_json() does not write.
# Versions       pydicom 3.0.2
# One expects    the strings of the model, written as they are read.
# Source         DICOM PS3.18, annex F.2.3 (FL and FD may be strings); correction proposal 2352: NaN is a value of FD;
#                fo-dicom's issue 1063 and dcmjs's issue 324 met the same elsewhere.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet pydicom==3.0.2
venv/bin/python - <<'PYTHON'
import json
import math

import pydicom

ds = pydicom.Dataset()
ds.RealWorldValueSlope = float("nan")
text = ds.to_json()
words = []  # that Python's reader takes, and JSON does not have
json.loads(text, parse_constant=words.append)
back = pydicom.Dataset.from_json('{"00409225": {"vr": "FD", "Value": ["NaN"]}}').RealWorldValueSlope
print("pydicom", pydicom.__version__, "writes", text, "and reads the model's string as", repr(back))
assert words == ["NaN"], "what is written is JSON now"
assert isinstance(back, float) and math.isnan(back), "the model's form is no longer understood"
PYTHON
