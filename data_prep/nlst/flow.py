"""Who was taken, who was left out and why, counted as CONSORT has it: as JSON, and as a diagram."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from scripts.files import write_atomically

Counts = dict[str, int]
NODULE = ["pid", "nodule_id"]


def neighbours(table: pd.DataFrame, any_interval: bool) -> pd.Series:
    """Which findings make a pair with the one before: the same nodule a year earlier, or at any time.

    Args:
        table: sorted by participant, nodule and ``study_yr``.
    """
    same = table[NODULE].eq(table[NODULE].shift()).all(axis=1)
    return same & (table["study_yr"].diff().ge(1) if any_interval else table["study_yr"].diff().eq(1))


@dataclass
class Flow:
    """The way from a source's findings to a cohort.

    Attributes:
        any_interval: see :func:`neighbours`; what a pair is.
        boxes: what was there at each stage: participants, nodules, findings, pairs.
        exclusions: what was taken away after each box, reason by reason, in this order: findings, and the pairs lost.
        left_out: the findings that were taken away, or parted from those before, with the reason.
        ends: what the last box falls into, by name.
    """

    any_interval: bool = False
    boxes: list[tuple[str, Counts]] = field(default_factory=list)
    exclusions: list[list[tuple[str, Counts]]] = field(default_factory=list)
    left_out: list[pd.DataFrame] = field(default_factory=list)
    ends: list[tuple[str, Counts]] = field(default_factory=list)

    def counts(self, table: pd.DataFrame) -> Counts:
        """Participants, nodules, findings and pairs of a table; once outcomes are known, the malignant ones too."""
        first, paired = ~table.duplicated(NODULE), neighbours(table, self.any_interval)
        counts = {"participants": int(table["pid"].nunique()), "nodules": int(first.sum())}
        if "malignant" in table:
            counts["malignant"] = int((first & (table["malignant"] == 1)).sum())
        counts |= {"findings": len(table), "pairs": int(paired.sum())}
        if "malignant" in table:
            counts["malignant_pairs"] = int((paired & (table["malignant"] == 1)).sum())
        return counts

    def box(self, label: str, table: pd.DataFrame) -> None:
        """Notes what there is at a stage."""
        self.boxes.append((label, self.counts(table)))
        self.exclusions.append([])

    def exclude(self, table: pd.DataFrame, bad: pd.Series, reason: str, detail: pd.Series | str = "") -> pd.DataFrame:
        """Takes findings away; returns the others. ``detail`` is for the list of what was left out."""
        if not bad.any():
            return table
        kept = table[~bad]
        before, after = self.counts(table), self.counts(kept)
        self.exclusions[-1].append((reason, {unit: before[unit] - after[unit] for unit in before}))
        left = table[[*NODULE, "study_yr", "series_uid"]].assign(reason=reason, detail=detail)
        self.left_out.append(left[bad])
        return kept

    def sever(self, table: pd.DataFrame, severed: pd.Series, reasons: pd.Series) -> None:
        """Notes findings that begin a nodule of their own, as they are not the one that their source takes them for."""
        pairs = neighbours(table, self.any_interval)
        for reason in sorted(set(reasons[severed])):
            here = severed & (reasons == reason)
            lost = dict.fromkeys(self.counts(table), 0) | {
                "nodules": -int(here.sum()),
                "pairs": int((here & pairs).sum()),
            }
            self.exclusions[-1].append((f"not paired: {reason}", lost))
            left = table.loc[here, [*NODULE, "study_yr", "series_uid"]]
            self.left_out.append(left.assign(reason=f"not paired: {reason}", detail=""))

    def end(self, label: str, table: pd.DataFrame) -> None:
        """Notes a part of what the last box holds."""
        self.ends.append((label, self.counts(table)))

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "stages": [
                {"label": label, **counts, "excluded": [{"reason": reason, **lost} for reason, lost in taken]}
                for (label, counts), taken in zip(self.boxes, self.exclusions, strict=True)
            ],
            "cohort": [{"label": label, **counts} for label, counts in self.ends],
        }


LINE, WIDTH, GAP, MARGIN = 0.19, 4.6, 0.3, 0.2
"""Inches: height of a line, width of a box, between boxes, and at the edges."""
LEFT, RIGHT = MARGIN, MARGIN + WIDTH + 0.5


def draw(flow: Flow, target: Path, title: str, note: str = "") -> None:
    """Draws the diagram; SVG, PNG or PDF by the target's suffix.

    Args:
        title: above it.
        note: below the title, in red: what is simulated.
    """
    heading = [(line, "black") for line in textwrap.wrap(title, 95)]
    heading += [(line, "crimson") for line in textwrap.wrap(note, 105)]
    boxes = [_lines(label, counts) for label, counts in flow.boxes]
    sides = [[line for reason, lost in taken for line in _reason(reason, lost)] for taken in flow.exclusions]
    ends = [_end_lines(label, counts) for label, counts in flow.ends]
    rows = [max(_height(box), _height(side)) for box, side in zip(boxes, sides, strict=True)]
    head, foot = len(heading) * LINE + 0.3, max(map(_height, ends), default=0.0)
    width, height = RIGHT + WIDTH + MARGIN, head + sum(rows) + GAP * len(rows) + foot + MARGIN
    with matplotlib.rc_context({"svg.hashsalt": "namd", "svg.fonttype": "none"}):  # the same cohort, the same file
        figure = Figure(figsize=(width, height), dpi=100)
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
        axes.axis("off")
        for number, (line, colour) in enumerate(heading):
            axes.text(MARGIN, 0.15 + number * LINE, line, va="top", fontsize=9, color=colour, weight="bold")
        top, last = head, None
        for box, side, row in zip(boxes, sides, rows, strict=True):
            middle = top + row / 2
            if last is not None:
                _arrow(axes, (LEFT + WIDTH / 2, last), (LEFT + WIDTH / 2, middle - _height(box) / 2))
            if side:
                _arrow(axes, (LEFT + WIDTH, middle), (RIGHT, middle))
                _box(axes, RIGHT, middle, WIDTH, side, "#f7f0e6", bold=False)
            _box(axes, LEFT, middle, WIDTH, box, "#e8f0f8")
            top, last = top + row + GAP, middle + _height(box) / 2
        part = (width - 2 * MARGIN - 0.15 * (len(ends) - 1)) / max(len(ends), 1)
        for number, lines in enumerate(ends):
            left = MARGIN + number * (part + 0.15)
            _arrow(axes, (LEFT + WIDTH / 2, last or head), (left + part / 2, top))
            _box(axes, left, top + _height(lines) / 2, part, lines, "#e6f3e6")
        with write_atomically(target) as path:
            figure.savefig(path, metadata={"Date": None} if target.suffix == ".svg" else None)


def _lines(label: str, counts: Counts) -> list[str]:
    malignant = f" ({counts['malignant']:,} malignant)" if "malignant" in counts else ""
    people, nodules = f"{counts['participants']:,} participants", f"{counts['nodules']:,} nodules{malignant}"
    pairs = f" ({counts['malignant_pairs']:,} malignant)" if "malignant_pairs" in counts else ""
    scans = f"{counts['findings']:,} findings, {counts['pairs']:,} pairs{pairs}"
    return [*textwrap.wrap(label, 60), f"{people}, {nodules}", scans]


def _end_lines(label: str, counts: Counts) -> list[str]:
    units = {unit.replace("_", " "): count for unit, count in counts.items() if count or "pairs" not in unit}
    return [*textwrap.wrap(label, 22), *(f"{count:,} {unit}" for unit, count in units.items())]


def _reason(reason: str, lost: Counts) -> list[str]:
    pairs = f" (pairs: {lost['pairs']:,})" if lost["pairs"] else ""
    if not lost["findings"]:
        return textwrap.wrap(f"Pairs: {lost['pairs']:,}: {reason}", 68, subsequent_indent="    ")
    return textwrap.wrap(f"{lost['findings']:,}{pairs}: {reason}", 68, subsequent_indent="    ")


def _height(lines: Sequence[str]) -> float:
    return len(lines) * LINE + 0.16 if lines else 0.0


def _box(
    axes: Axes, left: float, middle: float, width: float, lines: Sequence[str], face: str, bold: bool = True
) -> None:
    """A box with lines of text, about a height; the first line is bold."""
    tall = _height(lines)
    axes.add_patch(Rectangle((left, middle - tall / 2), width, tall, facecolor=face, edgecolor="0.35", linewidth=0.8))
    for number, line in enumerate(lines):
        y = middle - tall / 2 + 0.08 + (number + 0.5) * LINE
        weight = "bold" if bold and not number else "normal"
        axes.text(left + 0.1, y, line, va="center", fontsize=8.5, weight=weight)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": "0.35", "shrinkA": 0, "shrinkB": 0})
