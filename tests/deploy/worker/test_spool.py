"""A request is in one folder at any time, whenever the process ends."""

import getpass
import os
import time
from pathlib import Path

import pytest

from deploy.worker import Spool
from deploy.worker.spool import LEFT_S, REQUEST
from scripts.errors import UserError


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
    assert {item.state["by"] for item in items} == {f"user {getpass.getuser()}"}
    folders = [spool.root, *spool.root.iterdir(), *(item.folder for item in items)]
    assert len(folders) == 9 and all(folder.stat().st_mode & 0o077 == 0 for folder in folders)


def test_others_may_be_let_into_the_inbox_alone(spool):
    for name in ("inbox", "work"):
        (spool.root / name).chmod(0o770)
    Spool(spool.root)
    assert [(spool.root / name).stat().st_mode & 0o777 for name in ("inbox", "work")] == [0o770, 0o700]


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
    for left in (spool.root / "work").iterdir():
        if not (left / "study").is_dir():
            for path in (*left.iterdir(), left):
                os.utime(path, (0, time.time() - LEFT_S - 9))
    again.take()
    assert all((path / "study").is_dir() for path in (spool.root / "work").iterdir())
    assert again.status()["work"] + again.status()["done"] == 1 and again.status()["inbox"] == 0
    assert not list((spool.root / "done").glob("*/study"))


def test_what_is_brought_is_known_again(spool, tmp_path):
    with spool.staging() as folder:
        (folder / "request.json").write_text("{}")
        number = spool.put(folder, "ab12", by="door a", fetch={"source": "b"})
    with spool.staging() as folder:
        (folder / "half").write_text("")
    assert not [*(spool.root / "incoming").iterdir()]
    (item,) = spool.due()
    assert item.folder.name == number and item.state["fetch"] == {"source": "b"} and item.state["attempts"] == 0
    assert spool.find(number) == ("work", item.state) and spool.marked("ab12") == item and not spool.marked("ab1")
    spool.bury(item, "why")
    assert spool.find(number)[0] == "dead" and spool.marked("ab12").folder.parent.name == "dead"
    assert spool.find("") is None and spool.find("..") is None and spool.find("../inbox") is None


def test_marks_are_kept_once_and_after_a_line_that_was_cut_off(spool):
    spool.keep_marks()
    spool.remember("ab12")
    with (spool.root / "taken").open("a") as file:
        file.write("\ncd")
    for _ in range(2):
        spool.remember("cd34")
    spool.keep_marks()
    assert (spool.root / "taken").read_text().split() == ["ab12", "cd", "cd34"]
    assert spool.remembers("cd34") and spool.remembers("ef", "ab12") and not spool.remembers("ef", "ab")


@pytest.mark.parametrize("request_", ["request.json", None])
@pytest.mark.parametrize("kind", [PermissionError, FileNotFoundError])
def test_what_its_owner_keeps_or_takes_away_stops_no_other(spool, monkeypatch, caplog, kind, request_):
    """A study with a request; without one, after it waited too long."""
    ask(spool, "Doe", request_)
    ask(spool, "Roe")
    (spool.root / "inbox" / "Doe.txt").write_text("no study")
    real = os.rename

    def rename(source, target):
        if source.name.startswith("Doe"):
            raise kind(13, "it does not go", str(source))
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    spool.take()
    assert [*spool.overdue(-1)] == []
    assert spool.status()["inbox"] == spool.status()["work"] == 1 == len([*(spool.root / "work").iterdir()])
    assert (spool.root / "inbox" / "Doe.txt").is_file() and not [*(spool.root / "incoming").iterdir()]
    assert "cannot be moved (it does not go)" in caplog.text and "Doe" not in caplog.text


def test_a_study_with_a_folder_that_cannot_be_removed_is_not_taken(spool, monkeypatch, caplog):
    for name in ("Doe", "Roe"):
        ask(spool, name)
        (spool.root / "inbox" / name / name / "series").mkdir(parents=True)
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path.parent.name != "Doe" and real(path, mode))
    spool.take()
    assert spool.status()["inbox"] == spool.status()["work"] == 1
    assert "all its folders" in caplog.text and "Doe" not in caplog.text
    monkeypatch.setattr(os, "access", real)
    spool.take()
    assert spool.status()["work"] == 2


def test_a_folder_that_is_closed_stops_no_other(spool, monkeypatch):
    for name in ("Doe", "Roe"):
        ask(spool, name)
    real = Path.is_file

    def is_file(path):
        if path.parent.name == "Doe":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "is_file", is_file)
    spool.take()
    assert spool.status()["work"] == 1 and spool.waits().keys() == {REQUEST, "its turn"}


def test_what_waits_is_told_and_what_waited_too_long_is_named(spool, tmp_path, monkeypatch):
    """A report for its series; and in the inbox a study, a file and a link for a request; but not what has one."""
    ask(spool, "Doe", None)
    ask(spool, "Roe")
    (spool.root / "inbox" / "request.json").write_text("{}")
    (spool.root / "inbox" / "link").symlink_to(tmp_path)
    with spool.staging() as folder:
        (folder / "request.dcm").write_text("asks")
        spool.put(folder, "ab12", by="AE PLANNING", awaits="its series")
    spool.take()
    begun = time.time()
    told = spool.waits()
    assert {what: count for what, (count, _) in told.items()} == {REQUEST: 3, "its turn": 1, "its series": 1}
    assert all(since == pytest.approx(begun, abs=60) for _, since in told.values())
    assert [*spool.overdue(7)] == [] and len([*spool.due()]) == 1
    monkeypatch.setattr("time.time", lambda: begun + 8 * 86400)
    overdue = [*spool.overdue(7)]
    assert sorted(what for _, what in overdue) == [REQUEST] * 3 + ["its series"]
    for item, _ in overdue:
        spool.bury(item, "why")
    assert spool.status() == {"inbox": 0, "work": 1, "results": 0, "done": 0, "dead": 4} and tmp_path.is_dir()
    assert len(list((spool.root / "dead").glob("*/study/request.json"))) == 1
    assert spool.waits().keys() == {"its turn"}


def put(spool, **told):
    with spool.staging() as folder:
        (folder / "request.json").write_text("{}")
        spool.put(folder, **told)


def test_a_state_is_on_disk_before_its_study_is_taken(spool, monkeypatch):
    synced, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(descriptor), real(descriptor)))
    put(spool, by="user a")
    assert len(synced) == 2


@pytest.mark.parametrize("content", ["", "[]", None])
def test_a_damaged_state_stops_nobody(spool, content):
    """It is due like any other, and whoever answers it finds that it is not known who asked."""
    for by in ("user a", "user b"):
        put(spool, by=by)
    first, second = spool.due()
    (first.folder / "state.json").write_text(content or "")
    if content is None:
        (first.folder / "state.json").unlink()
    assert [item.folder for item in spool.due()] == [first.folder, second.folder] and [*spool.overdue(7)] == []
    assert "by" not in first.state and spool.find(first.folder.name) is None
    assert spool.waits()["its turn"][0] == 2
    spool.bury(first, "why")
    assert (spool.root / "dead" / first.folder.name / "state.json").read_text().count("why") == 1
    assert spool.dead() == {}


def test_what_is_dead_is_tried_again_as_it_was_asked_for(spool, monkeypatch):
    put(spool, by="AE PLANNING", awaits="its series", fetch={"source": "main"}, destination="archive")
    put(spool, by="user a", awaits=REQUEST)
    known = spool.waiting()[0].state
    for item in spool.waiting():
        item.note(attempts=8, failures=9, not_before=1e12, absent_since=1.0)
        spool.bury(item, "why")
    now = time.time() + 8 * 86400
    monkeypatch.setattr("time.time", lambda: now)
    ((number, item),) = spool.dead().items()
    monkeypatch.setattr(os, "geteuid", lambda: spool.root.stat().st_uid + 1)
    with pytest.raises(UserError, match="Run this as user"):
        spool.retry(item)
    monkeypatch.setattr(os, "geteuid", lambda: spool.root.stat().st_uid)
    spool.retry(item)
    (again,) = spool.waiting()
    assert again.folder.name == number and again.state.items() >= known.items()
    assert [*spool.overdue(7)] == [] and spool.waits() == {"its series": (1, now)}
    assert spool.status()["dead"] == 1 and spool.dead() == {}


def test_what_was_fetched_is_fetched_anew_where_it_is_tried_again_and_an_upload_stays(spool):
    for told in ({"fetch": {"source": "main"}}, {}):
        put(spool, by="door a", **told)
    for item in spool.waiting():
        (item.study / "series").mkdir()
        (item.study / "series" / "half.dcm").write_text("half")
        spool.bury(item, "why")
    for item in spool.dead().values():
        spool.retry(item)
    assert [(item.study / "series").exists() for item in spool.waiting()] == [False, True]
    assert all(item.request.is_file() for item in spool.waiting())


def test_a_study_that_cannot_be_moved_leaves_nothing(spool, tmp_path):
    with pytest.raises(OSError):
        spool.put(tmp_path / "nowhere", by="a")
    assert not [*(spool.root / "work").iterdir()]


def test_purge_removes_what_is_old_and_answered(spool):
    for name in ("a", "b", "c", "d"):
        ask(spool, name)
    spool.take()
    first, second, third, _ = spool.due()
    spool.finish(first)
    spool.finish(second)
    spool.bury(third, "why")
    for name in ("old", "new"):
        (spool.root / "results" / name / "dicom").mkdir(parents=True)
    past = time.time() - 8 * 86400
    old = [*(spool.root / "done" / first.folder.name, spool.root / "results" / "old", spool.root / "dead")]
    old += [spool.root / "dead" / third.folder.name, *(spool.root / "work").iterdir()]
    for folder in old:
        for path in (*folder.rglob("*"), folder):
            os.utime(path, (past, past))
    assert spool.purge(9) == {"results": 0, "done": 0, "dead": 0}
    assert spool.purge(7) == {"results": 1, "done": 1, "dead": 1}
    assert spool.status() == {"inbox": 0, "work": 1, "results": 1, "done": 1, "dead": 0}
    assert (spool.root / "results" / "new").is_dir() and (spool.root / "done" / second.folder.name).is_dir()
