"""What can happen to the files of a series and to their folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

from tests.adversary.corruption import corrupts
from tests.adversary.scans import SECRETS, Series, other
from tests.adversary.writer import BIG, DEFLATED, EXPLICIT, IMPLICIT, RLE, file

BOTH = ("series", "place")
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
CUT = ("truncated file", "several series", "unreadable header", "unreadable pixels", "missing")


@corrupts(*BOTH, facet="syntax")
def another_transfer_syntax(series: Series, rng: Random) -> None:
    """One for all files, or each its own."""
    mixed, one = rng.random() < 0.3, rng.choice((IMPLICIT, BIG, DEFLATED, RLE))
    for each in series.slices:
        each.syntax = rng.choice((EXPLICIT, IMPLICIT, BIG, DEFLATED, RLE)) if mixed else one


@corrupts(*BOTH, facet="syntax")
def explicit_files_that_say_implicit(series: Series, rng: Random) -> None:
    for each in series.slices:
        each.claimed = IMPLICIT


@corrupts(*BOTH, facet="syntax", not_read=("unreadable header", "unreadable pixels"))
def implicit_files_that_say_explicit(series: Series, rng: Random) -> None:
    for each in series.slices:
        each.syntax, each.claimed = IMPLICIT, EXPLICIT


@corrupts("series", facet="syntax", refused=("no decoder", "unreadable pixels", "unreadable header"))
def a_syntax_that_nobody_knows(series: Series, rng: Random) -> None:
    for each in series.slices:
        each.claimed = rng.choice(("1.2.840.10008.1.2.4.94", "1.2.3.4.5"))


@corrupts(*BOTH, facet="syntax, bytes")
def files_without_preamble(series: Series, rng: Random) -> None:
    """Some or all begin with the group of meta information, or with the data set itself."""
    bare = rng.random() < 0.5
    for each in rng.sample(series.slices, rng.randint(1, len(series.slices))):
        each.spoil = _without_meta if bare else _without_preamble
        each.syntax = IMPLICIT if bare else EXPLICIT


@corrupts(*BOTH, facet="bytes", not_read=CUT)
def a_truncated_file(series: Series, rng: Random) -> None:
    """Where it is not the nodule's slice, the crop can be right."""
    share = rng.uniform(0.05, 0.98)
    rng.choice(series.slices).spoil = lambda content: content[: int(share * len(content))]


@corrupts(*BOTH, facet="bytes", refused=("unreadable header", "no DICOM", "missing slices", "empty file"))
def an_empty_file(series: Series, rng: Random) -> None:
    rng.choice(series.slices[1:-1] or series.slices).spoil = lambda content: b""


@corrupts(*BOTH, facet="bytes")
def something_after_the_pixels(series: Series, rng: Random) -> None:
    """Data set trailing padding (PS3.10, 7.2), which has no meaning."""
    count = 2 * rng.randint(1, 300)
    for each in series.slices:
        if each.syntax == EXPLICIT and each.claimed is None:
            padding = b"\xfc\xff\xfc\xffOB\0\0" + count.to_bytes(4, "little") + bytes(count)
            each.spoil = lambda content, padding=padding: content + padding  # type: ignore[misc]


@corrupts(*BOTH, facet="names")
def names_without_ending(series: Series, rng: Random) -> None:
    for each in series.slices:
        each.name = each.name.removesuffix(".dcm")


@corrupts(*BOTH, facet="names")
def names_as_uids(series: Series, rng: Random) -> None:
    for number, each in enumerate(series.slices):
        each.name = f"{SECRETS['StudyInstanceUID']}.{number * 7919 % 97}.{number}"


@corrupts(*BOTH, facet="names")
def files_one_folder_deeper(series: Series, rng: Random) -> None:
    for each in series.slices:
        each.name = f"DICOM/{each.name}"


@corrupts(*BOTH, facet="links")
def files_that_are_links(series: Series, rng: Random) -> None:
    series.linked = True


@corrupts(*BOTH, facet="beside")
def other_files_beside(series: Series, rng: Random) -> None:
    text = {"notes.txt": b"Meyerhoff, seen 2019", ".DS_Store": b"\0\0\0\1Bud1", "Thumbs.db": b"\xd0\xcf\x11\xe0" * 40}
    series.beside |= text | {"report.pdf": b"%PDF-1.4\n" + bytes(400), "._IM00001.dcm": b"\0\5\x16\7" + bytes(60)}


@corrupts(*BOTH, facet="beside")
def a_directory_of_the_medium(series: Series, rng: Random) -> None:
    tags = {"SOPInstanceUID": "1.2.3.9", "FileSetID": "DISC"}
    series.beside[rng.choice(("DICOMDIR", "dicomdir"))] = file(tags, EXPLICIT, None)


@corrupts("series", facet="beside, names", refused="several series")
def a_second_series_in_the_folder(series: Series, rng: Random) -> None:
    second = other(series.truth, rng)
    for number, each in enumerate([*series.slices]):
        tags = {**each.tags, "SeriesInstanceUID": f"{SECRETS['StudyInstanceUID']}.5"}
        tags["SOPInstanceUID"] = f"{tags['SOPInstanceUID']}.5"
        copied = replace(each, tags=tags, hu=second.hu[min(number, len(second.hu) - 1)], spoil=None)
        series.beside[f"B{number:04d}.dcm"] = copied.content()


@corrupts("series", facet="beside")
def a_report_in_the_folder(series: Series, rng: Random) -> None:
    """Or another object that refers to the slices."""
    kind = rng.choice(("SR", "KO", "PR", "RTSTRUCT"))
    tags = {**SECRETS, "SOPInstanceUID": "1.2.3.8", "SeriesInstanceUID": "1.2.3.7", "Modality": kind}
    series.beside[f"{kind}000001.dcm"] = file(tags, EXPLICIT, None)


@corrupts("series", facet="beside")
def a_segmentation_in_the_folder(series: Series, rng: Random) -> None:
    frames = len(series.slices)
    series.beside["SEG.dcm"] = _beside(series, SOPClassUID=SEGMENTATION, Modality="SEG", NumberOfFrames=frames)


@corrupts("series", facet="beside")
def a_scout_in_the_folder(series: Series, rng: Random) -> None:
    """A localizer as a series of its own."""
    scout = _beside(series, ImageType=("ORIGINAL", "PRIMARY", "LOCALIZER"), ImageOrientationPatient=(1, 0, 0, 0, 0, -1))
    series.beside["IM00000.dcm"] = scout


@corrupts("series", facet="beside, names", refused="several series")
def a_picture_of_the_dose_in_the_folder(series: Series, rng: Random) -> None:
    """A secondary capture: it could be of the patient."""
    kind = rng.choice(("CT", "OT"))
    series.beside["DOSE.dcm"] = _beside(series, SOPClassUID="1.2.840.10008.5.1.4.1.1.7", Modality=kind)


@corrupts(*BOTH, facet="stack, bytes")
def a_file_twice(series: Series, rng: Random) -> None:
    copied = rng.choice(series.slices)
    folder, _, name = copied.name.rpartition("/")
    series.beside[str(Path(folder, f"copy of {name}"))] = copied.content()


def _beside(series: Series, **tags: object) -> bytes:
    """A file of another series, like one of the slices but for some tags."""
    first = series.slices[0]
    uids = {"SeriesInstanceUID": "1.2.3.7", "SOPInstanceUID": "1.2.3.8"}
    return replace(first, tags={**first.tags, **uids, **tags}, spoil=None, syntax=EXPLICIT, claimed=None).content()


def _without_preamble(content: bytes) -> bytes:
    return content[132:]


def _without_meta(content: bytes) -> bytes:
    return content[144 + int.from_bytes(content[140:144], "little") :]
