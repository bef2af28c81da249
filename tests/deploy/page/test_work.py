"""Cases in the queue, and what is removed while it is made."""

import threading

import pytest

from deploy.case import Predictor
from deploy.page.jobs import Queue
from deploy.page.sessions import Case, Scan, Store
from deploy.page.work import Work
from tests.deploy.page.test_jobs import until


@pytest.mark.parametrize("what", ["case", "session"])
def test_what_is_removed_while_it_is_made_stays_removed(tmp_path, what):
    begun, go, ended = threading.Event(), threading.Event(), threading.Event()

    class Slow(Predictor):
        def predict(self, series, point, record, out, **_):
            begun.set()
            go.wait(10)
            out.mkdir(parents=True)  # as a program that was in the middle of writing
            ended.set()
            return {}

    queue = Queue()
    queue.start()
    store = Store(tmp_path, queue, 60.0)
    session = store.get("first")
    identifier, folder = store.new_folder(session)
    scan = session.scans[identifier] = Scan(identifier, folder, folder, {"dicom": True})
    case = Case("case", 1, scan, (0.0, 0.0, 0.0), {}, 365)
    Work(queue, Slow()).add(session, case)
    assert begun.wait(10)
    if what == "case":
        store.remove_case(session, case)
    else:
        store.remove("first")
    go.set()
    assert ended.wait(10)
    queue.close()
    assert not case.folder.exists() and (what == "case" or not list(tmp_path.iterdir()))


def test_weights_are_opened_by_a_case_for_nobody(tmp_path):
    asked = []

    class Quick(Predictor):
        def predict(self, series, point, record, out, **_):
            asked.append((series, point, record))
            assert not out.exists() and out.parent.is_dir()
            return {}

    queue = Queue()
    work = Work(queue, Quick())
    work.warm_up(lambda: (tmp_path, (1.0, 2.0, 3.0), {"age": 62.0}))
    queue.start()
    until(lambda: asked)
    queue.close()
    assert asked == [(tmp_path, (1.0, 2.0, 3.0), {"age": 62.0})]
