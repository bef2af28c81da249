"""Only the program that was installed serves: owner, mode and bytes of its files, YAML among them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from deploy import trust
from deploy.trust import TrustError, check_trusted


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small program with a manifest by ``sha256sum`` itself."""
    for name in ("bundle/configs/inference.yaml", "bundle/scripts/case.py", "data_prep/a b.py", "deploy/cli.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"of {name}\n")
    subprocess.run("find bundle data_prep deploy -type f -exec sha256sum {} + > SHA256SUMS", shell=True, cwd=tmp_path)
    return tmp_path


def refused(root: Path, *files: Path) -> str:
    with pytest.raises(TrustError) as caught:
        check_trusted(*files, root=root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_was_installed_is_trusted(root):
    (root / "deploy" / "__pycache__").mkdir()
    (root / "deploy" / "__pycache__" / "cli.pyc").write_bytes(b"compiled here")
    assert check_trusted(root=root) == 4


def test_a_checkout_has_no_manifest(root):
    (root / "SHA256SUMS").unlink()
    assert check_trusted(root=root) == 0


def test_this_checkout_is_trusted():
    assert check_trusted() >= 0 and all((trust.ROOT / tree).is_dir() for tree in trust.TREES)


@pytest.mark.parametrize("mode", [0o664, 0o646])
@pytest.mark.parametrize("name", ["bundle/configs/inference.yaml", "SHA256SUMS"])
def test_what_others_may_write_is_refused(root, name, mode):
    (root / name).chmod(mode)
    assert f"chmod go-w {root / name}" in refused(root)


def test_folders_that_others_may_write_are_refused(root):
    (root / "bundle" / "configs").chmod(0o777)
    assert "chmod go-w" in refused(root)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_what_belongs_to_others_is_refused(root):
    os.chown(root / "bundle" / "scripts" / "case.py", 12345, 12345)
    assert "belongs to user 12345" in refused(root)


def test_other_bytes_are_refused(root):
    (root / "bundle" / "configs" / "inference.yaml").write_text("run: $exec(code)\n")
    assert "inference.yaml: is not what was installed" in refused(root)


def test_files_more_and_less_are_refused(root):
    """A module beside the others would be imported in the place of a package."""
    (root / "bundle" / "torch.py").write_text("")
    assert "bundle/torch.py was not installed" in refused(root)
    (root / "bundle" / "torch.py").unlink()
    (root / "deploy" / "cli.py").unlink()
    assert "lacks deploy/cli.py" in refused(root)


def test_a_configuration_is_held_to_the_same(root, tmp_path):
    file = tmp_path / "site" / "worker.toml"
    file.parent.mkdir()
    file.write_text("")
    assert check_trusted(file, root=root) == 4
    file.chmod(0o666)
    assert "worker.toml" in refused(root, file)
    assert "No such file" in refused(root, file.with_name("other.toml"))
