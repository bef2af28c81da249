"""How many real pairs does each route from open data give, and how far do the routes agree?

    python benchmarks/routes.py SHARED_NLST LUNA25 [--idc-index INDEX]

SHARED_NLST is a folder with nodule_tracking.parquet, nlstx_dataset.csv, the trial's tables (``canc`` at least) and
``nlstt_growth`` with STMixer's and GM-AE's tables; LUNA25 is that set's CSV. Dry runs: no pixel is read.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from nlst_dry_run import dry_run


def main() -> None:
    """Runs the command line once for each route, every other table beside it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("nlst", type=Path)
    parser.add_argument("luna25", type=Path)
    parser.add_argument("--idc-index", type=Path)
    arguments = parser.parse_args()
    growth = arguments.nlst / "nlstt_growth"
    tracking, stmixer = arguments.nlst / "nodule_tracking.parquet", growth / "stmixer_dataset_part_2301.csv"
    days = [*sorted(growth.glob("stmixer_growth_nodule_*.csv")), *sorted(growth.glob("gmae_pair_nodules_*.csv"))]
    sources = {"tracking": tracking, "stmixer": stmixer, "luna25": arguments.luna25}
    index = ["--idc-index", str(arguments.idc_index)] if arguments.idc_index else []
    print("| route | pairs at first | pairs | malignant | participants | features known | series | GB | seconds |")
    print("|---|---:|---:|---:|---:|---|---:|---:|---:|")
    agreements = []
    for name, source in sources.items():
        beside = [path for other, path in sources.items() if other != name] + days
        options = [*index, *(part for path in beside for part in ("--beside", str(path)))]
        options += ["--stand-in", "--attributes", "none"] if name == "tracking" else []
        flow, seconds = dry_run(source, arguments.nlst, *options)
        first, last = flow["stages"][0], flow["stages"][-1]
        known = ", ".join(f"{feature} {count:,}" for feature, count in flow["features_known"].items() if count)
        counts = f"{first['pairs']:,} | {last['pairs']:,} | {last['malignant_pairs']:,} | {last['participants']:,}"
        print(f"| {name} | {counts} | {known} | {flow['series']:,} | {flow['size_gb']} | {seconds:.1f} |", flush=True)
        agreements += [{"route": name, **agreement} for agreement in flow["agreement"]]
        agreements += [{"route": name, **excluded} for stage in flow["stages"] for excluded in stage["excluded"]]
    print(json.dumps(agreements, indent=1))


if __name__ == "__main__":
    main()
