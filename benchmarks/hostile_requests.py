"""10,000 malformed requests, DICOM files and zip files, as a worker reads them: each a clear refusal, or harmless.

    python benchmarks/hostile_requests.py [COUNT]

A drawn chest of three slices with a request, of which one file is spoilt: half the time request.json, a quarter
request.dcm (a structured report), a quarter a slice; each fiftieth time it is a zip file that breaks a limit, of which
none may be taken. What is told of each is searched for the patient's name and
number and for paths. Reading is that of deploy/worker/guard.py with its memory limit, in one process for all, since a
process each would take hours.
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "bundle")]

import pydicom  # noqa: E402

from deploy.dicom_out.write import quiet  # noqa: E402
from deploy.request import IDENTITY  # noqa: E402
from deploy.request_sr import make_request_sr  # noqa: E402
from deploy.worker.guard import MEMORY_BYTES, UPLOAD, refused  # noqa: E402
from tests.deploy.archives import HOSTILE  # noqa: E402
from tests.deploy.scans import POINT, RECORD, write_chest  # noqa: E402

SECRETS = ("Doe", "MRN-4711", "ACC-815", "4711")

NESTED = b"\x40\x00\x30\xa7SQ\0\0" + b"\xff" * 4 + b"\xfe\xff\x00\xe0" + b"\xff" * 4
"""A sequence with an item, both of undefined length, which begin and do not end."""

VALUES = [None, True, -1, 1e300, float("nan"), "", "x" * 70000, [], {}, [[[]]], "../../etc/passwd", "\0", "Doe^Jane"]


def spoilt_json(good: dict, draw: random.Random) -> bytes:
    """A request in which a key, a value, or the text is wrong."""
    content, kind = json.loads(json.dumps(good)), draw.randrange(6)
    place = content if draw.random() < 0.6 else content["record"]
    key = draw.choice(list(place))
    if kind == 0:
        del place[key]
    elif kind == 1:
        place[key] = draw.choice(VALUES)
    elif kind == 2:
        place[draw.choice(["weights", "path", "Doe^Jane", "record ", "\u202e"])] = draw.choice(VALUES)
    elif kind == 3:
        content["point"] = [draw.choice([*VALUES, 1.0, 1e9]) for _ in range(draw.randrange(6))]
    text = json.dumps(content).encode()
    if kind == 4:
        return spoilt_bytes(text, draw)
    return b"[" * draw.randrange(1, 60000) + text if kind == 5 else text


def spoilt_bytes(content: bytes, draw: random.Random) -> bytes:
    """A file that is cut, or has some bytes that are others, more or fewer."""
    data, kind = bytearray(content), draw.randrange(5)
    at = draw.randrange(len(data)) if draw.random() < 0.3 else draw.randrange(min(len(data), 1500))
    if kind == 0:
        del data[at:]
    elif kind == 1:
        for _ in range(draw.randrange(1, 30)):
            data[draw.randrange(min(len(data), 1500))] = draw.randrange(256)
    elif kind == 2:
        data[at : at + draw.randrange(1, 200)] = bytes(draw.randrange(256) for _ in range(draw.randrange(200)))
    elif kind == 3:
        data[at : at + 4] = b"\xff\xff\xff" + bytes([draw.choice([0xFF, 0x7F])])
    else:
        del data[at : at + draw.randrange(1, 300)]
    return bytes(data)


def spoilt_dicom(path: Path, draw: random.Random) -> None:
    """A DICOM file with spoilt bytes, or an element that is missing, empty, huge, of other values or nested deep."""
    if draw.random() < 0.5:
        path.write_bytes(spoilt_bytes(path.read_bytes(), draw))
        return
    item, kind = pydicom.dcmread(path), draw.randrange(4)
    element = draw.choice([each for each in item if each.tag != 0x7FE00010])
    if kind == 0:
        del item[element.tag]
    elif kind == 1:
        element.value = [] if element.VR == "SQ" else None
    elif kind == 2 and element.VR not in ("SQ", "US"):
        element._value = draw.choice(["-1", "1e99", "NaN", "\\".join(["1"] * 5000), "Doe^Jane", "1.2." * 400])
    else:
        path.write_bytes(path.read_bytes() + NESTED * draw.choice([50, 5000]))
        return
    try:
        item.save_as(path)
    except Exception:  # pydicom cannot write it
        path.write_bytes(spoilt_bytes(path.read_bytes(), draw))


def put_archive(study: Path, draw: random.Random) -> Path:
    """Packs a study as an upload that breaks a limit; it has to be refused."""
    files = {path.name: path.read_bytes() for path in study.iterdir()}
    (study / UPLOAD).write_bytes(HOSTILE[draw.choice([*HOSTILE])](files))
    for name in files:
        (study / name).unlink()
    return study / UPLOAD


def main(count: int) -> None:
    """Prints what was told, how often, and the worst of memory and time."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    told: Counter[str] = Counter()
    leaks, unpacked, slowest, begun, draw = 0, 0, 0.0, time.monotonic(), random.Random(1)
    with tempfile.TemporaryDirectory() as place, quiet():
        good = write_chest(Path(place) / "good")
        item = pydicom.dcmread(next(good.iterdir()))
        asked = {key: str(item[key].value) for key in IDENTITY} | {"point": list(POINT), "record": RECORD}
        report = make_request_sr(item, POINT, RECORD)
        report.save_as(Path(place) / "request.dcm")
        for number in range(count):
            study = Path(shutil.copytree(good, Path(place) / "study"))
            request = study / ("request.json" if number % 4 != 2 else "request.dcm")
            if number % 4 < 2:
                request.write_bytes(spoilt_json(asked, draw))
            elif number % 4 == 2:
                shutil.copy(Path(place) / "request.dcm", request)
                spoilt_dicom(request, draw)
            else:
                request.write_text(json.dumps(asked))
                spoilt_dicom(draw.choice(sorted(study.glob("*.dcm"))), draw)
            if number % 50 == 49:
                request = put_archive(study, draw)
            start = time.monotonic()
            answer = refused(study, request)
            unpacked += request.name == UPLOAD and not answer
            slowest = max(slowest, time.monotonic() - start)
            leaks += any(secret in answer for secret in (*SECRETS, place))
            told[answer.split(":")[0] + ": " + answer.split(": ")[-1][:60] if answer else "taken"] += 1
            shutil.rmtree(study)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for answer, times in told.most_common(40):
        print(f"{times:6d}  {answer}")
    unforeseen = sum(times for answer, times in told.items() if "unforeseen" in answer)
    print(f"{count} files: {told['taken']} taken, {count - told['taken']} refused, {unforeseen} unforeseen")
    print(f"{leaks} leaks, {unpacked} zip files unpacked")
    print(f"peak {peak:.0f} MB, slowest {slowest:.2f} s, all {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10000)
