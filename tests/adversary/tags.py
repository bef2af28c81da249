"""What can stand in the header of a series, or not."""

from __future__ import annotations

from random import Random

from tests.adversary.corruption import corrupts
from tests.adversary.scans import SECRETS, Series, set_tags
from tests.adversary.writer import Items, Raw

BOTH = ("series", "place")
UNREADABLE = ("malformed", "unreadable header", "missing", "mixed")


@corrupts(*BOTH, facet="spacing", refused=UNREADABLE)
def a_pixel_spacing_that_is_none(series: Series, rng: Random) -> None:
    spoiled = rng.choice((None, "", "0.7", ("0", "0"), ("-0.7", "-0.7"), ("0,7", "0,7"), ("nan", "nan"), "0.7x0.7"))
    series.tag(PixelSpacing=spoiled)


@corrupts(*BOTH, facet="spacing", refused="mixed PixelSpacing")
def one_slice_of_another_pixel_spacing(series: Series, rng: Random) -> None:
    set_tags(rng.choice(series.slices), PixelSpacing=(0.9, 0.9))


@corrupts(*BOTH, facet="spacing, rescale")
def numbers_written_oddly(series: Series, rng: Random) -> None:
    """Decimal strings (PS3.5, 6.2) may have blanks about them, a sign and an exponent."""
    y_mm, x_mm = (float(value) for value in series.truth.spacing[1::-1])
    series.tag(PixelSpacing=Raw("DS", f" +{y_mm:.4E}\\{x_mm:.6f} ".encode().ljust(24)))
    series.tag(RescaleSlope=Raw("DS", b"1.0E+00 "))


@corrupts(*BOTH, facet="thickness")
def a_thickness_that_is_no_distance(series: Series, rng: Random) -> None:
    series.tag(SliceThickness=rng.choice(("5", "", "0.5", None)), SpacingBetweenSlices=rng.choice(("-3", "9", "")))


@corrupts(*BOTH, facet="matrix", refused="mixed Rows")
def one_slice_of_another_height(series: Series, rng: Random) -> None:
    chosen = rng.choice(series.slices)
    chosen.hu = chosen.hu[:-2]
    set_tags(chosen, Rows=chosen.hu.shape[0])


@corrupts("series", facet="matrix", refused=("truncated file", "unreadable pixels", "malformed"))
def more_rows_than_pixels(series: Series, rng: Random) -> None:
    series.tag(Rows=series.truth.hu.shape[1] + rng.randint(1, 9))


@corrupts(*BOTH, facet="tilt", refused="gantry tilt")
def a_tilted_gantry(series: Series, rng: Random) -> None:
    series.tag(GantryDetectorTilt=rng.choice(("-12.5", "20", "3.1")))


@corrupts(*BOTH, facet="tilt")
def a_gantry_that_is_straight_in_odd_words(series: Series, rng: Random) -> None:
    series.tag(GantryDetectorTilt=rng.choice(("", "-0.0", "0.00000000000000", "+0")))


@corrupts(*BOTH, facet="kind", refused="not CT")
def another_modality(series: Series, rng: Random) -> None:
    series.tag(Modality=rng.choice(("MR", "PT", "SC", "RTDOSE")))


@corrupts(*BOTH, facet="kind")
def a_modality_with_blanks(series: Series, rng: Random) -> None:
    series.tag(Modality=Raw("CS", b" CT "))


@corrupts(*BOTH, facet="kind, series", refused="localizer")
def a_localizer_among_the_slices(series: Series, rng: Random) -> None:
    set_tags(rng.choice(series.slices), ImageType=("ORIGINAL", "PRIMARY", "LOCALIZER"))


@corrupts(*BOTH, facet="kind")
def no_image_type(series: Series, rng: Random) -> None:
    series.tag(ImageType=rng.choice((None, "", ("DERIVED", "SECONDARY"))))


@corrupts(*BOTH, facet="kind", refused="multi-frame")
def several_frames(series: Series, rng: Random) -> None:
    series.tag(NumberOfFrames=rng.choice((2, 40)))


@corrupts(*BOTH, facet="kind")
def one_frame_that_is_counted(series: Series, rng: Random) -> None:
    series.tag(NumberOfFrames=rng.choice(("1", "")))


@corrupts("series", facet="privacy", refused="burned-in annotation")
def text_burnt_into_the_pixels(series: Series, rng: Random) -> None:
    set_tags(rng.choice(series.slices), BurnedInAnnotation=rng.choice(("YES", Raw("CS", b"YES "))))


@corrupts(*BOTH, facet="privacy")
def no_text_in_the_pixels(series: Series, rng: Random) -> None:
    series.tag(BurnedInAnnotation=rng.choice(("NO", "")))


@corrupts(*BOTH, facet="series", refused="several series")
def one_slice_of_another_series(series: Series, rng: Random) -> None:
    set_tags(rng.choice(series.slices), SeriesInstanceUID=f"{SECRETS['StudyInstanceUID']}.99")


@corrupts("series", facet="series", refused="missing SeriesInstanceUID")
def no_series_uid(series: Series, rng: Random) -> None:
    set_tags(rng.choice(series.slices), SeriesInstanceUID=rng.choice((None, "")))


@corrupts("series", facet="series", refused=("malformed SeriesInstanceUID", "several series"))
def several_series_uids_of_one_slice(series: Series, rng: Random) -> None:
    """A number in two parts, by a writer that took the separator of values for one of components."""
    set_tags(rng.choice(series.slices), SeriesInstanceUID=Raw("UI", b"1.2.840\\113619.2"))


@corrupts(*BOTH, facet="nested")
def the_same_tags_within_sequences(series: Series, rng: Random) -> None:
    lies = {"ImagePositionPatient": (9, 9, 9), "PixelSpacing": (3, 3), "RescaleSlope": "7", "Rows": 3, "Modality": "MR"}
    inner = Items((lies, lies), rng.random() < 0.5)
    icon = {"Rows": 2, "Columns": 2, "BitsAllocated": 8, 0x7FE00010: Raw("OB", b"abcd")}
    series.tag(SourceImageSequence=Items(({**lies, "ReferencedImageSequence": inner},), rng.random() < 0.5))
    series.tag(IconImageSequence=Items((icon,), rng.random() < 0.5))


@corrupts(*BOTH, facet="private")
def private_tags_and_overlays(series: Series, rng: Random) -> None:
    large = bytes(rng.choice((10, 9000, 70000)))
    for each in series.slices:
        each.tags[0x00290010] = Raw("LO", b"VENDOR X")
        each.tags[0x00291010] = Raw(rng.choice(("OB", "UN")), large)
        each.tags[0x00280000] = Raw("UL", b"\x10\0\0\0")
        each.tags[0x60003000] = Raw("OW", bytes(200))


@corrupts(*BOTH, facet="character set")
def names_in_foreign_letters(series: Series, rng: Random) -> None:
    charset = rng.choice(("ISO_IR 100", "ISO_IR 192", "ISO 2022 IR 87", "nonsense"))
    series.tag(SpecificCharacterSet=charset, PatientName=Raw("PN", b"Meyerhoff^\xd6ttilie\xff "))


@corrupts("series", facet="position")
def values_of_unknown_representation(series: Series, rng: Random) -> None:
    """A converter that knows no dictionary writes UN; what a tag holds, its number says (PS3.5, 6.2.2, note 2)."""
    for each in series.slices:
        text = "\\".join(f"{value:.10g}" for value in each.tags["ImagePositionPatient"]).encode()
        each.tags["ImagePositionPatient"] = Raw("UN", text + b" " * (len(text) % 2))
