"""Sessions have folders of their own, which go."""

import pytest

from deploy.page import sessions
from deploy.page.jobs import Job, Queue
from deploy.page.refusal import Refusal
from deploy.page.sessions import Case, Scan, Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, Queue(), keep_s=60.0)


def load(store, session):
    """A scan with a case in it."""
    identifier, folder = store.new_folder(session)
    scan = Scan(identifier, folder, folder / "given", {"dicom": True})
    store.add_scan(session, scan)
    case = Case(f"case-{identifier}", 1, scan, (0.0, 0.0, 0.0), {}, 365)
    session.cases[case.id] = case
    case.out.mkdir(parents=True)
    return scan, case


def test_names_are_looked_for_in_the_session_alone(store):
    first, second = store.get("first"), store.get("second")
    scan, case = load(store, first)
    assert first.scan(scan.id) is scan and first.case(case.id) is case and store.get("first") is first
    for find, name in ((second.scan, scan.id), (second.case, case.id), (first.scan, ".."), (first.case, "")):
        with pytest.raises(Refusal) as caught:
            find(name)
        assert caught.value.status == 404


def test_only_the_owner_may_enter(store):
    session = store.get("first")
    scan, _ = load(store, session)
    assert session.folder.stat().st_mode & 0o077 == scan.folder.stat().st_mode & 0o077 == 0
    assert "first" not in str(session.folder)  # the folder's name does not tell the cookie


def test_the_oldest_scan_makes_place(store):
    session = store.get("first")
    loaded = [load(store, session) for _ in range(sessions.MOST_SCANS + 1)]
    assert [*session.scans.values()] == [scan for scan, _ in loaded[1:]]
    assert not loaded[0][0].folder.exists() and loaded[0][1].id not in session.cases


def test_idle_sessions_are_deleted_and_waiting_ones_are_not(store):
    idle, waits, asks = (store.get(name) for name in ("idle", "waits", "asks"))
    load(store, idle)
    _, case = load(store, waits)
    case.job = Job("waits", lambda _: None)
    store.queue.add(case.job)
    for session in (idle, waits):
        session.seen -= 61
    store.expire()
    assert not idle.folder.exists() and waits.folder.exists() and asks.folder.exists()
    assert store.get("idle") is not idle and not store.get("idle").scans


def test_what_waits_goes_with_its_case(store):
    session = store.get("first")
    _, case = load(store, session)
    case.job = Job("first", lambda _: None)
    store.queue.add(case.job)
    store.remove("first")
    assert case.job.dropped and store.queue.told(case.job)["state"] == "failed" and not session.folder.exists()


@pytest.mark.parametrize("again", [False, True])
def test_a_scan_of_a_session_that_is_no_more_is_not_kept(store, tmp_path, again):
    """Forgotten while it waited or was read, and whether or not its browser came back."""
    session = store.get("first")
    identifier, folder = store.new_folder(session)
    store.remove("first")
    if again:
        store.get("first")
    with pytest.raises(Refusal) as caught:
        store.new_folder(session)
    assert caught.value.status == 404 and not session.folder.exists()
    folder.mkdir(parents=True)  # as what was in the middle of writing does
    with pytest.raises(Refusal) as caught:
        store.add_scan(session, Scan(identifier, folder, folder / "given", {"dicom": True}))
    assert caught.value.status == 404 and len([*tmp_path.iterdir()]) == again


def test_there_is_an_end_to_sessions(store, monkeypatch):
    monkeypatch.setattr(sessions, "MOST_SESSIONS", 2)
    for name in ("first", "second"):
        load(store, store.get(name))
    with pytest.raises(Refusal) as caught:
        store.get("third")
    assert caught.value.status == 503


def test_who_loaded_nothing_makes_place(store, monkeypatch):
    monkeypatch.setattr(sessions, "MOST_SESSIONS", 2)
    load(store, store.get("first"))
    empty = store.get("second")
    assert store.get("third").folder.is_dir() and not empty.folder.exists()
    assert store.get("first").scans and not store.get("second").scans


def test_all_is_deleted_at_the_end(store, tmp_path):
    load(store, store.get("first"))
    store.close()
    assert not tmp_path.exists()
