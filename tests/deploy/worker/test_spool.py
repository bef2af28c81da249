"""A request is in one folder at any time, whenever the process ends."""

import os

import pytest

from deploy.worker import Spool


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "spool")


def ask(spool, name, request="request.json"):
    (spool.root / "inbox" / name).mkdir()
    (spool.root / "inbox" / name / "slice.dcm").write_text(name)
    if request:
        (spool.root / "inbox" / name / request).write_text("{}")


def test_what_has_a_request_is_taken(spool):
    ask(spool, "Doe^Jane")
    ask(spool, "report", "request.dcm")
    ask(spool, "half", None)
    (spool.root / "inbox" / "note.txt").write_text("no study")
    spool.take()
    items = [*spool.due()]
    assert {item.request.name for item in items} == {"request.json", "request.dcm"}
    assert {(item.study / "slice.dcm").read_text() for item in items} == {"Doe^Jane", "report"}
    assert spool.status() == {"inbox": 1, "work": 2, "results": 0, "done": 0, "dead": 0}
    assert not any("Doe" in item.folder.name for item in items)
    assert all((spool.root / name).stat().st_mode & 0o077 == 0 for name in ("inbox", "work", "done"))


def test_links_are_not_taken(spool, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "request.json").write_text("{}")
    (spool.root / "inbox" / "link").symlink_to(tmp_path / "elsewhere")
    spool.take()
    assert not [*spool.due()]


def test_states(spool):
    for name in ("a", "b", "c"):
        ask(spool, name)
    spool.take()
    first, second, third = spool.due()
    first.note(attempts=1, not_before=1e12)
    assert [item.folder for item in spool.due()] == [second.folder, third.folder] and first.state["attempts"] == 1
    spool.finish(second, key="k")
    spool.bury(third, "why")
    assert spool.status() == {"inbox": 0, "work": 1, "results": 0, "done": 1, "dead": 1}
    (done,), (dead,) = (list((spool.root / name).iterdir()) for name in ("done", "dead"))
    assert [path.name for path in done.iterdir()] == ["state.json"]
    assert (dead / "study" / "slice.dcm").read_text() == "c" and "why" in (dead / "state.json").read_text()


@pytest.mark.parametrize("moment", ["mkdir", "rename", "rmtree"])
def test_killed_in_between(spool, monkeypatch, moment):
    """After the new folder was made, after a study was moved, and before a done study was removed."""
    ask(spool, "a")

    def killed(*_, **__):
        raise KeyboardInterrupt

    if moment == "mkdir":
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(os, "rename", killed)
            spool.take()
    elif moment == "rmtree":
        spool.take()
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("shutil.rmtree", killed)
            spool.finish(*spool.due())
    else:
        spool.take()
    again = Spool(spool.root)
    again.take()
    assert len([*again.due()]) == (moment != "rmtree")
    assert again.status()["work"] + again.status()["done"] == 1 and again.status()["inbox"] == 0
    assert not list((spool.root / "done").glob("*/study"))
