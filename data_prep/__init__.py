"""From a hospital's tables and scans to the dataset folder that the bundle reads; `python -m data_prep --help`."""

import sys
from pathlib import Path

BUNDLE = Path(__file__).resolve().parents[1] / "bundle"

# The bundle's `scripts` is used from where it lies and is not installed: every MONAI bundle has a package of that name,
# and an installed one would be imported instead of another bundle's. It comes first for the same reason.
if BUNDLE.is_dir():
    sys.path.insert(0, str(BUNDLE))
