"""One straight, whole stack of one acquisition: what is refused, and what is good though it looks odd."""

import numpy as np
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from data_prep.errors import ImageError
from data_prep.images.dicom import open_series
from tests.data_prep.helpers import stack, write_series


def opened(folder, count=12, positions=None, **options):
    positions = stack(count) if positions is None else positions
    write_series(folder, np.zeros((len(positions), 4, 4)), positions, **options)
    return open_series(folder)


def tagged(**values):
    """Sets a tag of each slice to what a function of the slice's number from the feet says; None leaves it out."""

    def edit(number, item):
        for tag, value in values.items():
            if (told := value(number)) is not None:
                setattr(item, tag, told)

    return edit


ALTERNATING = {
    "AcquisitionNumber": lambda n: 1 + n % 2,
    "AcquisitionNumber of three": lambda n: 4 + n % 3,
    "AcquisitionNumber where they overlap": lambda n: [1, 1, 1, 1, 1, 2, 1, 2, 2, 2, 2, 2][n],
    "TemporalPositionIdentifier": lambda n: 1 + n % 2,
    "ConvolutionKernel": lambda n: ["B30f", "B70f"][n % 2],
    "SliceThickness": lambda n: [1.25, 5.0][n % 2],
    "AcquisitionTime": lambda n: f"{101500 + 100 * (n % 2) + n // 2:06d}.5",
    "InstanceNumber, one after the other": lambda n: 1 + 6 * (n % 2) + n // 2,
    "InstanceNumber, there and back": lambda n: 12 - n // 2 if n % 2 else 1 + n // 2,
    "InstanceNumber, each on two slices": lambda n: 1 + n // 2,
}


@pytest.mark.parametrize("case", ALTERNATING)
def test_acquisitions_that_alternate_are_refused(tmp_path, case):
    """Slices of two breaths, evenly spaced between each other, are no one stack."""
    tag = case.split()[0].strip(",")
    with pytest.raises(ImageError, match=f"several acquisitions: or reconstructions, by {tag}"):
        opened(tmp_path, edit=tagged(**{tag: ALTERNATING[case]}))


GOOD = {
    "one": tagged(AcquisitionNumber=lambda n: 3, InstanceNumber=lambda n: n + 1),
    "blocks": tagged(AcquisitionNumber=lambda n: 1 + n // 4, AcquisitionTime=lambda n: f"10150{n // 4}"),
    "downwards": tagged(AcquisitionNumber=lambda n: 9 - n // 3, InstanceNumber=lambda n: 40 - n),
    "a number each": tagged(AcquisitionNumber=lambda n: n + 1),
    "not told by all": tagged(AcquisitionNumber=lambda n: 1 if n % 2 else None),
    "numbered at random": tagged(InstanceNumber=lambda n: [5, 11, 1, 8, 12, 3, 10, 2, 7, 4, 9, 6][n]),
    "all alike": tagged(InstanceNumber=lambda n: 1),
    "thin ends": tagged(SliceThickness=lambda n: 1.0 if n in (0, 11) else 2.0),
    "times that shake": tagged(AcquisitionTime=lambda n: f"1015{[0, 0, 1, 0, 1, 1, 2, 2, 3, 2, 3, 3][n]:02d}"),
    "spelled differently": tagged(SliceThickness=lambda n: ["2.50", "2.5"][n % 2]),
    "two counts": tagged(InstanceNumber=lambda n: [7, 8, 9, 10, 11, 12, 1, 2, 3, 4, 5, 6][n]),
}


@pytest.mark.parametrize("case", GOOD)
def test_one_acquisition_is_taken(tmp_path, case):
    assert len(opened(tmp_path, edit=GOOD[case]).paths) == 12


@pytest.mark.parametrize("step", [0.625, 0.75, 1.25, 0.8333, 1.0, 2.5, 0.33])
@pytest.mark.parametrize("start", [100.0, -312.4375, 17.05])
def test_positions_rounded_to_a_tenth_of_a_millimetre(tmp_path, step, start):
    heights = [round(start + step * number, 1) for number in range(60)]
    series = opened(tmp_path, positions=[[-40.0, -30.0, height] for height in heights])
    assert series.spacing[2] == pytest.approx(step, abs=0.05 if step >= 1 else 0.004)
    assert series.origins[:, 2].tolist() == heights


@pytest.mark.parametrize("gone", [(20,), (7, 8), (3, 30), (1,), (58,)])
def test_missing_slices_among_rounded_positions(tmp_path, gone):
    heights = [round(0.625 * number, 1) for number in range(60) if number not in gone]
    with pytest.raises(ImageError, match=f"missing slices: {len(gone)}, the first after z = {heights[gone[0] - 1]:g}"):
        opened(tmp_path, positions=[[-40.0, -30.0, height] for height in heights])


def test_a_slice_is_missing_of_three(tmp_path):
    with pytest.raises(ImageError, match="missing slices: 1, the first after z = 2 mm; expected one every 2 mm"):
        opened(tmp_path, positions=[[0, 0, height] for height in (0, 2, 6)])


UNEVEN = {
    "two breaths": [2.0 * (n // 2) + 0.7 * (n % 2) for n in range(20)],
    "one moved": [1.25 * n + 0.4 * (n == 9) for n in range(20)],
    "wider above": [1.0 * n + 0.3 * max(n - 10, 0) for n in range(20)],
}


@pytest.mark.parametrize("case", UNEVEN)
def test_uneven_stacks_are_refused(tmp_path, case):
    with pytest.raises(ImageError, match="(mixed slice spacing|missing slices):"):
        opened(tmp_path, positions=[[0, 0, height] for height in UNEVEN[case]])


MALFORMED = {
    "ImagePositionPatient": (["1", "2", "nan"], ["1", "2"], ["1", "2", "inf"], ["1", "x", "2"]),
    "ImageOrientationPatient": ([1, 0, 0, 0, 1], [2, 0, 0, 0, 2, 0], [1, 0, 0, 0.1, 1, 0], [0, 0, 0, 0, 0, 0]),
    "PixelSpacing": (["0.7"], ["0", "0.7"], ["-0.7", "0.7"], ["0,7", "0,7"], ["nan", "1"]),
    "RescaleSlope": (["0"], ["-1"], ["nan"], ["1", "1"], ["one"]),
    "RescaleIntercept": (["nan"], ["inf"], ["-1024", "0"], ["none"]),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("tag", "values"), [(tag, values) for tag, all_ in MALFORMED.items() for values in all_])
@pytest.mark.parametrize("every", [False, True])
def test_malformed_numbers_are_named(tmp_path, tag, values, every):
    """NaN among them: it is no position behind all others."""

    def edit(number, item):
        if every or number == 3:
            stored = "\\".join(map(str, values)).encode()
            item[tag] = RawDataElement(Tag(tag), "DS", len(stored), stored, 0, False, True)

    with pytest.raises(ImageError, match=f"(malformed|mixed) {tag}") as caught:
        opened(tmp_path, 6, edit=edit)
    assert caught.value.fault == f"malformed {tag}" or not every


@pytest.mark.filterwarnings("ignore")
def test_tags_that_nothing_depends_on_may_be_malformed(tmp_path):
    def edit(number, item):
        for tag in ("SliceThickness", "InstanceNumber", "AcquisitionNumber", "GantryDetectorTilt"):
            item[tag] = RawDataElement(Tag(tag), "DS", 4, b"n.a.", 0, False, True)

    series = opened(tmp_path, 6, edit=edit)
    assert series.spacing[2] == 2.0 and np.isnan(series.instances).all()


def test_positions_in_several_frames_of_reference_are_refused(tmp_path):
    with pytest.raises(ImageError, match="several FrameOfReferenceUID: 2"):
        opened(tmp_path, edit=tagged(FrameOfReferenceUID=lambda n: f"1.2.{n // 6}"))
