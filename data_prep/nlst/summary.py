"""What one run from the trial's tables to a cohort did, for people."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from data_prep.nlst.agreement import Agreement
from data_prep.nlst.choices import Attributes
from data_prep.nlst.flow import Flow
from data_prep.nlst.series import EXTRA


@dataclass(frozen=True)
class Summary:
    """What :func:`data_prep.nlst.study.make` did.

    Attributes:
        flow: who was taken, and who not.
        attributes: which findings needed the readers' attributes.
        known: in how many rows of the cohort each feature is known.
        gaps: features with gaps, and why.
        series: how many there are.
        size_mb: of all of them; NaN where it is not known.
        simulated: what is simulated.
        agreements: how other sources agree with this one.
        unforeseen: findings whose series met an error that nobody thought of.
        unshown: findings placed by a slice counted from the feet, where nothing shows that none is missing there.
    """

    flow: Flow
    attributes: Attributes
    known: dict[str, int]
    gaps: dict[str, str]
    series: int
    size_mb: float
    simulated: str
    agreements: list[Agreement]
    unforeseen: int = 0
    unshown: int = 0


def print_summary(summary: Summary, console: Console) -> None:
    """The stages, the exclusions and the cohort as a table; then gaps, download and what is simulated."""
    table = Table(box=SIMPLE, pad_edge=False, collapse_padding=True)
    table.add_column("")
    units = ("participants", "nodules", "malignant", "findings", "pairs", "malignant_pairs")
    for unit in units:
        table.add_column(unit.replace("_", " "), justify="right")

    def add(label: str, counts: dict[str, int], sign: int = 1, style: str | None = None) -> None:
        table.add_row(label, *(f"{sign * counts[unit]:,}" if counts.get(unit) else "" for unit in units), style=style)

    for (label, counts), taken in zip(summary.flow.boxes, summary.flow.exclusions, strict=True):
        add(label, counts, style="bold")
        for reason, lost in taken:
            add(f"  - {reason}", lost, -1)
    for label, counts in summary.flow.ends:
        add(label, counts, style="green")
    console.print(table)
    for agreement in summary.agreements:
        console.print(f"{agreement}.", soft_wrap=True, highlight=False)
    whole = sum(count == summary.flow.boxes[-1][1]["findings"] for count in summary.known.values())
    some = sum(count > 0 for count in summary.known.values()) - whole
    console.print(
        f"Of {len(summary.known)} features {whole} are known of every finding, {some} of some.", highlight=False
    )
    for name, gap in summary.gaps.items():
        console.print(f"gap: {name}: {gap}.", soft_wrap=True, highlight=False)
    if summary.series:
        size = "size not known" if math.isnan(summary.size_mb) else f"{summary.size_mb / 1024:,.1f} GB"
        console.print(f"{summary.series:,} series, {size}: manifest.csv.", highlight=False)
    else:
        console.print(f"manifest.csv is empty: series are found with --dicom, or the index that {EXTRA} brings.")
    if summary.simulated:
        console.print(f"[red]{summary.simulated}.[/red]", soft_wrap=True)
    if summary.unshown:
        console.print(
            f"[yellow]Not sure:[/yellow] {summary.unshown:,} findings. Their slices are counted from the feet, "
            "InstanceNumbers from the head: slices missing at the feet would not show. Name the index: --idc-index.",
            soft_wrap=True,
        )
