"""Requests: well formed, and of the patient, the study and the place of their series; refusals tell no value."""

import json

import pydicom
import pytest

from deploy.request import IDENTITY, RequestError, check_identity, read_request
from tests.deploy.scans import POINT, RECORD, write_chest


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    return write_chest(tmp_path_factory.mktemp("scan") / "series")


@pytest.fixture
def good(series):
    item = pydicom.dcmread(next(series.iterdir()))
    return {**{key: item[key].value for key in IDENTITY}, "point": list(POINT), "record": RECORD}


@pytest.fixture
def asked(tmp_path, good):
    """The request with some values changed, from its file."""

    def read(**changed):
        content = {key: value for key, value in {**good, **changed}.items() if value is not None}
        (tmp_path / "request.json").write_text(json.dumps(content))
        return read_request(tmp_path / "request.json")

    return read


def test_a_good_request_is_of_its_series(asked, series, good):
    request = asked(interval_days=180, destination="archive")
    assert (request.point, request.interval_days, request.destination) == (POINT, 180, "archive")
    assert request.record == RECORD and dict(request.identity) == {key: good[key] for key in IDENTITY}
    check_identity(request, series)
    assert "4711" not in repr(request)


@pytest.mark.parametrize("key", IDENTITY)
@pytest.mark.parametrize("files", ["all", "one"])
def test_all_slices_must_be_of_the_request(asked, tmp_path, series, key, files, good):
    """One slice of another patient is enough; one of another frame or study is no series any more."""
    other = write_chest(tmp_path / "other")
    wrong = "1.2.3" if key.endswith("UID") else "MRN-4712"
    for path in sorted(other.iterdir())[: None if files == "all" else 1]:
        item = pydicom.dcmread(path)
        for each in IDENTITY:
            item[each].value = good[each]
        item[key].value = wrong
        item.save_as(path)
    for path in sorted(other.iterdir())[3 if files == "all" else 1 :]:
        item = pydicom.dcmread(path)
        for each in IDENTITY:
            item[each].value = good[each]
        item.save_as(path)
    with pytest.raises(Exception, match=key) as caught:
        check_identity(asked(), other)
    assert "4711" not in str(caught.value) and "4712" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"PatientID": None}, "PatientID missing"),
        ({"PatientID": ""}, "PatientID"),
        ({"PatientID": 4711}, "PatientID"),
        ({"StudyInstanceUID": "1." * 60}, "StudyInstanceUID"),
        ({"point": [1, 2]}, "point"),
        ({"point": [1, 2, float("nan")]}, "point"),
        ({"point": [1, 2, True]}, "point"),
        ({"point": [1, 2, 10**400]}, "point"),
        ({"interval_days": 10**400}, "interval_days"),
        ({"record": {"age": 10**400}}, "record"),
        ({"point": "1,2,3"}, "point"),
        ({"record": [1]}, "record"),
        ({"record": {"age": 630}}, "record"),
        ({"record": {"age": [61]}}, "record"),
        ({"record": {"weight-of-Doe": 70}}, "record"),
        ({"interval_days": 0}, "interval_days"),
        ({"interval_days": "year"}, "interval_days"),
        ({"destination": ["a"]}, "destination"),
        ({"weights": "/etc/passwd"}, "1 unknown keys"),
    ],
)
def test_what_is_malformed_is_refused_by_key(asked, changed, words):
    with pytest.raises(RequestError, match=words) as caught:
        asked(**changed)
    text = str(caught.value)
    assert "\n" not in text and not any(value in text for value in ("4711", "630", "Doe", "passwd"))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '"a"', '{"PatientID": "1", "PatientID": "2"}', "[" * 60000, "{" + " " * 70000 + "}", "\xff"]
)
def test_what_is_no_request_is_refused(tmp_path, text):
    (tmp_path / "request.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(RequestError, match="request: no"):
        read_request(tmp_path / "request.json")
    with pytest.raises(RequestError):
        read_request(tmp_path / "nowhere.json")
