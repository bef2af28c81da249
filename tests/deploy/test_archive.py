"""What is unpacked of a zip file, and what is not."""

import errno

import pytest

from deploy import archive
from deploy.archive import ArchiveError, unpack
from tests.deploy.archives import HOSTILE, pack

FILES = {f"scan/{number}.dcm": bytes(range(256)) * 40 for number in range(3)}


@pytest.fixture
def call(tmp_path):
    """Unpacks some bytes, all but what is named "passed", and gives what was written."""

    def run(data, most_files=5000, most_bytes=1 << 32):
        (tmp_path / "a.zip").write_bytes(data)
        (tmp_path / "out").mkdir()
        named = lambda number, name: None if "passed" in name else f"{number:05d}"  # noqa: E731
        unpack(tmp_path / "a.zip", tmp_path / "out", named, most_files, most_bytes)
        return {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    return run


def test_files_are_written_under_our_names(call):
    more = {"scan/": b"", "passed": b"", "a.nii.gz": b"x", "..a": b"y"}
    found = call(pack(*FILES.items(), *more.items()))
    assert found == dict(zip(["00000", "00001", "00002", "00004", "00005"], [*FILES.values(), b"x", b"y"], strict=True))


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_no_tool_makes_is_refused(call, tmp_path, kind):
    before = {*tmp_path.parent.rglob("*")}
    with pytest.raises(ArchiveError) as caught:
        call(HOSTILE[kind](FILES))
    words = str(caught.value)
    assert words.startswith(("has ", "is ")) and "hostile" not in words and "scan" not in words
    assert all(path.is_relative_to(tmp_path) for path in {*tmp_path.parent.rglob("*")} - before)


@pytest.mark.parametrize("limit", [{"most_files": 2}, {"most_bytes": 30_000}])
def test_limits(call, limit):
    with pytest.raises(ArchiveError, match="has more than"):
        call(pack(*FILES.items()), **limit)


def test_a_full_disk_is_no_fault_of_the_file(call, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archive.shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space"):
        call(pack(*FILES.items()))


def test_damaged_content_is_refused(call):
    data = bytearray(pack(*FILES.items()))
    data[60:90] = bytes(30)
    with pytest.raises(ArchiveError, match="damaged"):
        call(bytes(data))
