"""Files from a browser land under names of our own, within bounds."""

import asyncio

import pytest

from deploy.page import uploads
from deploy.page.refusal import Refusal
from deploy.page.uploads import passed_over, receive, safe_name

TYPE = "multipart/form-data; boundary=cut"


def part(name, content=b"abc", disposition=None):
    head = disposition or f'form-data; name="files"; filename="{name}"'
    return b"--cut\r\nContent-Disposition: " + head.encode() + b"\r\n\r\n" + content + b"\r\n"


def send(folder, body, most=1 << 20, kind=TYPE, step=7):
    async def pieces():
        for start in range(0, len(body), step):
            yield body[start : start + step]

    return asyncio.run(receive(pieces(), kind, folder, most))


def test_files_are_written_as_they_came(tmp_path):
    content = bytes(range(256)) * 9 + b"\r\n--cu"
    body = part("a/b/IM 0001.dcm", content) + part("DICOMDIR") + part(".hidden") + part("IM0002.dcm") + b"--cut--\r\n"
    assert send(tmp_path, body) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000-IM0001.dcm", "00001-IM0002.dcm"]
    assert (tmp_path / "00000-IM0001.dcm").read_bytes() == content


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "..\\..\\a", "a\0b", "x" * 5000, "…", "", ".", "..", "a/../../b", "CON"]
)
def test_names_cannot_leave_the_folder(name):
    kept = safe_name(3, name)
    assert kept.startswith("00003-") and "/" not in kept and "\\" not in kept and len(kept) < 50 and kept.isascii()


def test_what_systems_leave_in_folders_is_passed_over():
    assert all(map(passed_over, ("DICOMDIR", "a/.DS_Store", "__MACOSX/a", "b\\Thumbs.db")))
    assert not any(map(passed_over, ("a/IM0001", "DICOMDIR.dcm", "a.nii.gz")))


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", TYPE, 400),
        (b"--cut--\r\n", TYPE, 400),
        (part("a"), TYPE, 400),
        (b"no multipart", TYPE, 400),
        (part("a") + b"--cut--\r\n", "application/json", 415),
        (part("a") + b"--cut--\r\n", "multipart/form-data", 415),
        (part("a") + b"--cut--\r\n", f"multipart/form-data; boundary={'x' * 71}", 415),
        (part("a", disposition='form-data; name="models_dir"') + b"--cut--\r\n", TYPE, 400),
        (part("a" * 9000) + b"--cut--\r\n", TYPE, 400),
        (part("a", b"x" * 5000) + b"--cut--\r\n", TYPE, 413),
        (b"".join(part(str(index)) for index in range(12)) + b"--cut--\r\n", TYPE, 413),
    ],
)
def test_what_is_malformed_or_too_much_is_refused(tmp_path, monkeypatch, body, kind, status):
    monkeypatch.setattr(uploads, "MOST_FILES", 10)
    most = 4000 if b"x" * 5000 in body else 1 << 20
    with pytest.raises(Refusal) as caught:
        send(tmp_path, body, most, kind)
    assert caught.value.status == status


def test_who_stops_sending_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "PATIENCE_S", 0.05)

    async def pieces():
        yield part("a")
        await asyncio.sleep(5)
        yield b""

    with pytest.raises(Refusal) as caught:
        asyncio.run(receive(pieces(), TYPE, tmp_path, 1 << 20))
    assert caught.value.status == 408
