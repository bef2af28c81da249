"""One job at a time, in the order of asking."""

import logging
import threading
import time
from pathlib import Path

import pytest

from data_prep.errors import ImageError
from data_prep.unforeseen import UnforeseenError
from deploy.page import jobs
from deploy.page.jobs import DroppedError, Job, Queue, in_words
from deploy.page.refusal import Refusal
from scripts.ehr.features import EHRError


@pytest.fixture
def queue():
    made = Queue()
    made.start()
    yield made
    made.close()


def until(test, seconds=10.0):
    end = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_jobs_are_worked_on_one_by_one_in_their_order(queue):
    seen, at_once, gate = [], [], threading.Event()

    def work(name):
        def run(_):
            gate.wait()
            at_once.append(len([job for job in made if job.state == "running"]))
            seen.append(name)

        return run

    made = [Job(str(number), work(number)) for number in range(4)]
    for job in made:
        queue.add(job)
    until(lambda: made[0].state == "running")
    assert [queue.told(job)["place"] for job in made] == [0, 1, 2, 3]
    gate.set()
    until(lambda: all(job.ended for job in made))
    assert seen == [0, 1, 2, 3] and set(at_once) == {1}


def test_a_job_that_fails_does_not_end_the_others(queue, caplog):
    def fails(_):
        raise RuntimeError("Doe^Jane")

    first, second = Job("a", fails), Job("a", lambda tell: tell(0.5))
    queue.add(first)
    queue.add(second)
    until(lambda: second.ended)
    assert first.state == "failed" and first.reason == jobs.UNFORESEEN and second.state == "done"
    assert "Doe" not in caplog.text and "RuntimeError" in caplog.text


def test_a_job_that_is_dropped_ends_at_its_next_word(queue):
    begun = threading.Event()

    def work(tell):
        begun.set()
        while True:
            tell(0.1)
            time.sleep(0.01)

    job = Job("a", work)
    queue.add(job)
    assert begun.wait(10)
    queue.drop(job)
    until(lambda: job.ended)
    assert job.state == "failed" and job.reason == "It was taken back."


def test_one_session_cannot_fill_the_queue(queue, monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr(jobs, "MOST_WAITING", 6)

    def add(owner):
        queue.add(Job(owner, lambda _: gate.wait()))

    for _ in range(jobs.MOST_OF_ONE):
        add("a")
    with pytest.raises(Refusal, match="of your cases") as caught:
        add("a")
    assert caught.value.status == 429
    with pytest.raises(Refusal) as caught:
        for number in range(9):
            add(str(number))
    assert caught.value.status == 503
    gate.set()


def test_progress_only_rises_and_ends_a_dropped_job():
    job = Job("a", lambda _: None)
    for fraction in (0.2, 0.1, 7.0):
        job.tell(fraction)
    assert job.fraction == 1.0
    job.dropped = True
    with pytest.raises(DroppedError):
        job.tell(1.0)


def test_reasons_have_neither_paths_nor_others_words(caplog):
    caplog.set_level(logging.ERROR)
    path = Path("/secret/place")
    image = ImageError(path, "nodule outside the scan", "by its x, y, z.", "Doe^Jane")
    wrapped = RuntimeError("MONAI's")
    wrapped.__cause__ = image
    assert in_words(image) == in_words(wrapped) == "nodule outside the scan: by its x, y, z."
    assert in_words(EHRError("age: 630 is not allowed.")) == "age: 630 is not allowed."
    for error in (UnforeseenError(path, ValueError("Doe")), OSError(28, "No space", str(path)), KeyError("Doe")):
        assert in_words(error) == jobs.UNFORESEEN
    assert "secret" not in caplog.text and "Doe" not in caplog.text
