"""Growth measured in NLST, read from the developers' tables by other means than the benchmark's."""

from pathlib import Path

import numpy as np
import pandas as pd


def growth_of_nlst(shared_data: Path) -> pd.DataFrame:
    """``growth`` of the diameter from T0 to T1, and ``malignant``, GM-AE's nodules."""
    paths = (shared_data / "nlst" / "nlstt_growth").glob("gmae_pair_nodules_*.csv")
    table = pd.concat(map(pd.read_csv, paths)).query("volume0 > 0 and volume1 > 0 and days1 > days0")
    return pd.DataFrame({"growth": np.cbrt(table.volume1 / table.volume0), "malignant": table.lung_cancer})
