"""Sources of coordinates held against each other: do two that know the same scans mean the same nodules?

A nodule of one source is that of another where their centres in the same scan lie within :data:`NEAR_MM`, and no other
centre of either does. Where one source has mm and another voxels, the scan's geometry is needed: from STMixer, which
tells both, or from the headers of the series.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from data_prep.nlst.coordinates import GEOMETRY, NOTED
from data_prep.nlst.flow import NODULE, Flow
from data_prep.nlst.series import exam_key
from data_prep.schema import POSITION

NEAR_MM = 10.0
APART_MM = 30.0
"""By how much two nodules move differently between two scans, at most: by breath and posture."""
ASIDE_MM = 40.0
"""How far a nodule that is alone lies to the side of where it lay in the scan before, at most."""
ADOPTED = ("sct_ab_num", "candidates", "size", *NOTED)
"""What a finding takes from the same nodule of another source, where its own does not tell."""


@dataclass(frozen=True)
class Agreement:
    """How a source agrees with another where both know a scan.

    Attributes:
        other: the other source.
        scans: in both.
        findings: of the source, in these scans.
        comparable: of these findings, those whose distance from the other's can be told.
        matched: of these, those that are a nodule of the other's.
        links: nodules in two scans in a row, both matched.
        same: of these, those that the other has as one nodule too.
    """

    other: str
    scans: int
    findings: int
    comparable: int
    matched: int
    links: int
    same: int

    def __str__(self) -> str:
        return (
            f"{self.other}: {self.scans:,} scans in both, with {self.findings:,} findings; {self.comparable:,} can be "
            f"compared, {self.matched:,} are the same nodule; of {self.links:,} pairs of these it has {self.same:,} too"
        )


def hold(
    findings: pd.DataFrame, others: Mapping[str, pd.DataFrame], linked: bool
) -> tuple[pd.DataFrame, list[Agreement]]:
    """Findings with what other sources know of the same nodules.

    Args:
        findings: see :mod:`data_prep.nlst.coordinates`.
        others: the same of other sources, by their titles.
        linked: whether nodules over the years are held against their positions too.

    Returns:
        The findings, sorted by participant, nodule and year, with :data:`ADOPTED` filled in and ``severed``: why a
        finding is not the nodule that its source takes it for; and how each of the others agrees.
    """
    held = findings.sort_values([*NODULE, "study_yr"], kind="stable").reset_index(drop=True).assign(severed="")
    frames = _frames([held, *others.values()])
    places, agreements = _located(held, frames), []
    if linked:
        held["severed"] = _moved(held)
    for title, other in others.items():
        theirs = _located(other.reset_index(drop=True), frames)
        found = match(places, theirs)
        agreement, differs = _compare(title, places, theirs, found)
        agreements.append(agreement)
        held.loc[differs & held["severed"].eq(""), "severed"] = f"another nodule than in the scan before, by {title}"
        for name in ADOPTED:
            known = found.map(other.reset_index(drop=True)[name])
            lacks = held[name].isna() | (held["candidates"].lt(0) if name == "candidates" else False)
            held[name] = held[name].where(~lacks | known.isna(), known)
    return held, agreements


def match(ours: pd.DataFrame, theirs: pd.DataFrame) -> pd.Series:
    """For each of our places the row of theirs that is the same nodule, NaN where none is or several may be.

    Args:
        ours, theirs: what :func:`_located` returns.
    """
    known = [places.dropna(subset="scan").rename_axis("index").reset_index() for places in (ours, theirs)]
    both = known[0].merge(known[1], on="scan", suffixes=("", "_other"))
    gaps = [both[axis] - both[f"{axis}_other"] for axis in POSITION]
    gaps[2] = gaps[2].fillna(0.0)  # of a source in voxels, mm along the body are not known without headers
    near = both[np.sqrt(sum(gap**2 for gap in gaps)) <= NEAR_MM]
    alone = near[~near["index"].duplicated(keep=False) & ~near["index_other"].duplicated(keep=False)]
    return alone.set_index("index")["index_other"].reindex(ours.index)


def applied(table: pd.DataFrame, flow: Flow) -> pd.DataFrame:
    """Leaves out what is doubtful, and parts nodules where they are severed; notes both in the flow."""
    for reason in sorted(set(table.get("doubt", [])) - {""}):
        table = flow.exclude(table, table["doubt"] == reason, reason)
    if "severed" not in table or not table["severed"].any():
        return table
    first = ~table.duplicated(NODULE)
    severed = table["severed"].ne("") & ~first
    part = severed.groupby([table[name] for name in NODULE]).cumsum()
    name = table["nodule_id"].where(part == 0, table["nodule_id"] + "." + (part + 1).astype(str))
    flow.sever(table, severed, table["severed"])
    return table.assign(nodule_id=name).sort_values([*NODULE, "study_yr"], kind="stable").reset_index(drop=True)


def _scan(findings: pd.DataFrame) -> pd.Series:
    """A key of each finding's scan, whether its source names the series or, as the tracking table, the exam."""
    exam = findings["exam"].astype("string")
    scan = (findings["pid"].astype("string") + "-" + exam.str[-10:]).astype(object)
    named = findings["series_uid"].notna()
    scan[named] = exam_key(findings.loc[named, "pid"], findings.loc[named, "series_uid"])
    return scan


def _frames(sources: list[pd.DataFrame]) -> pd.DataFrame:
    """:data:`GEOMETRY` by scan, of those sources that tell it; rows that are doubtful do not count."""
    told = [source.assign(scan=_scan(source)) for source in sources]
    every = pd.concat([source.loc[source["doubt"].eq(""), ["scan", *GEOMETRY]] for source in told]).astype(
        {"scan": str}
    )
    every = every[np.isfinite(every[list(GEOMETRY)]).all(axis=1)]
    return every.groupby("scan")[list(GEOMETRY)].median()


def _located(findings: pd.DataFrame, frames: pd.DataFrame) -> pd.DataFrame:
    """Scan, nodule and place in mm of each finding; in plane by the scan's geometry where a source has voxels."""
    places = findings[[*POSITION, *NODULE]].assign(scan=_scan(findings))
    frame = frames.reindex(places["scan"]).set_axis(places.index)
    for axis, voxel, corner in (("x", "column", "left"), ("y", "row", "front")):
        places[axis] = places[axis].fillna(frame[corner] + findings[voxel] * frame["pixel_mm"])
    return places


def _before(findings: pd.DataFrame) -> pd.Series:
    """Which findings follow one of the same nodule; sorted by nodule and year."""
    return findings[NODULE].eq(findings[NODULE].shift()).all(axis=1)


def _compare(title: str, ours: pd.DataFrame, theirs: pd.DataFrame, found: pd.Series) -> tuple[Agreement, pd.Series]:
    """How often the other source agrees, and which findings it has for another nodule than the one before."""
    shared = ours["scan"].isin(theirs["scan"].dropna())
    placed = theirs.loc[theirs["x"].notna(), "scan"]
    nodule = found.map(theirs["nodule_id"])
    linked = _before(ours) & nodule.notna() & nodule.shift().notna()
    differs = linked & nodule.ne(nodule.shift())
    agreement = Agreement(
        title,
        scans=int(ours.loc[shared, "scan"].nunique()),
        findings=int(shared.sum()),
        comparable=int((shared & ours["x"].notna() & ours["scan"].isin(placed)).sum()),
        matched=int(found.notna().sum()),
        links=int(linked.sum()),
        same=int((linked & ~differs).sum()),
    )
    return agreement, differs


def _moved(findings: pd.DataFrame) -> pd.Series:
    """Why a finding cannot be the nodule of the scan before, by their positions; empty where it can.

    Patients lie elsewhere on the table and are scanned from another height, so positions in two scans differ by what is
    common to all nodules: a nodule is held against others of the same two scans. One that is alone can be held against
    the way to the side only, which neither the table nor the scan's start changes much.
    """
    before = findings.shift()
    step = (findings[list(POSITION)] - before[list(POSITION)]).where(_before(findings))
    steps = step.assign(pid=findings["pid"], first=before["study_yr"], second=findings["study_yr"]).dropna()
    both = steps.reset_index().merge(steps.reset_index(), on=["pid", "first", "second"], suffixes=("", "_other"))
    both = both[both["index"] != both["index_other"]]
    gap = np.sqrt(sum((both[axis] - both[f"{axis}_other"]) ** 2 for axis in POSITION))
    alike = gap.groupby(both["index"]).min().reindex(findings.index)
    return pd.Series(
        np.select(
            [alike > APART_MM, alike.isna() & (step["x"].abs() > ASIDE_MM)],
            ["it moved otherwise than the patient's other nodules", "it lies far to the side of where it lay before"],
            "",
        ),
        findings.index,
    )
