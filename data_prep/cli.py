"""The command line: ``python -m data_prep phantom | cohort | check``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from data_prep.errors import DataError

app = typer.Typer(
    help="From a hospital's tables and scans to the dataset folder that the bundle reads.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()


@app.command()
def phantom(
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    patients: Annotated[int, typer.Option(min=1, help="How many patients.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
) -> None:
    """Make a simulated screening cohort: DICOM, trial tables and cohort.csv."""
    from data_prep.phantom.cohort import make

    make(out, patients, seed)
    console.print(f"SIMULATED cohort of {patients} patients in {out}.")
    console.print(f"Next: python -m data_prep cohort {out / 'cohort.csv'} --out DATASET", soft_wrap=True)


@app.command()
def cohort(
    table: Annotated[Path, typer.Argument(help="Cohort table, CSV or parquet.")],
    out: Annotated[Path, typer.Option(help="Dataset folder to write.")],
    size: Annotated[int, typer.Option(min=16, help="Pixels along each side of a crop.")] = 128,
    spacing: Annotated[
        float | None, typer.Option(min=0.1, max=5.0, help="Pixel spacing in mm; left out: each scanner's own.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The dataset's name; left out: the folder's.")] = None,
    simulated: Annotated[str | None, typer.Option(help="Marks the dataset as simulated, with this text.")] = None,
    key: Annotated[
        Path | None, typer.Option(help="File that maps cases to patients; left out: OUT.key.json, beside OUT.")
    ] = None,
    keep_ids: Annotated[
        bool, typer.Option("--keep-ids", help="Keep patient_id and nodule_id, write no key: public or simulated data.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine (Dask).")] = 1,
    dask: Annotated[str | None, typer.Option(help="Address of a Dask scheduler, as tcp://HOST:8786.")] = None,
) -> None:
    """Check a cohort table and cut its nodules into a dataset, without identifiers."""
    from data_prep.cohort import build

    key = key or out.with_name(f"{out.name}.key.json")
    made = build(table, out, size, spacing, name, simulated, key, keep_ids, workers, dask)
    counts = ", ".join(f"{section} {count}" for section, count in made.entries.items())
    console.print(f"{out}: {counts}. Crops: {made.written} cut, {made.reused} reused.", soft_wrap=True)
    if made.left_out:
        console.print(f"Left out: {made.left_out} single timepoints of validation and test patients.")
    if made.faults:
        counts = ", ".join(f"{fault} {count}" for fault, count in made.faults.most_common())
        console.print(f"[yellow]Cannot be used[/yellow]: {counts}. Which: {out / 'failures.csv'}", soft_wrap=True)
    if not keep_ids:
        console.print(f"Whose cases these are: {key}. Keep it apart from {out}.", soft_wrap=True)
    console.print(f"Next: python -m data_prep check {out}", soft_wrap=True)


@app.command()
def check(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder.")],
    picture: Annotated[Path | None, typer.Option(help="PNG of a random sample of cases.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the sample.")] = 0,
) -> None:
    """Look for leakage, missing files and implausible values; exit 1 where something is wrong."""
    from data_prep.check import examine, print_report
    from data_prep.picture import draw_sample

    report = examine(dataset)
    print_report(report, console)
    if picture is not None:
        draw_sample(dataset, picture, seed)
        console.print(f"Picture: {picture}", soft_wrap=True)
    if report.findings:
        raise typer.Exit(1)


def main() -> None:
    """Runs the command line; faults of the data go to stderr in words, and the exit status is 2."""
    try:
        app(prog_name="python -m data_prep")
    except DataError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
