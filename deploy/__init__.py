"""From one scan, a point and a record to a result; ``python -m deploy --help``. Research use only."""

import data_prep  # noqa: F401  which makes the bundle's `scripts` importable
