"""Proves an installation: one drawn scan with known answers, digests, versions; nothing is asked of a network.

``python -m deploy self-test`` prints a line a check. ``python -m deploy.self_test > deploy/self_test.json`` writes down
what this machine answers, which is done when weights change.
"""

from __future__ import annotations

import json
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from deploy import trust
from scripts.errors import UserError, listed
from scripts.files import read_mapping

EXPECTED = Path(__file__).with_name("self_test.json")
"""What the installation of a developer answered."""

LOCK = "requirements.lock"

POINT, PIXEL_MM = (-70.0, 0.0, 102.0), 1.5
"""The drawn nodule's centre and the scan's pixels, mm."""

RECORD = {
    **{"sct_pre_att": 1, "sct_epi_loc": 3, "sct_long_dia": 9, "sct_perp_dia": 8, "sct_margins": 2, "age": 61},
    **{"diagemph": 0, "gender": 2, "famfather": 0, "fammother": 0, "fambrother": 0, "famsister": 0, "famchild": 0},
}

SETTINGS: dict[str, Any] = {"num_runs": 2, "num_steps": 12, "solver": "dpmpp", "seed": 23}

HU, CHANCE, MM = 3.0, 0.01, 0.2
"""How far means of HU, probabilities and diameters may be from those expected: other processors round otherwise."""

GRID = 8
"""Rows and columns of blocks that the mean of the runs is compared in."""


class SelfTestError(UserError):
    """What an installation does not do as expected."""


def self_test(show: Callable[[str], Any]) -> bool:
    """Runs all checks and shows a line of each; False where one fails."""
    asked = _watch_network()
    good = True
    with tempfile.TemporaryDirectory() as place:
        checks: dict[str, Callable[[], str]] = {
            "python": _python,
            "packages": _packages,
            "program": _program,
            "weights": _weights,
            "result": lambda: _result(Path(place)),
            "objects": lambda: _objects(Path(place) / "dicom"),
            "network": lambda: _network(asked),
        }
        for name, check in checks.items():
            try:
                line = f"ok    {name}: {check()}"
            except Exception as error:  # a broken installation fails as it likes
                good, line = False, f"FAIL  {name}: {_first(error)}"
            show(line)
    return good


def _first(error: BaseException) -> str:
    """What came first of errors that wrap each other, as MONAI's do, in one line."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"


def _python() -> str:
    if sys.version_info[:2] != (3, 11):
        raise SelfTestError(f"Python {platform.python_version()}; the lock is of 3.11.")
    return f"{platform.python_version()}, {platform.machine()}"


def _packages() -> str:
    wanted = dict(re.findall(r"^([\w.-]+)==(\S+)", (trust.ROOT / LOCK).read_text(encoding="utf-8"), flags=re.MULTILINE))
    wrong = []
    for name, version in wanted.items():
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            found = "absent"
        if found != version:
            wrong.append(f"{name} {found} (expected {version})")
    if wrong or not wanted:
        raise SelfTestError(f"{len(wrong)} of {len(wanted)} are not as {LOCK} says: {listed(wrong)}")
    return f"{len(wanted)} as {LOCK} says"


def _program() -> str:
    count = trust.check_trusted()
    return f"{count} files as installed" if count else f"a checkout without {trust.MANIFEST}; nobody else may write it"


def _weights() -> str:
    expected, found = read_mapping(EXPECTED)["weights"], weights()
    if wrong := [name for name in expected if found.get(name) != expected[name]]:
        raise SelfTestError(f"{listed(wrong)} of bundle/models have other digests than expected.")
    return f"{len(found)} digests as expected"


def weights() -> dict[str, str]:
    """Digests of the bundle's weights by name."""
    from data_prep import BUNDLE
    from scripts.fingerprint import digest_weights

    paths = [*(BUNDLE / "models").glob("*.safetensors"), BUNDLE / "models" / "conditioner"]
    return {path.stem: digest_weights(path) for path in sorted(paths)}


def _result(place: Path) -> str:
    expected, found = read_mapping(EXPECTED)["answers"], answers(place)
    wrong = differences(expected, found)
    if wrong:
        raise SelfTestError(f"the drawn nodule has other results: {listed(wrong)}")
    same = "bit for bit" if found["samples_sha256"] == expected["samples_sha256"] else "within rounding"
    return f"as expected, samples {same}; computed on {_device()}"


def _device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "the processor"


def differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """What of the answers is further from those expected than rounding."""
    wrong = [] if found["crop_sha256"] == expected["crop_sha256"] else ["the crop is another"]
    off = float(np.max(np.abs(np.subtract(found["mean_hu"], expected["mean_hu"]))))
    wrong += [f"means are off by {off:.1f} HU"] if not off <= HU else []
    for name, chance in expected["probabilities"].items():
        if name not in found["probabilities"] or not abs(found["probabilities"][name] - chance) <= CHANCE:
            wrong.append(f"{name}: {found['probabilities'].get(name)} instead of {chance}")
    if not abs(found["change_mm"] - expected["change_mm"]) <= MM:
        wrong.append(f"change {found['change_mm']} instead of {expected['change_mm']} mm")
    return wrong


def answers(place: Path) -> dict[str, Any]:
    """What this installation answers of the drawn nodule, and its DICOM objects in ``place/dicom``."""
    import hashlib

    import nibabel as nib

    from deploy import case, dicom_case

    draw_series(place / "series")
    asked = (place / "series", POINT, RECORD, place / "out", place / "dicom")
    result = dicom_case.predict(case.Predictor(**SETTINGS), *asked, secret=place / "secret")
    samples, crop = (
        np.asarray(nib.Nifti1Image.from_filename(place / "out" / name).dataobj)
        for name in ("nodule/samples.nii.gz", "nodule.nii.gz")
    )
    mean = samples.mean(axis=(2, 3))
    blocks = mean.reshape(GRID, len(mean) // GRID, GRID, len(mean) // GRID).mean(axis=(1, 3))
    return {
        "crop_sha256": hashlib.sha256(crop.astype("<i2").tobytes()).hexdigest(),
        "samples_sha256": hashlib.sha256(samples.astype("<i2").tobytes()).hexdigest(),
        "mean_hu": np.round(blocks, 1).tolist(),
        "probabilities": {each["method"]: each["uncalibrated"] for each in result["methods"] if "uncalibrated" in each},
        "change_mm": result["growth"]["change_mm"]["mean"]["median"],
    }


def draw_series(folder: Path) -> None:
    """Five slices of a body with two lungs and a nodule, as simulated DICOM; whole numbers alone decide the pixels."""
    from data_prep.phantom.patients import Patient
    from data_prep.phantom.scanner import PIXELS, Scan
    from data_prep.phantom.writer import write_series

    index = np.arange(PIXELS) - PIXELS // 2
    x, y = 3 * index[:, None], 3 * index[None, :]  # half millimetres
    plane = np.full((PIXELS, PIXELS), -1000, dtype=np.int16)
    plane[9 * x * x + 16 * y * y < 9 * 300**2] = 40
    for side in (-1, 1):
        plane[4 * (x - side * 140) ** 2 + 2 * y * y < 4 * 110**2] = -850
    origin = np.array([-PIXEL_MM * (PIXELS // 2), -PIXEL_MM * (PIXELS // 2), POINT[2] - 4.0])
    slices = []
    for number in range(5):
        z = 4 * (number - 2)  # half millimetres
        ball = (x - 2 * int(POINT[0])) ** 2 + (y - 2 * int(POINT[1])) ** 2 + z * z < 9**2
        slices.append(np.where(ball, 30, plane).astype(np.int16))
    scan = Scan(np.stack(slices), origin, (PIXEL_MM, 2.0), "STANDARD", [np.array(POINT)])
    write_series(scan, Patient(1, 61, 2, 0, {}, (), 365), 0, 0, 0, folder)


def _objects(folder: Path) -> str:
    import pydicom

    paths = sorted(folder.glob("*.dcm"))
    items = [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]
    if unmarked := [path.name for path, item in zip(paths, items, strict=True) if item.get("SyntheticData") != "YES"]:
        raise SelfTestError(f"{listed(unmarked)} are not marked as synthetic.")
    if not items:
        raise SelfTestError("no DICOM object was written.")
    return f"{len(items)} written, each marked as synthetic"


def _watch_network() -> list[str]:
    """A list that fills with the hosts that anything in this process asks for from now on."""
    asked: list[str] = []

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.getaddrinfo" or (event == "socket.connect" and isinstance(arguments[1], tuple)):
            asked.append(str(arguments[0] if event == "socket.getaddrinfo" else arguments[1][0]))

    sys.addaudithook(watch)
    return asked


def _network(asked: list[str]) -> str:
    if asked:
        raise SelfTestError(f"asked for {listed(sorted(set(asked)))}; expected nothing outside this machine.")
    return "nothing was asked for"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        print(json.dumps({"answers": answers(Path(made)), "weights": weights()}, indent=1))
