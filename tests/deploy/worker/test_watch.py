"""An Orthanc that is drawn: what is taken of it, and what is not. The real one: tests/deploy/hospital/test_watch.py."""

import hashlib
import json
from dataclasses import replace

import pytest

from deploy.request import RequestError
from deploy.worker import Source, Spool, Watch
from deploy.worker import watch as module
from deploy.worker.deliver import DeliveryError

SCAN, REPORT = "1.2.1", "1.2.2"

SEVERAL = "a rule of its source that allows one of the series that it names and not several"


def report(uid="1.2.2.1", title="request", scheme="99NAMD", evidence=(SCAN,), prior=()):
    """One of study 1.2; ``prior`` is evidence of study 1.1."""
    named = [
        {"StudyInstanceUID": study, "ReferencedSeriesSequence": [{"SeriesInstanceUID": each} for each in series]}
        for study, series in (("1.1", prior), ("1.2", evidence))
    ]
    code = [{"CodeValue": title, "CodingSchemeDesignator": scheme}]
    return {
        "SOPInstanceUID": uid,
        "StudyInstanceUID": "1.2",
        "ConceptNameCodeSequence": code,
        "CurrentRequestedProcedureEvidenceSequence": named,
    }


class Orthanc:
    """Answers as Orthanc 1.10 does; ``series`` by number, ``changes`` in order, ``broken`` what it answers 503 to."""

    def __init__(self):
        self.series, self.changes, self.files, self.tags, self.sender = {}, [], {}, {}, {}
        self.asked, self.broken, self.page = [], None, 2

    def add(self, number, modality, uid, instances, study="a", sender=None, description="lung", stable=True):
        tags = {"Modality": modality, "SeriesInstanceUID": uid, "SeriesDescription": description}
        self.series[number] = {
            **{"ID": number, "ParentStudy": study, "IsStable": stable, "MainDicomTags": tags},
            "Instances": list(instances),
        }
        self.sender[number] = sender
        self.files |= {name: content for name, content in instances.items()}
        self.change("NewSeries", number)
        if stable:
            self.change("StableSeries", number)

    def change(self, kind, number):
        self.changes.append({"ChangeType": kind, "ID": number, "Seq": len(self.changes) + 1})

    def settle(self, number):
        self.series[number]["IsStable"] = True
        self.change("StableSeries", number)

    def answer(self, path, terms, body):
        first, *rest = path.split("/")
        if path == "changes?last":
            return {"Last": len(self.changes)}
        if path == "changes":
            since = int(terms["since"])
            page = self.changes[since : since + self.page]
            return {"Changes": page, "Last": since + len(page), "Done": since + len(page) >= len(self.changes)}
        if path == "tools/lookup":
            return [
                {"Type": "Series", "ID": number}
                for number, each in self.series.items()
                if each["MainDicomTags"]["SeriesInstanceUID"] == body
            ]
        if first == "studies":
            return [each for each in self.series.values() if each["ParentStudy"] == rest[0]]
        if first == "series" and rest[-1] == "RemoteAET":
            return self.sender[rest[0]]
        if first == "series":
            return self.series.get(rest[0])
        return self.tags[rest[0]] if rest[-1] == "simplified-tags" else self.files.get(rest[0])

    def get(self, url, params=None, **_):
        return self.call(url.removeprefix("http://orthanc/"), params)

    def post(self, url, body, **_):
        return self.call(url.removeprefix("http://orthanc/"), None, body)

    def call(self, path, terms, body=None):
        self.asked.append(path)
        if self.broken is not None and self.broken in path:
            return Answer(503, b"Doe^Jane")
        content = self.answer(path, terms, body)
        return Answer(404, b"") if content is None else Answer(200, content)


class Answer:
    def __init__(self, status_code, content):
        self.status_code, self.content = status_code, content

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    @property
    def text(self):
        return self.content

    def json(self):
        return json.loads(self.content if isinstance(self.content, bytes) else json.dumps(self.content))

    def iter_content(self, _):
        yield self.content


@pytest.fixture
def orthanc():
    """Holds a scan and a report of one study."""
    server = Orthanc()
    server.add("scan", "CT", SCAN, {"i1": b"one", "i2": b"two"})
    server.add("report", "SR", REPORT, {"r1": b"asks"}, sender="PLANNING")
    server.tags["r1"] = report()
    return server


@pytest.fixture
def made(orthanc, tmp_path):
    """Watches of one spool, by changed rules."""
    spool = Spool(tmp_path / "spool")

    def of(name="main", **changed):
        rule = replace(Source("http://orthanc", ae_titles=("PLANNING",), destination="archive"), **changed)
        watch = Watch(name, rule, spool)
        watch.session = orthanc
        return watch

    return of


def test_a_report_and_its_series_are_taken_once(orthanc, made):
    watch = made()
    watch.look()
    (item,) = watch.spool.waiting()
    assert item.request.read_bytes() == b"asks" and item.state["fetch"] == {"source": "main", "series": SCAN}
    assert (item.state["by"], item.state["destination"]) == ("AE PLANNING", "archive")
    assert "1.2" not in item.folder.name
    watch.fetch(SCAN, item.study)
    assert [path.read_bytes() for path in sorted((item.study / "series").iterdir())] == [b"one", b"two"]
    asked = len(orthanc.asked)
    watch.look()
    assert len(orthanc.asked) == asked + 2, "nothing new was looked at"
    (watch.spool.root / "changes-main.json").unlink()
    made().look()
    watch.spool.finish(item)
    (watch.spool.root / "changes-main.json").unlink()
    made().look()
    assert watch.spool.waiting() == [] and watch.spool.status()["done"] == 1


@pytest.mark.parametrize("late", ["scan", "report"])
def test_what_is_not_stable_waits(orthanc, made, late):
    """Also when Orthanc does not say that it has become stable, as after a restart."""
    orthanc.series[late]["IsStable"] = False
    watch = made()
    watch.look()
    assert [*watch.spool.due()] == []
    orthanc.series[late]["IsStable"] = True
    made().look()
    assert len([*watch.spool.due()]) == 1


def test_a_report_waits_in_the_spool_for_its_series(orthanc, made):
    """Whatever comes late, it says for what, and is due with what came; other reports of the study wait on."""
    scan = orthanc.series.pop("scan")
    orthanc.series["report"]["Instances"].append("r2")
    orthanc.files["r2"], orthanc.tags["r2"] = b"asks too", report("1.2.2.2", evidence=("1.2.9",))
    watch = made()
    watch.look()
    missing = "a series that it names and the rule of its source allows"
    assert [*watch.spool.due()] == [] and watch.spool.waits().keys() == {missing}
    for stable, told in ((False, "its series to be whole"), (True, "its turn")):
        orthanc.series["scan"] = scan | {"IsStable": stable}
        orthanc.change("NewSeries", "scan")
        made().look()
        assert {what: count for what, (count, _) in watch.spool.waits().items()} == {missing: 1, told: 1}
    (item,) = watch.spool.due()
    assert item.request.read_bytes() == b"asks" and item.state["fetch"] == {"source": "main", "series": SCAN}
    orthanc.series.pop("scan")
    orthanc.change("NewSeries", "report")
    made().look()
    assert len([*watch.spool.due()]) == 1 and len(watch.spool.waiting()) == 2


@pytest.mark.parametrize(
    ("changed", "told", "taken"),
    [
        ({"ae_titles": ("OTHER",)}, {}, False),
        ({}, {"title": "126000"}, False),
        ({}, {"scheme": "DCM"}, False),
        ({"modality": "MR"}, {}, True),
        ({"description": "soft"}, {}, True),
        ({}, {"evidence": ()}, True),
        ({}, {"evidence": ("1.2.9",)}, True),
    ],
)
def test_what_no_rule_names_is_never_due(orthanc, made, changed, told, taken):
    """What asks, and comes from who may ask, waits."""
    orthanc.tags["r1"] = report(**told)
    watch = made(**changed)
    watch.look()
    assert [*watch.spool.due()] == [] and len(watch.spool.waiting()) == taken


@pytest.mark.parametrize("first", ["scan", "second"])
def test_a_report_of_two_series_means_none_whichever_comes_first(orthanc, made, first):
    """Unless the rule allows one of them alone."""
    orthanc.add("second", "CT", "1.2.3", {"i3": b"three"})
    orthanc.tags["r1"] = report(evidence=(SCAN, "1.2.3"))
    (late,) = {"scan", "second"} - {first}
    series = orthanc.series.pop(late)
    watch = made(description="lung")
    watch.look()
    assert [*watch.spool.due()] == [] and [*watch.spool.waits()] == ["the other series that it names"]
    orthanc.series[late] = series
    orthanc.change("StableSeries", late)
    watch.look()
    assert [*watch.spool.due()] == [] and [*watch.spool.waits()] == [SEVERAL]
    orthanc.series["second"]["MainDicomTags"]["SeriesDescription"] = "scout"
    orthanc.change("StableSeries", "second")
    watch.look()
    assert len([*watch.spool.due()]) == 1


def test_a_series_that_no_rule_allows_is_waited_for_and_one_of_another_study_is_not(orthanc, made):
    orthanc.series["report"]["Instances"].append("r2")
    orthanc.files["r2"], orthanc.tags["r2"] = b"asks too", report("1.2.2.2", prior=("1.1.1",))
    orthanc.tags["r1"] = report(evidence=(SCAN, "1.2.3"))
    watch = made(description="lung")
    watch.look()
    (item,) = watch.spool.due()
    assert item.request.read_bytes() == b"asks too"
    orthanc.add("scout", "CT", "1.2.3", {"i3": b"three"}, description="scout", stable=False)
    watch.look()
    assert {item.state["fetch"]["series"] for item in watch.spool.due()} == {SCAN}
    assert len([*watch.spool.due()]) == 2


@pytest.mark.parametrize("name", ["main", "renamed"])
def test_a_changed_rule_holds_for_reports_that_wait(orthanc, made, name):
    """From the worker's next start on, though nothing came."""
    watch = made(description="soft")
    watch.look()
    assert [*watch.spool.due()] == []
    made(name, destination="other").look()
    (item,) = watch.spool.due()
    assert item.state["fetch"] == {"source": name, "series": SCAN} and item.state["destination"] == "other"


@pytest.mark.parametrize("name", ["main", "renamed"])
@pytest.mark.parametrize("version", ["0.15.0", "now"])
def test_what_was_taken_and_purged_is_not_taken_again(orthanc, made, name, version):
    """By no new database, no other name of the source, and after an upgrade at least under the name that it had."""
    watch = made()
    if version == "now":
        watch.look()
        (item,) = watch.spool.waiting()
        watch.spool.finish(item)
    else:
        (watch.spool.root / "taken").unlink()
        mark = hashlib.sha256(f"{name} 1.2.2.1".encode()).hexdigest()[:32]
        (watch.spool.root / "done" / f"1-{mark}").mkdir()
        watch = made(name)
    assert watch.spool.purge(-1)["done"] == 1
    for path in watch.spool.root.glob("changes-*"):
        path.unlink()
    made(name).look()
    assert watch.spool.waiting() == []
    assert all(len(line) == 32 for line in (watch.spool.root / "taken").read_text().split())


@pytest.mark.parametrize("broken", ["changes", "series/", "studies/", "metadata", "tags", "file"])
def test_an_archive_that_fails_is_asked_again(orthanc, made, broken):
    orthanc.broken = broken
    with pytest.raises(DeliveryError, match="answered 503") as caught:
        made().look()
    assert "Doe" not in str(caught.value)
    orthanc.broken = None
    watch = made()
    watch.look()
    assert len(watch.spool.waiting()) == 1 and not [*(watch.spool.root / "incoming").iterdir()]


def test_a_database_made_anew_is_read_from_its_beginning(orthanc, made):
    watch = made()
    (watch.spool.root / "changes-main.json").write_text('{"last": 1000, "waiting": []}')
    watch.look()
    assert len(watch.spool.waiting()) == 1


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"last": null, "waiting": []}'])
def test_a_damaged_note_of_the_last_look_is_named_and_begun_anew(orthanc, made, caplog, content):
    watch = made()
    for _ in range(2):
        (watch.spool.root / "changes-main.json").write_text(content)
        watch.look()
        assert len(watch.spool.waiting()) == 1
    assert caplog.text.count("changes-main.json is damaged") == 2
    made().look()
    assert caplog.text.count("damaged") == 2


def test_a_dead_report_that_is_tried_again_has_the_series_that_came_meanwhile(orthanc, made):
    scan, watch = orthanc.series.pop("scan"), made()
    watch.look()
    watch.spool.bury(*watch.spool.waiting(), "why")
    orthanc.series["scan"] = scan
    orthanc.change("StableSeries", "scan")
    made().look()
    assert watch.spool.waiting() == []
    watch.spool.retry(*watch.spool.dead().values())
    (item,) = watch.spool.due()
    assert item.state["fetch"] == {"source": "main", "series": SCAN}


def test_a_dead_report_that_is_tried_again_has_its_series_as_it_is_now(orthanc, made):
    """What was wrong with it at the archive was mended there."""
    watch = made()
    watch.look()
    (item,) = watch.spool.due()
    watch.fetch(SCAN, item.study)
    watch.spool.bury(item, "why")
    orthanc.files["i2"] = b"mended"
    watch.spool.retry(*watch.spool.dead().values())
    (item,) = watch.spool.due()
    watch.fetch(SCAN, item.study)
    assert [path.read_bytes() for path in sorted((item.study / "series").iterdir())] == [b"one", b"mended"]


@pytest.mark.parametrize(("content", "words"), [(None, "answered 404"), (b"<html>Doe^Jane", "no JSON")])
def test_what_is_no_orthanc_is_named(orthanc, made, monkeypatch, content, words):
    monkeypatch.setattr(orthanc, "answer", lambda *_: content)
    with pytest.raises(DeliveryError, match=words) as caught:
        made().look()
    assert "Doe" not in str(caught.value)


def test_a_series_is_brought_once_it_is_stable_and_where_the_rule_allows_it(orthanc, made, tmp_path):
    for rule in ({"description": "soft"}, {"modality": "MR"}):
        with pytest.raises(RequestError, match="modality and description") as caught:
            made(**rule).fetch(SCAN, tmp_path)
        assert "lung" not in str(caught.value)
    orthanc.series["scan"]["IsStable"] = False
    with pytest.raises(DeliveryError, match="not stable"):
        made().fetch(SCAN, tmp_path)
    assert not [*tmp_path.glob("*series*")]
    orthanc.settle("scan")
    made().fetch(SCAN, tmp_path)
    assert len([*(tmp_path / "series").iterdir()]) == 2


def test_what_is_gone_is_passed_over(orthanc, made):
    orthanc.changes.insert(0, {"ChangeType": "StableSeries", "ID": "deleted", "Seq": 0})
    watch = made()
    watch.look()
    assert len(watch.spool.waiting()) == 1


def test_limits(orthanc, made, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "LARGEST", 3)
    watch = made()
    watch.look()
    assert watch.spool.waiting() == []
    for name, most in (("MOST_FILES", 1), ("MOST_BYTES", 5)):
        with monkeypatch.context() as patch, pytest.raises(RequestError, match="files|bytes"):
            patch.setattr(module, name, most)
            watch.fetch(SCAN, tmp_path)
        assert not [*tmp_path.glob("*series*")]
    with pytest.raises(DeliveryError, match="0 series"):
        watch.fetch("1.2.9", tmp_path)
