"""What a request may ask for."""

import json

import pytest

from deploy.page.asked import Asked, AskedCase, report_of
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
    with pytest.raises(Refusal, match="weight") as caught:
        report_of(Asked(record={"weight": 70.0}))
    assert caught.value.status == 422
