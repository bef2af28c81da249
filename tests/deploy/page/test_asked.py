"""What a request may ask for."""

import asyncio
import json

import pytest
from starlette.requests import Request

from deploy.page import gate
from deploy.page.asked import Asked, AskedCase, read_asked, report_of
from deploy.page.refusal import Refusal
from tests.deploy.scans import POINT, RECORD

GOOD = {"scan": "a", "point": list(POINT), "record": RECORD}


def test_a_good_case_is_taken_with_a_year_unless_it_says_otherwise():
    assert AskedCase.model_validate_json(json.dumps(GOOD)).interval_days == 365
    assert report_of(Asked(record=RECORD, interval_days=182.0)).endswith("Follow-up after 6 months.")


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", "NaN", '{"record": {}', "[" * 50000),
        *(json.dumps({**GOOD, "point": [0, 0, value]}) for value in (float("nan"), float("inf"), 1e6, "0", True)),
        json.dumps({**GOOD, "record": {str(index): 1 for index in range(14)}}),
        json.dumps({**GOOD, "interval_days": 1e5}),
        json.dumps({**GOOD, "scan": "a" * 65}),
        json.dumps({**GOOD, "solver": "ddim"}),
    ],
)
def test_all_else_is_refused(text):
    with pytest.raises(ValueError):
        AskedCase.model_validate_json(text)


def test_a_record_is_that_of_the_13_features():
    with pytest.raises(Refusal, match="1 unknown features") as caught:
        report_of(Asked(record={"weight": 70.0}))
    assert caught.value.status == 422


@pytest.mark.parametrize(
    ("seconds", "size", "status"), [(5.0, 10, 408), (0.0, gate.MOST_BODY + 1, 413), (0.0, 10, 422)]
)
def test_a_body_that_does_not_come_or_does_not_end_is_refused(monkeypatch, seconds, size, status):
    monkeypatch.setattr(gate, "PATIENCE_S", 0.05)

    async def receive():
        await asyncio.sleep(seconds)
        return {"type": "http.request", "body": b"x" * size, "more_body": False}

    with pytest.raises(Refusal) as caught:
        asyncio.run(read_asked(Request({"type": "http", "method": "POST", "headers": []}, receive), Asked))
    assert caught.value.status == status
