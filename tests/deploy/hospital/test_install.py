"""What IT gets: a wheelhouse that is whole and signed, an audit that counts, units that systemd takes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from typer.main import get_command

from deploy import cli
from deploy.trust import TrustError, check_trusted
from tests.deploy.hospital.pacs import ROOT

pytestmark = pytest.mark.hospital

INSTALL = ROOT / "deploy" / "install"

LOCKED = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE))


def call(*command, folder: Path, **environment: str) -> subprocess.CompletedProcess:
    told = {**os.environ, **environment}
    return subprocess.run([str(each) for each in command], cwd=folder, env=told, capture_output=True, text=True)


def write_program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def wheelhouse(tmp_path_factory):
    """Of a clone of this checkout's last commit, without CUDA, signed; in the place of pip stands one wheel."""
    place = tmp_path_factory.mktemp("wheelhouse")
    subprocess.run(["git", "clone", "-q", str(ROOT), str(place / "clone")], check=True)
    (place / "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl").write_bytes(b"torch")
    python = f'#!/bin/sh\n[ "$2" = pip ] && exec touch {place}/made/wheels/other.whl\nexec {sys.executable} "$@"\n'
    key = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", place / "private.pem"]
    assert call(*key, folder=place).returncode == 0
    public = ["openssl", "ec", "-in", place / "private.pem", "-pubout", "-out", place / "namd.pem"]
    assert call(*public, folder=place).returncode == 0
    made = call(
        *(place / "clone" / "deploy" / "install" / "wheelhouse.sh", write_program(place / "python", python)),
        place / "made",
        folder=place,
        TORCH=str(place / "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl"),
        KEY=str(place / "private.pem"),
        PYTHONPATH=str(place / "clone"),
    )
    assert made.returncode == 0, made.stderr
    return place / "made"


def verify(wheelhouse: Path) -> list[int]:
    """Exit statuses of the two commands of deploy/INSTALL.md."""
    key = ["-verify", wheelhouse.parent / "namd.pem", "-signature", "SHA256SUMS.sig", "SHA256SUMS"]
    commands = ["openssl", "dgst", "-sha256", *key], ["sha256sum", "--quiet", "-c", "SHA256SUMS"]
    return [call(*command, folder=wheelhouse).returncode for command in commands]


def test_a_wheelhouse_is_whole_and_signed(wheelhouse):
    assert verify(wheelhouse) == [0, 0]
    listed = {line.split("  ", 1)[1] for line in (wheelhouse / "SHA256SUMS").read_text().splitlines()}
    found = {path.relative_to(wheelhouse).as_posix() for path in wheelhouse.rglob("*") if path.is_file()}
    assert listed == found - {"SHA256SUMS", "SHA256SUMS.sig"} and "wheels/other.whl" in listed


def test_without_cuda_the_lock_has_the_sites_torch(wheelhouse):
    lock = dict(re.findall(r"^([\w.-]+)==(\S+)", (wheelhouse / "requirements.lock").read_text(), flags=re.MULTILINE))
    assert lock.pop("torch") == "2.13.0+cpu"
    left_out = LOCKED.keys() - lock.keys()
    assert lock.items() <= LOCKED.items() and {"torch", "torchvision", "triton"} <= left_out
    assert all(re.match("torch|triton|bitsandbytes|cuda-|nvidia-", name) for name in left_out)


def test_what_is_unpacked_is_trusted_until_it_is_changed(wheelhouse, tmp_path):
    (archive,) = wheelhouse.glob("namd-*.tar.gz")
    with tarfile.open(archive) as file:
        assert not any(member.mode & 0o022 or member.uid for member in file)
        file.extractall(tmp_path, filter="tar")
    (root,) = tmp_path.iterdir()
    assert check_trusted(root=root) > 300
    assert (root / "requirements.lock").read_text() == (wheelhouse / "requirements.lock").read_text()
    config = root / "bundle" / "configs" / "inference.yaml"
    config.write_text(config.read_text() + "more: $print(1)\n")
    with pytest.raises(TrustError, match="is not what was installed"):
        check_trusted(root=root)


def test_a_wheelhouse_that_was_changed_is_noticed(wheelhouse):
    sums, wheel = wheelhouse / "SHA256SUMS", wheelhouse / "wheels" / "other.whl"
    text = sums.read_text()
    wheel.write_bytes(b"other code")
    assert verify(wheelhouse) == [0, 1]
    sums.write_text(text.replace("a", "b"))
    assert verify(wheelhouse)[0] == 1
    wheel.write_bytes(b"")
    sums.write_text(text)
    assert verify(wheelhouse) == [0, 0]


def test_changes_in_no_commit_are_in_no_wheelhouse(tmp_path):
    subprocess.run(["git", "clone", "-q", str(ROOT), str(tmp_path / "clone")], check=True)
    (tmp_path / "clone" / "more.py").write_text("")
    made = call(tmp_path / "clone/deploy/install/wheelhouse.sh", sys.executable, tmp_path / "made", folder=tmp_path)
    assert made.returncode == 2 and "in no commit" in made.stderr and not (tmp_path / "made").exists()


def test_an_upgrade_is_gone_back_from_by_the_documents_lines(wheelhouse, tmp_path):
    """Every line of deploy/INSTALL.md, with a stand-in for Python, which makes no environment and tests nothing."""
    newer = tmp_path / "newer"
    shutil.copytree(wheelhouse, newer)
    (archive,) = newer.glob("namd-*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(tmp_path, filter="tar")
    folder = tmp_path / archive.name.removesuffix(".tar.gz")
    folder = folder.rename(tmp_path / "namd-99.0")
    archive.unlink()
    assert call("tar", "-czf", newer / "namd-99.0.tar.gz", folder.name, folder=tmp_path).returncode == 0
    signing = (
        "find . -type f ! -name 'SHA256SUMS*' | xargs sha256sum > SHA256SUMS && openssl dgst -sha256 -sign ../key -out"
    )
    shutil.copy(wheelhouse.parent / "private.pem", tmp_path / "key")
    assert call("sh", "-c", f"{signing} SHA256SUMS.sig SHA256SUMS", folder=newer).returncode == 0
    write_program(tmp_path / "python3.11", f"#!/bin/sh\n{STAND_IN}")
    script = ROOT / "benchmarks" / "offline_install.sh"
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = call(script, wheelhouse, wheelhouse.parent / "namd.pem", newer, folder=tmp_path, PATH=path)
    assert done.returncode == 0, done.stderr
    before = archive.name.removesuffix(".tar.gz")
    told = [line.split(": ")[1].split(",")[0] for line in done.stdout.splitlines() if ", offline, in " in line]
    assert told == [before, "namd-99.0", before]
    again = call(script, wheelhouse, wheelhouse.parent / "namd.pem", wheelhouse, folder=tmp_path, PATH=path)
    assert again.returncode == 1 and "of the same version" in again.stderr


STAND_IN = """
[ "$2" = venv ] || exit 0
mkdir -p "$3/bin" "$3/lib/python3.11/site-packages/a.dist-info"
printf '#!/bin/sh\nexit 0\n' > "$3/bin/python"
chmod +x "$3/bin/python"
"""
"""Python that makes an environment of a stand-in for itself, which does what it is asked by doing nothing."""


def package(name: str, **told) -> dict:
    return {"name": name, "version": LOCKED[name], **(told or {"vulns": []})}


FAULT = {"id": "PYSEC-1", "fix_versions": ["99"]}


@pytest.mark.parametrize(
    ("told", "status", "words"),
    [
        ([package(name) for name in LOCKED], 0, "{0} of {0} locked packages audited, 0 known"),
        ([package(name) for name in list(LOCKED)[1:]], 1, "audited, 0 known"),
        ([package(name, skip_reason="not found") for name in LOCKED], 1, "audit: 0 of {0}"),
        ([package(name, vulns=[FAULT] * (name == "numpy")) for name in LOCKED], 1, "PYSEC-1, mended in 99"),
        ([], 1, "audit: 0 of {0}"),
        (None, 1, "is there a network"),
    ],
)
def test_an_audit_counts(tmp_path, told, status, words):
    answer = "" if told is None else json.dumps({"dependencies": told})
    (tmp_path / "answer").write_text(answer)
    program = write_program(tmp_path / "pip-audit", f"#!/bin/sh\ncat {tmp_path}/answer\n")
    done = call(INSTALL / "audit.sh", program, ROOT / "requirements.lock", folder=tmp_path)
    assert done.returncode == status and words.format(len(LOCKED)) in done.stdout + done.stderr


@pytest.mark.parametrize("unit", sorted((INSTALL / "systemd").glob("*.service")), ids=lambda path: path.stem)
def test_systemd_takes_the_units(unit):
    """Also an exposure that only the drop-in of all of them gives."""
    told = call("systemd-analyze", "verify", unit, folder=ROOT).stderr.splitlines()
    assert [line for line in told if "namd-" in line and "is not executable" not in line] == []
    exposure = call("systemd-analyze", "security", "--offline=true", "--threshold=20", unit, folder=ROOT)
    assert exposure.returncode == 0, exposure.stdout[-300:]


def settings(unit: str) -> dict[str, str]:
    """What holds of a unit: its file, then all drop-ins by their names, of whichever folder (systemd.unit(5))."""
    folder = INSTALL / "systemd"
    drop_ins = [*folder.glob(f"{unit}.service.d/*.conf"), *folder.glob("namd-.service.d/*.conf")]
    found: dict[str, str] = {}
    for path in (folder / f"{unit}.service", *sorted(drop_ins, key=lambda path: path.name)):
        found |= re.findall(r"^(\w+)=(.*)$", path.read_text(), flags=re.MULTILINE)
    return found


def test_the_worker_alone_sees_the_machines_users():
    """By whom a request's file is owned; where users are private, all but two are nobody."""
    seen = {name: settings(f"namd-{name}")["PrivateUsers"] for name in ("worker", "door", "page")}
    assert seen == {"worker": "no", "door": "yes", "page": "yes"}


def test_units_run_commands_that_there_are():
    lines = [path.read_text() for path in (INSTALL / "systemd").glob("*.service")]
    commands = [re.search(r"^ExecStart=\S+ -m deploy (.+)$", text, flags=re.MULTILINE)[1].split() for text in lines]
    known = get_command(cli.app).commands
    for name, *options in commands:
        named = {option for parameter in known[name].params for option in parameter.opts}
        assert {option for option in options if option.startswith("--")} <= named
    assert {name for name, *_ in commands} == {"worker", "door", "page"}
