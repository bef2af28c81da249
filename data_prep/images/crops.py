"""Nodule-centred crops of one axial slice, with true spacing and one orientation for all."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_prep.errors import ImageError
from data_prep.images import METAIMAGE
from data_prep.images.content import HU_RANGE, Spot, spot
from data_prep.images.dicom import Series, open_series
from data_prep.images.files import Stamp, stamp
from data_prep.images.hu import AIR, LOSSY, within_the_field_of_view
from data_prep.images.metaimage import open_metaimage
from data_prep.images.nifti import in_one_place, reading
from data_prep.images.stack import AXIS_TOLERANCE
from data_prep.spacing import SAME
from scripts.files import write_atomically

CHECKSUM = "sha256:"
"""How the field `descrip` of a crop's header begins, see :func:`checksum`."""

WIDEST_CROP_MM = 200
"""A chest is wider, and so is the field of view of its scan."""

ROUNDING = 1e-6
"""Of a pixel: what lies so far beyond the last one is on it."""

MARGIN = 12
"""Pixels about a grid, by which its values are determined: beyond, a spline's memory is below 1e-6."""

POINTS = ("seen", "nothing", "RAS", "rather RAS", "voxels")
"""Something nodule-like lies at a point; nothing does; nothing does, but would if the point were in mm RAS; something
does, but what would lie there in RAS looks more like it; nothing does, but would if the point were in voxels."""

Border = Literal["constant", "mirror"]


@dataclass(frozen=True)
class _Source:
    """An image, which of its series or transforms is meant, and of a folder what the file system says of it."""

    image: Path
    which: str | None
    found: Stamp

    @property
    def series(self) -> Series:
        return _cached_series(self.image, self.which, self.found)


def cut(
    image: Path,
    centre: Sequence[float] | None,
    size: int,
    spacing: float | None = None,
    transform: str | None = None,
    series_uid: str | None = None,
    found: Stamp = (),
) -> nib.Nifti1Image:
    """Cuts a crop of the axial slice through a nodule.

    Array axis 0 of the crop runs from the patient's right to left, axis 1 from anterior to posterior, axis 2 towards
    the head, as DICOM's axial slices do. The nodule is at index ``size // 2`` of axes 0 and 1, to half a pixel.

    Beyond the edge of a scan there is air; beyond the edge of an image that is a crop already, its mirror image. Such
    crops are some 40 pixels and the nodule wide, so a frame of air, or streaks of the last pixels, would tell the
    nodule's size. The mirrored nodule is farther away than the 45 pixels that a view of 64 reaches in any rotation.

    Args:
        image: a file (one of :data:`data_prep.images.VOLUMES`) or a folder with one DICOM series.
        centre: the nodule's x, y, z in mm, LPS as in DICOM; None: the image's own middle (files only).
        size: pixels along both axes.
        spacing: mm between pixels in plane, by cubic splines; None keeps the scanner's, and so do pixels of that size.
        transform: `qform` or `sform`, of NIfTI in which both are set and differ; None refuses those.
        series_uid: which series of a folder that holds several.
        found: the folder's :func:`data_prep.images.files.stamp`, if it was taken just now.

    Returns:
        HU, (size, size, 1) int16, with its RAS+ affine, diag(-sx, -sy, sz) but for the offset. Its ``extra`` has
        ``unpadded``, the part that shows the image: first and end along axis 0, first and end along axis 1; and
        ``point``, one of :data:`POINTS`, or None where the image is too small to tell. See also :func:`is_lossy`.

    Raises:
        ImageError: the image cannot be read or placed, the nodule lies outside it, or values about it are not finite.

    Example:
        >>> affine = np.diag([-0.7, -0.7, 2.5, 1.0])  # array axes run to the left, the back and the head
        >>> nib.save(nib.Nifti1Image(np.full((64, 64, 10), -800, np.int16), affine), "scan.nii.gz")
        >>> crop = cut(Path("scan.nii.gz"), centre=(21.0, 21.0, 12.5), size=32)
        >>> crop.shape, spacing(crop)
        ((32, 32, 1), (0.7, 0.7, 2.5))
    """
    folder = image.is_dir()
    source = _Source(image, series_uid if folder else transform, found or (stamp(image) if folder else ()))
    plane, voxel = _plane(source, centre)
    crop = _crop(image, plane, voxel, size, spacing, "mirror" if centre is None else "constant")
    crop.extra["point"] = _point(source, centre, plane, _spot(plane, voxel))
    return crop


def crop_plane(image: Path, transform: str | None = None) -> nib.Nifti1Image:
    """The axial slice of a file that is a crop already, whole and as it is: float32, axes as those of :func:`cut`.

    Args:
        image, transform: see :func:`cut`.

    Raises:
        ImageError: the image cannot be read or placed.
    """
    return to_lps(_file_plane(image, None, transform))


def _plane(source: _Source, centre: Sequence[float] | None) -> tuple[nib.Nifti1Image, NDArray[np.float64]]:
    """The axial slice that holds a point, its axes towards the patient's left, back and head, and the point's pixel.

    What lies outside the field of view is air.
    """
    image = source.image
    if image.is_dir():
        if centre is None:
            raise ImageError(image, "no x, y, z", "expected the nodule's centre (mm, LPS) with a DICOM folder.")
        plane = source.series.read_slice(source.series.nearest_slice(centre))
    else:
        plane = _file_plane(image, centre, source.which)
    plane = to_lps(plane)
    voxel = np.array(plane.shape[:2]) // 2 if centre is None else _voxel(plane, centre)[:2]
    hu = within_the_field_of_view(image, np.asarray(plane.dataobj, dtype=np.float32)[..., 0], voxel)
    return nib.Nifti1Image(hu[..., None], plane.affine, plane.header), voxel


def _spot(plane: nib.Nifti1Image, voxel: NDArray[np.float64]) -> Spot | None:
    return spot(np.asarray(plane.dataobj)[..., 0], voxel, np.linalg.norm(plane.affine[:3, :2], axis=0))


def _point(source: _Source, centre: Sequence[float] | None, plane: nib.Nifti1Image, here: Spot | None) -> str | None:
    """Whether something nodule-like lies at a point: see :data:`POINTS`; None where the image does not tell.

    The same point in RAS lies in the same slice. Another slice is read only where nothing lies in this one, so that one
    is all that is read of a good scan.
    """
    if here is None:
        return None
    if centre is not None and not here.clear:
        there = _spot(plane, _voxel(plane, [-centre[0], -centre[1], centre[2]])[:2])
        if there is not None and there.clear:
            return "rather RAS" if here.seen else "RAS"
    if here.seen or centre is None:
        return "seen" if here.seen else "nothing"
    try:
        there = _spot(*_plane(source, _from_voxels(source, centre)))
    except ImageError:  # it lies outside
        there = None
    return "voxels" if there is not None and there.clear else "nothing"


def _from_voxels(source: _Source, point: Sequence[float]) -> list[float]:
    """A point in voxels, along the axes of a file's array or column, row and slice from the feet, in mm, LPS."""
    if source.image.is_dir():
        series = source.series
        index = int(np.clip(round(point[2]), 0, len(series.paths) - 1))
        offset = series.axes @ (np.array([point[0], point[1], 0.0]) * series.spacing)
        return [float(each) for each in series.origins[index] + offset]
    affine = volume(source.image, source.which, centred=False).affine
    x, y, z = (float(each) for each in (affine @ [*point, 1.0])[:3])
    return [-x, -y, z]


def save(crop: nib.Nifti1Image, target: Path) -> str:
    """Writes a crop as NIfTI, whole or not at all, and gives what :func:`description` will."""
    text = checksum(crop)
    crop.header["descrip"] = text.encode()
    with write_atomically(target) as path:
        nib.save(crop, path)
    return text


def checksum(crop: nib.Nifti1Image) -> str:
    """By which a crop is known: SHA-256 of its pixels and of where they are."""
    places = np.concatenate([crop.header[f"srow_{axis}"] for axis in "xyz"]).astype("<f4")
    pixels = np.asanyarray(crop.dataobj).astype("<i2")
    return CHECKSUM + hashlib.sha256(places.tobytes() + pixels.tobytes()).hexdigest()


def description(path: Path) -> str:
    """What :func:`save` put into the header, the crop's checksum; empty where the file cannot be read."""
    try:
        with reading(path):
            return bytes(nib.Nifti1Image.from_filename(path).header["descrip"].item()).decode()
    except ImageError:
        return ""


def spacing(crop: nib.Nifti1Image | Path) -> tuple[float, float, float]:
    """Of a crop, or of its file: mm along its axes."""
    if isinstance(crop, Path):
        with reading(crop):
            crop = nib.Nifti1Image.from_filename(crop)
    x, y, z = (round(float(size), 4) for size in crop.header.get_zooms()[:3])
    return x, y, z


def is_lossy(crop: nib.Nifti1Image | Path) -> bool:
    """Whether a crop, or the one in a file, is of pixels that were compressed with loss."""
    if isinstance(crop, Path):
        with reading(crop):
            crop = nib.Nifti1Image.from_filename(crop)
    return bool(crop.header["intent_name"] == LOSSY.encode())


@lru_cache(maxsize=4)
def _cached_series(folder: Path, uid: str | None, found: Stamp) -> Series:
    """A series of a folder; the last ones are kept while their files do, since nodules of one scan come together."""
    return open_series(folder, uid, found)


def volume(path: Path, which: str | None, centred: bool) -> nib.Nifti1Image:
    """A file's image of three axes, its values not read yet."""
    meta = path.name.endswith(METAIMAGE)
    image = open_metaimage(path) if meta else nib.Nifti1Image.from_filename(path)
    if len(image.shape) < 2 or any(count > 1 for count in image.shape[3:]):
        raise ImageError(
            path, "not three dimensions", f"shape {image.shape}; expected two or three. Give one CT image."
        )
    if image.get_data_dtype().kind not in "biuf":
        raise ImageError(path, "no grey values", f"{image.get_data_dtype()}; expected one number a voxel, HU.")
    if len(image.shape) != 3:
        shape = (*image.shape, 1)[:3]
        image = nib.Nifti1Image(np.asanyarray(image.dataobj).reshape(shape), image.affine, image.header)
    return image if meta else in_one_place(path, image, which, centred)


def _file_plane(path: Path, centre: Sequence[float] | None, which: str | None) -> nib.Nifti1Image:
    """The axial slice of a file that holds ``centre``, or its middle one, in the file's own orientation."""
    with reading(path):
        image = volume(path, which, centred=centre is None)
        axis = axial_axis(path, image)
        if centre is None:
            _refuse_whole(path, image, axis)
        index = image.shape[axis] // 2 if centre is None else _containing(path, image, centre)[axis]
        plane = image.slicer[tuple(slice(index, index + 1) if n == axis else slice(None) for n in range(3))]
        return nib.Nifti1Image(np.asanyarray(plane.dataobj).astype(np.float32), plane.affine)


def _containing(path: Path, image: nib.Nifti1Image, centre: Sequence[float]) -> list[int]:
    """The voxel that holds a point (mm, LPS); refused where the point lies outside the image."""
    voxel = _voxel(image, centre)
    if np.any(voxel < -0.5) or np.any(voxel > np.array(image.shape) - 0.5):
        raise ImageError(
            path,
            "nodule outside the scan",
            f"at voxel {np.rint(voxel).astype(int).tolist()} of {list(image.shape)}; expected x, y, z in mm of the "
            "patient system (LPS). Check x, y, z.",
        )
    return [int(index) for index in np.rint(voxel).clip(0, np.array(image.shape) - 1)]


def _refuse_whole(path: Path, image: nib.Nifti1Image, axis: int) -> None:
    """Refuses an image in the middle of which no nodule can be meant, as it shows the whole chest."""
    extent = np.delete(np.array(image.shape) * np.linalg.norm(image.affine[:3, :3], axis=0), axis)
    if extent.max() > WIDEST_CROP_MM:
        raise ImageError(
            path,
            "no x, y, z",
            f"and {extent.max():.0f} mm wide, as a whole scan is; expected the nodule's centre (mm, LPS) in the "
            f"columns x, y, z or, without them, a crop about the nodule of {WIDEST_CROP_MM} mm at most.",
        )


def _unpadded(start: NDArray[np.float64], zoom: NDArray[np.float64], shape: Sequence[int], size: int) -> list[int]:
    """First and end, along both axes, of the pixels of a grid that lie between the first and last ones of an image."""
    first = np.ceil(-start / zoom - ROUNDING)
    end = np.floor((np.array(shape) - 1 - start) / zoom + ROUNDING) + 1
    return [int(each) for each in np.stack([first, end], axis=1).clip(0, size).ravel()]


def axial_axis(path: Path, image: nib.Nifti1Image) -> int:
    """The array axis along the patient's long axis; refused unless all axes are patient axes."""
    cosines = image.affine[:3, :3] / np.linalg.norm(image.affine[:3, :3], axis=0)
    if np.abs(cosines).max(axis=0).min() < np.sqrt(1 - AXIS_TOLERANCE**2):
        raise ImageError(path, "oblique", "expected array axes along the patient's axes. Resample it to axial slices.")
    return int(np.argmax(np.abs(cosines[2])))


def to_lps(plane: nib.Nifti1Image) -> nib.Nifti1Image:
    """Flips and permutes the array so that its axes run to the patient's left, back and head."""
    here = nib.orientations.io_orientation(plane.affine)
    return plane.as_reoriented(nib.orientations.ornt_transform(here, nib.orientations.axcodes2ornt("LPS")))


def _voxel(image: nib.Nifti1Image, centre: Sequence[float]) -> NDArray[np.float64]:
    """A point (mm, LPS) in voxels of an image."""
    point = np.array([-centre[0], -centre[1], centre[2], 1.0])
    return (np.linalg.inv(image.affine) @ point)[:3]


def _crop(
    image: Path, plane: nib.Nifti1Image, voxel: NDArray[np.float64], size: int, spacing: float | None, border: Border
) -> nib.Nifti1Image:
    """Samples a square grid about ``voxel`` (in pixels of the plane, LPS axes); refused where it has no values."""
    native = np.linalg.norm(plane.affine[:3, :2], axis=0)
    zoom = np.ones(2) if spacing is None or np.allclose(native, spacing, rtol=SAME, atol=0) else spacing / native
    voxel = np.rint(voxel) if (zoom == 1).all() else voxel
    start = voxel - zoom * (size // 2)
    hu = np.asarray(plane.dataobj, dtype=np.float32)[..., 0]
    values = _sampled(hu, zoom, start, size, border)
    if not np.isfinite(values).all():
        raise ImageError(image, "values not finite", "NaN or infinite about the nodule; expected HU. Export it again.")
    grid = np.eye(4)
    grid[:2, :2] = np.diag(zoom)
    grid[:2, 3] = start
    crop = nib.Nifti1Image(np.rint(values.clip(*HU_RANGE)).astype(np.int16)[..., None], plane.affine @ grid)
    crop.header["intent_name"] = plane.header["intent_name"]
    crop.header.set_xyzt_units("mm")
    crop.set_sform(crop.affine, code="scanner")
    crop.set_qform(crop.affine, code="scanner")
    crop.extra["unpadded"] = _unpadded(start, zoom, hu.shape, size)
    return crop


def _sampled(
    hu: NDArray[np.float32], zoom: NDArray[np.float64], start: NDArray[np.float64], size: int, border: Border
) -> NDArray[np.float32]:
    """The values on a grid: pixels as they are where it falls on them, else those of a cubic spline.

    Straight lines between pixels would blur edges, the more the larger the pixels, and so make nodules of coarse scans
    look larger than those of fine ones.
    """
    if (zoom == 1).all():
        return ndimage.affine_transform(hu, zoom, start, (size, size), order=1, mode=border, cval=AIR, prefilter=False)
    if zoom.max() > 1.0:  # coarser pixels see more of the neighbourhood; without this, noise would fold back
        hu = ndimage.gaussian_filter(hu, 0.5 * np.sqrt(np.maximum(zoom**2 - 1.0, 0.0)), mode="nearest")
    first = np.maximum(np.floor(start).astype(int) - MARGIN, 0)
    end = np.ceil(start + zoom * (size - 1)).astype(int) + MARGIN + 1
    part = hu[first[0] : end[0], first[1] : end[1]]
    return ndimage.affine_transform(part, zoom, start - first, (size, size), order=3, mode=border, cval=AIR)
