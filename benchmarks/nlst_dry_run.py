"""How long does a dry run over all of NLST take, and how much memory?

    python benchmarks/nlst_dry_run.py TABLES TRACKING [--idc-index INDEX]

TABLES is a folder with the trial's tables; prsn and ctab are simulated if they are missing. TRACKING is
nodule_tracking.parquet. Without INDEX, that of the package idc-index-data is used.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CHOICES = {
    "attributes at baseline (default)": [],
    "attributes at both scans": ["--attributes", "both"],
    "no attributes needed": ["--attributes", "none"],
    "pairs of any interval": ["--pairs", "any"],
    "the paper's size, by our rule": ["--preset", "paper"],
}


def dry_run(source: Path, tables: Path, *options: str) -> tuple[dict[str, Any], float]:
    """The content of flow.json, and seconds of the command."""
    with tempfile.TemporaryDirectory() as out:
        command = [
            sys.executable,
            "-m",
            "data_prep",
            "nlst",
            str(source),
            "--out",
            out,
            "--tables",
            str(tables),
            *options,
        ]
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
        return json.loads((Path(out) / "flow.json").read_text(encoding="utf-8")), seconds


def main() -> None:
    """Runs the command line once for each choice; "peak" is the largest of all runs so far."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tables", type=Path)
    parser.add_argument("tracking", type=Path)
    parser.add_argument("--idc-index", type=Path)
    arguments = parser.parse_args()
    index = ["--idc-index", str(arguments.idc_index)] if arguments.idc_index else []
    print("| cohort | pairs at first | pairs | findings | series | GB | seconds | peak GB |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, choice in CHOICES.items():
        flow, seconds = dry_run(arguments.tracking, arguments.tables, "--stand-in", *index, *choice)
        first, last = flow["stages"][0], flow["stages"][-1]
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        counts = f"{first['pairs']:,} | {last['pairs']:,} | {last['findings']:,} | {flow['series']:,}"
        print(f"| {name} | {counts} | {flow['size_gb']:,.0f} | {seconds:.1f} | {peak:.2f} |", flush=True)


if __name__ == "__main__":
    main()
