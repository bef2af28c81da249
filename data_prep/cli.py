"""The command line, ``python -m data_prep``: phantom, nlst, convert, progression, template, cohort, check, crop."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from data_prep.errors import DataError
from data_prep.images import Transform
from data_prep.nlst.choices import Attributes, Pairs, Preset, System
from data_prep.progression import Control
from data_prep.spacing import PIXEL_MM, spacing_of
from data_prep.unforeseen import told

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()


def _print_version(wanted: bool) -> None:
    if wanted:
        from data_prep import BUNDLE
        from data_prep.version import VERSION

        console.print(f"namd {VERSION} in {BUNDLE}", soft_wrap=True, highlight=False)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """From a hospital's tables and scans to the dataset folder that the bundle reads."""


@app.command()
def phantom(
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    patients: Annotated[int, typer.Option(min=1, help="How many patients.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    months: Annotated[
        str, typer.Option(help="To the follow-up, 3 to 36: one number, give or take one, or a range as 3-36.")
    ] = "12",
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 1,
) -> None:
    """Make a simulated screening cohort: DICOM, trial tables and cohort.csv."""
    from data_prep.phantom.cohort import make, months_of

    make(out, patients, seed, months_of(months), workers)
    console.print(f"SIMULATED cohort of {patients} patients in {out}.")
    console.print(f"Next: python -m data_prep cohort {out / 'cohort.csv'} --out DATASET", soft_wrap=True)


TABLES = "The trial's tables"
Coordinates = Annotated[
    Path,
    typer.Argument(
        help="Where the nodules are: nodule_tracking.parquet, NLSTx's, STMixer's or LUNA25's CSV, or yours."
    ),
]
Beside = Annotated[
    list[Path] | None,
    typer.Option(
        help="Another table of NLST's scans: the tracking table, STMixer's, GM-AE's or LUNA25's; can be repeated. It "
        "adds what it knows, and nodules that it contradicts are not paired."
    ),
]
Needed = Annotated[
    Attributes | None,
    typer.Option(
        help="Which scans of a pair need the readers' attributes of the nodule; left out: the baseline, but of "
        "STMixer's and LUNA25's none.",
        show_default=False,
    ),
]
StandIn = Annotated[
    bool, typer.Option("--stand-in", help="Simulate prsn and ctab where they are missing; for a dry run.")
]
Prospective = Annotated[
    bool,
    typer.Option("--prospective", help="Baselines without a follow-up, the last of each nodule, in place of pairs."),
]

Affine = Annotated[Transform | None, typer.Option(help="Of NIfTI whose qform and sform differ, the one that is right.")]


@app.command()
def nlst(
    coordinates: Coordinates,
    out: Annotated[Path, typer.Option(help="Folder to write: cohort.csv, manifest, flow diagram, what was left out.")],
    tables: Annotated[
        Path | None, typer.Option(help="Folder in which files are named by prsn, ctab, canc, screen, ctabc.")
    ] = None,
    prsn: Annotated[Path | None, typer.Option(help="Participants.", rich_help_panel=TABLES)] = None,
    ctab: Annotated[Path | None, typer.Option(help="Abnormalities.", rich_help_panel=TABLES)] = None,
    canc: Annotated[Path | None, typer.Option(help="Lung cancers.", rich_help_panel=TABLES)] = None,
    screen: Annotated[Path | None, typer.Option(help="Screens; optional.", rich_help_panel=TABLES)] = None,
    ctabc: Annotated[Path | None, typer.Option(help="Comparison reads; optional.", rich_help_panel=TABLES)] = None,
    beside: Beside = None,
    dicom: Annotated[
        Path | None, typer.Option(help="Folder with a folder for each series; left out: a dry run, without pixels.")
    ] = None,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Fetch series that are not in --dicom (left out: OUT/dicom).")
    ] = False,
    idc_index: Annotated[
        Path | None, typer.Option(help="Index of the Imaging Data Commons; left out: the installed one.")
    ] = None,
    pairs: Annotated[Pairs, typer.Option(help="Of consecutive study years, or of any interval.")] = Pairs.CONSECUTIVE,
    attributes: Needed = None,
    preset: Annotated[Preset | None, typer.Option(help="paper: as many as the paper has, by a rule of ours.")] = None,
    prospective: Prospective = False,
    stand_in: StandIn = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the preset, and of what is simulated.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that read headers.")] = 1,
) -> None:
    """NLST's tables, coordinates and scans to a cohort table, with a flow diagram and a manifest."""
    from data_prep.nlst import study, summary
    from data_prep.nlst.tables import find
    from data_prep.phantom.stand_in import simulate

    named = {"prsn": prsn, "ctab": ctab, "canc": canc, "screen": screen, "ctabc": ctabc}
    given = {name: path for name, path in named.items() if path is not None}
    paths = {**(find(tables, given) if tables else {}), **given}
    dicom = dicom or (out / "dicom" if fetch else None)
    options = study.Options(
        coordinates=coordinates,
        tables=paths,
        beside=beside or (),
        dicom=dicom,
        fetch=fetch,
        index=idc_index,
        any_interval=pairs is Pairs.ANY,
        attributes=attributes,
        preset=preset,
        prospective=prospective,
        stand_in=simulate if stand_in else None,
        seed=seed,
        workers=workers,
    )
    made = study.make(out, options)
    summary.print_summary(made, console)
    kept = " --spacing none" if preset else ""
    after = f"cohort {out / 'cohort.csv'} --out DATASET{kept}" if dicom else "nlst ..., with --dicom FOLDER or --fetch"
    console.print(f"{out}: cohort.csv, manifest.csv, left_out.csv, flow.svg.", soft_wrap=True)
    console.print(f"Next: python -m data_prep {after}", soft_wrap=True)
    _end(made.unforeseen)


@app.command()
def convert(
    kind: Annotated[str, typer.Argument(help="lidc, luna16, luna25, dlcs, or export: a YAML file names the columns.")],
    annotations: Annotated[Path, typer.Argument(help="The set's annotation table, or the YAML file.")],
    out: Annotated[Path, typer.Option(help="Cohort table to write, CSV.")],
    images: Annotated[
        Path | None, typer.Option(help="Folder with NIfTI files or DICOM series; left out: images are not looked for.")
    ] = None,
    system: Annotated[
        System | None, typer.Option(help="Of the coordinates; left out: the set's own.", case_sensitive=False)
    ] = None,
    tables: Annotated[Path | None, typer.Option(help="luna25: folder with the trial's tables, as of nlst.")] = None,
    beside: Beside = None,
) -> None:
    """Other nodule sets, or a site's own export, to a cohort table."""
    from data_prep import sources

    rows = sources.convert(kind, annotations, out, images, system, tables, beside or ())
    taken, absent = rows.pop("taken"), rows.pop("no image")
    console.print(f"{out}: {taken:,} nodules; left out, as their image is not there: {absent:,}.", soft_wrap=True)
    for reason, count in rows.items():
        console.print(f"{count:,}: {reason}.", soft_wrap=True, highlight=False)
    console.print(f"Next: python -m data_prep cohort {out} --out DATASET", soft_wrap=True)


@app.command()
def progression(
    baselines: Annotated[
        Path, typer.Argument(help="Cohort table with malignancy_rating (1 to 5) and, of crops, mask.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write: cohort.csv, images, masks, law.yaml.")],
    law: Annotated[
        str, typer.Option(help="real: growth as in NLST; published: as in LIDC-progression; or a YAML file.")
    ] = "real",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    control: Annotated[
        Control | None, typer.Option(help="permuted: the record tells nothing; told: it tells the outcome.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine (Dask).")] = 1,
    transform: Affine = None,
) -> None:
    """Simulate outcome, record, growth and follow-up on baseline crops: a cohort whose right answers are known."""
    from data_prep.progression.cohort import make

    made = make(baselines, out, law, seed, control, workers, transform)
    nodules = made[made["study_yr"] == 0]
    counts = (
        f"{len(nodules)} nodules of {nodules['patient_id'].nunique()} patients, {nodules['malignant'].sum()} malignant"
    )
    console.print(f"SIMULATED on given baselines, law {law}: {counts}.", soft_wrap=True)
    console.print(f"Next: python -m data_prep cohort {out / 'cohort.csv'} --out DATASET", soft_wrap=True)


@app.command()
def template(
    out: Annotated[Path, typer.Argument(help="Cohort table to write, CSV; one that is there is not touched.")],
    example: Annotated[bool, typer.Option("--example", help="With two rows that are marked as examples.")] = False,
) -> None:
    """Write an empty cohort table with all its columns, and print the features with their codes."""
    from data_prep.template import features_table, write

    write(out, example)
    console.print(features_table())
    console.print(f"{out}: fill it in, one row per nodule and time; an empty cell is an unknown value.", soft_wrap=True)
    console.print(f"Next: python -m data_prep cohort {out} --out DATASET", soft_wrap=True)


Spacing = Annotated[str, typer.Option(help="mm between the crops' pixels; none: each scanner's own.")]


@app.command()
def cohort(
    table: Annotated[Path, typer.Argument(help="Cohort table: CSV (.csv.gz too), parquet, SAS7BDAT or XPORT.")],
    out: Annotated[Path, typer.Option(help="Dataset folder to write.")],
    size: Annotated[int, typer.Option(min=16, help="Pixels along each side of a crop.")] = 128,
    spacing: Spacing = f"{PIXEL_MM:g}",
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
    transform: Affine = None,
    predict: Annotated[
        bool, typer.Option("--predict", help="Forecast also from single timepoints of validation and test patients.")
    ] = False,
    shares: Annotated[
        str, typer.Option(help="Parts of training, validation and test, where the table has no column split.")
    ] = "70:10:20",
) -> None:
    """Check a cohort table and cut its nodules into a dataset, without identifiers."""
    from data_prep.cohort import build
    from data_prep.schema import OLDEST
    from data_prep.sections import shares_of

    key = key or out.with_name(f"{out.name}.key.json")
    made = build(
        *(table, out, size, spacing_of(spacing), name, simulated, key, keep_ids, workers, dask),
        transform=transform and transform.value,
        predict=predict,
        shares=shares_of(shares),
    )
    counts = ", ".join(f"{section} {count}" for section, count in made.entries.items())
    console.print(f"{out}: {counts}. Crops: {made.written} cut, {made.reused} reused.", soft_wrap=True)
    if made.left_out:
        text = f"Left out: {made.left_out} single timepoints of validation and test patients"
        console.print(f"{text}." if predict else f"{text}; with --predict, the last of a nodule are forecast from.")
    if made.earlier:
        console.print(f"Left out: {made.earlier} timepoints of predict that a later one follows.")
    if made.entries["predict"] == sum(made.entries.values()):
        console.print("No case has a follow-up: all are in predict, to forecast from. A column split says otherwise.")
    if made.faults:
        counts = ", ".join(f"{fault} {count}" for fault, count in made.faults.most_common())
        console.print(f"[yellow]Cannot be used[/yellow]: {counts}. Which: {out / 'failures.csv'}", soft_wrap=True)
    if made.aged:
        console.print(f"Ages above {OLDEST} stand as {OLDEST}: {made.aged} timepoints.")
    if made.lossy:
        console.print(f"Compressed with loss (LossyImageCompression): {made.lossy} of the crops.")
    if not keep_ids:
        console.print(f"Whose cases these are: {key}. Keep it apart from {out}.", soft_wrap=True)
    console.print(f"Next: python -m data_prep check {out}", soft_wrap=True)
    _end(made.unforeseen)


@app.command()
def check(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder.")],
    picture: Annotated[Path | None, typer.Option(help="PNG of a random sample of cases.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the sample.")] = 0,
) -> None:
    """Look for leakage, missing files and implausible values; exit 1 where something is wrong."""
    from data_prep.check import examine, print_overview
    from data_prep.picture import draw_sample

    overview = examine(dataset)
    print_overview(overview, console)
    if picture is not None:
        draw_sample(dataset, picture, seed)
        console.print(f"Picture: {picture}", soft_wrap=True)
    if overview.findings:
        raise typer.Exit(1)


@app.command()
def crop(
    series: Annotated[Path, typer.Argument(help="Folder with one DICOM series, or NIfTI or MetaImage file.")],
    point: Annotated[str, typer.Option(help="The nodule's centre, x,y,z in mm, LPS as in DICOM.")],
    out: Annotated[Path, typer.Option(help="Crop to write, .nii.gz.")],
    size: Annotated[int, typer.Option(min=16, help="Pixels along each side.")] = 128,
    spacing: Spacing = f"{PIXEL_MM:g}",
    series_uid: Annotated[
        str | None, typer.Option(help="SeriesInstanceUID, where the folder holds several series.")
    ] = None,
    transform: Affine = None,
) -> None:
    """Cut one crop of one scan, as cohort does of many."""
    from data_prep import single
    from data_prep.files import refuse_overwriting
    from data_prep.images import crops

    if not out.name.endswith((".nii", ".nii.gz")) or out.is_dir():
        raise DataError(f"--out {out}: expected a new file, .nii.gz or .nii.")
    refuse_overwriting([out], [series])
    chosen = size, spacing_of(spacing), transform and transform.value, series_uid
    made = single.cut_single(series, single.point_of(point), *chosen)
    crops.save(made, out)
    x_mm, y_mm, _ = crops.spacing(made)
    console.print(f"{out}: {size} x {size} pixels of {x_mm:g} x {y_mm:g} mm.", soft_wrap=True, highlight=False)
    if text := single.SHOWN.get(made.extra["point"]):
        console.print(f"[yellow]look:[/yellow] {text}", soft_wrap=True, highlight=False)


def _end(unforeseen: int) -> None:
    """The exit status tells of errors that nobody thought of, though the others are done."""
    if unforeseen:
        console.print(f"[red]{unforeseen} met an unforeseen error[/red]: please report it; the exit status is 1.")
        raise typer.Exit(1)


def main() -> None:
    """Runs the command line; faults of the data go to stderr in words, and the exit status is 2."""
    try:
        app(prog_name="python -m data_prep")
    except Exception as error:
        if (message := told(error)) is None:
            raise
        print(message, file=sys.stderr)
        sys.exit(2)
