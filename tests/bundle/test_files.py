"""Files and folders appear whole or not at all, also where a process dies or two write at once."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from scripts.errors import UserError
from scripts.files import (
    read_mapping,
    remove,
    remove_unfinished,
    whole_folder,
    write_atomically,
    write_bytes,
    write_json,
    write_tensors,
    write_text,
)
from tests.bundle.helpers import BUNDLE


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- files


def test_a_file_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "new" / "image.nii.gz"
    with write_atomically(target) as path:
        path.write_text("all of it")
        assert path.parent == target.parent and path.name.endswith("image.nii.gz"), "writers go by the suffix"
        assert not target.exists()
    assert target.read_text() == "all of it" and names(target.parent) == [target.name]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "table.csv"
    target.write_text("old")
    with pytest.raises(error), write_atomically(target) as path:
        path.write_text("half")
        raise error
    assert target.read_text() == "old" and names(tmp_path) == [target.name]


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", program, *arguments], env={"PYTHONPATH": str(BUNDLE)}, text=True)


def test_a_process_that_dies_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "table.csv"
    target.write_text("old")
    program = (
        "import os, sys\nfrom scripts.files import write_atomically\n"
        "with write_atomically(sys.argv[1]) as path:\n    path.write_text('half')\n    os._exit(9)"
    )
    assert start(program, str(target)).wait(60) == 9
    assert target.read_text() == "old"
    write_text(target, "new")
    assert target.read_text() == "new"


def test_two_processes_write_one_file(tmp_path: Path) -> None:
    """Whoever reads finds the content of one of them, whole; neither fails."""
    target, size = tmp_path / "shared.txt", 100_000
    program = (
        "import sys\nfrom scripts.files import write_text\n"
        f"for _ in range(200): write_text(sys.argv[1], sys.argv[2] * {size})"
    )
    writers = [start(program, str(target), letter) for letter in "ab"]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if target.is_file():
            seen.add(target.read_text())
    seen.add(target.read_text())
    assert [writer.returncode for writer in writers] == [0, 0]
    assert seen <= {"a" * size, "b" * size} and names(tmp_path) == [target.name]


def test_two_threads_have_temporary_paths_of_their_own(tmp_path: Path) -> None:
    target, both = tmp_path / "shared.txt", Barrier(2)

    def write(text: str) -> Path:
        with write_atomically(target) as path:
            both.wait(10)
            path.write_text(text)
            both.wait(10)
            return path

    with ThreadPoolExecutor(2) as threads:
        assert len({*threads.map(write, "ab")}) == 2
    assert target.read_text() in ("a", "b") and names(tmp_path) == [target.name]


def test_what_is_unfinished_may_be_kept_for_the_next_run(tmp_path: Path) -> None:
    target, paths = tmp_path / "download.bin", []
    for part in ("one ", "two"):
        try:
            with write_atomically(target, keep_unfinished=True) as path:
                paths.append(path)
                with path.open("a") as file:
                    file.write(part)
                if part == "one ":
                    raise ConnectionError
        except ConnectionError:
            assert not target.exists() and path.is_file()
    assert paths[0] == paths[1] and target.read_text() == "one two" and names(tmp_path) == [target.name]


def test_what_is_durable_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content first, then the folder with the new name; and no disk that fails at it takes the old file."""
    target, synced = tmp_path / "state.json", []

    def fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        synced.append((path.read_text() if path.is_file() else path, target.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    write_json(target, {"a": 1}, durable=True)
    assert synced == [('{\n "a": 1\n}\n', False), (tmp_path, True)]
    write_json(target, {"a": 2})
    assert len(synced) == 2

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_json(target, {"a": 3}, durable=True)
    assert read_mapping(target) == {"a": 2} and names(tmp_path) == [target.name]


# --- folders


def test_a_folder_is_replaced_with_all_in_it(tmp_path: Path) -> None:
    target = tmp_path / "case"
    for content in ("first", "second"):
        with whole_folder(target) as folder:
            assert names(folder) == []
            (folder / content).write_text(content)
    assert names(target) == ["second"] and names(tmp_path) == ["case"]


def test_an_interrupted_folder_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "case"
    with whole_folder(target) as folder:
        (folder / "old").touch()
    with pytest.raises(KeyboardInterrupt), whole_folder(target) as folder:
        (folder / "half").touch()
        raise KeyboardInterrupt
    assert names(target) == ["old"] and names(tmp_path) == ["case"]


def test_a_folder_that_was_not_made_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "case"
    with whole_folder(target) as folder:
        (folder / "old").touch()
    with pytest.raises(FileNotFoundError), whole_folder(target) as folder:
        remove(folder)
    assert names(target) == ["old"] and names(tmp_path) == ["case"]


def test_what_a_dead_process_left_of_a_folder_is_removed(tmp_path: Path) -> None:
    """And neither the folder, nor what another target or the next run has need of."""
    target = tmp_path / "out"
    program = (
        "import os, sys\nfrom scripts.files import whole_folder\n"
        "with whole_folder(sys.argv[1]) as folder:\n    (folder / 'half').touch()\n    os._exit(9)"
    )
    assert start(program, str(target)).wait(60) == 9 and len(names(tmp_path)) == 1
    others = {"out", ".partial-out", ".partial-of-out", ".partial-12-out.csv"}
    for name in {*others, ".old-12-34-out", ".partial-12-out"}:
        (tmp_path / name).mkdir()
    remove_unfinished(target)
    remove_unfinished(tmp_path / "nowhere" / "out")
    assert {*names(tmp_path)} == others


def test_a_file_gives_way_to_a_folder_and_back(tmp_path: Path) -> None:
    target = tmp_path / "thing"
    write_bytes(target, b"file")
    with whole_folder(target) as folder:
        (folder / "inside").touch()
    assert names(target) == ["inside"]
    remove(target)
    remove(target)
    assert names(tmp_path) == []


# --- formats


def test_json_is_for_people_and_programs(tmp_path: Path) -> None:
    content = {"b": [1, 2.5, None], "a": {"é": "µ"}}
    write_json(tmp_path / "facts.json", content)
    text = (tmp_path / "facts.json").read_text()
    assert json.loads(text) == content and text.index('"b"') < text.index('"a"') and text.endswith("}\n")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_json_without_a_number_is_refused(tmp_path: Path, number: float) -> None:
    path = tmp_path / "facts.json"
    path.write_text("old")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": [number]})
    assert path.read_text() == "old" and names(tmp_path) == [path.name]


def test_text_is_the_same_bytes_everywhere(tmp_path: Path) -> None:
    write_text(tmp_path / "text", "µ\nmm²")
    assert (tmp_path / "text").read_bytes() == "µ\nmm²".encode()


def test_tensors_open_for_others_too(tmp_path: Path) -> None:
    path, tensor = tmp_path / "weights.safetensors", torch.arange(6.0).view(2, 3).T.requires_grad_()
    write_tensors(path, {"a": tensor}, {"kind": "test"})
    assert torch.equal(load_file(path)["a"], tensor) and path.stat().st_mode & 0o777 == 0o644
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"kind": "test"}


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "not readable JSON"), (b"{", "not readable JSON"), (b"[1]", "holds list, expected a mapping")],
)
def test_what_is_no_mapping_is_named(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "provenance.json"
    if content is not None:
        path.write_bytes(content)

    class DamagedError(UserError):
        pass

    with pytest.raises(DamagedError, match=rf"provenance\.json: {said}.*Was it copied whole") as error:
        read_mapping(path, DamagedError)
    assert "\n" not in str(error.value)
    path.write_text('\ufeff{"name": "K\u00f6ln"}', encoding="utf-8")
    assert read_mapping(path) == {"name": "K\u00f6ln"}
