"""Compressed transfer syntaxes, written by GDCM or pydicom and read as users read them."""

import numpy as np
import pydicom
import pytest
from pydicom.pixels.decoders import base

from data_prep.errors import ImageError
from data_prep.images import crops
from data_prep.images.dicom import open_series
from tests.data_prep.helpers import compress, stack, write_series

LOSSLESS = {
    "JPEGLosslessProcess14": "1.2.840.10008.1.2.4.57",
    "JPEGLosslessProcess14_1": "1.2.840.10008.1.2.4.70",
    "JPEGLSLossless": "1.2.840.10008.1.2.4.80",
    "JPEG2000Lossless": "1.2.840.10008.1.2.4.90",
    "RLELossless": "1.2.840.10008.1.2.5",
}
LOSSY = {"JPEGLSNearLossless": "1.2.840.10008.1.2.4.81", "JPEG2000": "1.2.840.10008.1.2.4.91"}
HU = np.random.default_rng(0).normal(-600, 200, (3, 40, 44)).round().clip(-1024, 3071)
CENTRE = (-40 + 0.6 * 21, -30 + 0.8 * 19, 102.0)


def twelve_bits(number, item):
    item.BitsStored, item.HighBit = 12, 11


@pytest.mark.parametrize("name", [*LOSSLESS, *LOSSY])
def test_compressed_series_give_the_same_crop(tmp_path, name):
    paths = write_series(tmp_path / "series", HU, stack(3), edit=twelve_bits)
    plain = np.asarray(crops.cut(tmp_path / "series", CENTRE, 16).dataobj)
    for path in paths:
        compress(path, name)
    assert pydicom.dcmread(paths[1]).file_meta.TransferSyntaxUID == {**LOSSLESS, **LOSSY}[name]
    crops._cached_series.cache_clear()
    read = np.asarray(crops.cut(tmp_path / "series", CENTRE, 16).dataobj)
    np.testing.assert_allclose(read, plain, atol=0 if name in LOSSLESS else 40)


@pytest.mark.parametrize("name", LOSSLESS)
def test_real_slices(tmp_path, real_series, name):
    series = open_series(real_series)
    copies = [tmp_path / path.name for path in series.paths[20:23]]
    for path, copy in zip(series.paths[20:23], copies, strict=True):
        copy.write_bytes(path.read_bytes())
        compress(copy, name)
    assert copies[0].stat().st_size < 0.8 * series.paths[20].stat().st_size
    read = open_series(tmp_path).read_slice(1)
    np.testing.assert_array_equal(np.asarray(read.dataobj), np.asarray(series.read_slice(21).dataobj))
    np.testing.assert_allclose(read.affine, series.read_slice(21).affine)


def test_no_decoder_is_named(tmp_path, monkeypatch):
    paths = write_series(tmp_path, HU, stack(3), edit=twelve_bits)
    compress(paths[1], "RLELossless")
    monkeypatch.setattr(base.Decoder, "is_available", False)
    with pytest.raises(ImageError, match="no decoder for RLE Lossless: install one, as by pip install") as caught:
        open_series(tmp_path).read_slice(1)
    assert caught.value.fault == "no decoder for RLE Lossless"


def test_no_decoder_exists(tmp_path):
    """JPIP refers to a server; nothing decodes it."""
    paths = write_series(tmp_path, HU, stack(3), edit=twelve_bits)
    item = pydicom.dcmread(paths[1])
    item.compress(LOSSLESS["RLELossless"])
    item.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.95"
    item.save_as(paths[1])
    with pytest.raises(ImageError, match="no decoder for"):
        open_series(tmp_path).read_slice(1)


@pytest.mark.parametrize("name", ["JPEGLSLossless", "JPEG2000Lossless"])
def test_damaged_pixels_are_refused(tmp_path, name):
    paths = write_series(tmp_path, HU, stack(3), edit=twelve_bits)
    compress(paths[1], name)
    content = bytearray(paths[1].read_bytes())
    start = content.index(b"\xe0\x7f\x10\x00") + 28
    content[start : start + 60] = bytes(60)
    paths[1].write_bytes(content)
    with pytest.raises(ImageError, match="unreadable pixels"):
        open_series(tmp_path).read_slice(1)
