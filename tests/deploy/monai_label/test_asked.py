"""What may be asked of MONAI Label, and the reasons for which it is refused."""

from __future__ import annotations

import json

import pytest

from deploy.monai_label.asked import DEFAULTS, IMAGE_ID, LARGEST, Asked, parse, read
from scripts.errors import UserError

GOOD = {"point": [-70, 0, 102.5], "record": {"age": 61, "gender": 2}, "interval_days": 180, "num_runs": 3}


def test_what_is_asked_is_read():
    expected = Asked((-70.0, 0.0, 102.5), {"age": 61.0, "gender": 2.0}, 180.0, 3)
    assert read(GOOD) == expected == read(parse(json.dumps(GOOD)))
    texts = {**GOOD, "point": "-70, 0, 102.5", "record": json.dumps(GOOD["record"])}
    assert read(texts) == expected, "as forms send them"


def test_what_is_left_out_is_the_default():
    asked = read({"point": "[1,2,3]", "record": "{}"})
    assert asked == read({**DEFAULTS, "point": [1, 2, 3]})
    assert (asked.interval_days, asked.num_runs) == (365, 20)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"models_dir": "/etc"}, "1 unknown parameters"),
        ({"image": "/etc/passwd", "device": "cuda"}, "2 unknown parameters"),
        ({"record": {"age": 630}}, "age: 630"),
        ({"record": {"age": [61]}}, "age: a list"),
        ({"record": {"age": "x" * 9999}}, "age: 'xxx"),
        ({"record": "[]"}, "record: expected"),
        ({"record": "/etc/passwd"}, "record: expected"),
        ({"point": [1, 2]}, "point: expected"),
        ({"point": [1, 2, True]}, "point: expected"),
        ({"point": [1, 2, float("nan")]}, "point: expected"),
        ({"point": [1, 2, 1e300]}, "point: expected"),
        ({"point": "[" * 5000}, "point: expected"),
        ({"interval_days": 0}, "interval_days: expected"),
        ({"interval_days": "365"}, "interval_days: expected"),
        ({"interval_days": float("inf")}, "interval_days: expected"),
        ({"num_runs": 0}, "num_runs: expected"),
        ({"num_runs": 10**9}, "num_runs: expected"),
        ({"num_runs": 2.5}, "num_runs: expected"),
        ({"num_runs": True}, "num_runs: expected"),
    ],
)
def test_all_else_is_refused_in_one_short_line(changed, words):
    with pytest.raises(UserError, match=words.replace("[", r"\[")) as caught:
        read({**GOOD, **changed})
    assert len(str(caught.value)) < 300 and "\n" not in str(caught.value) and "/etc" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * LARGEST, '{"a": "' + "x" * LARGEST + '"}'])
def test_params_are_an_object_of_some_length(text):
    with pytest.raises(UserError, match="expected a JSON object"):
        parse(text)


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/b", "/etc/passwd", "a\0", "a\n", ".lock", "x" * 101, "ä"])
def test_images_are_named_without_a_path(name):
    assert not IMAGE_ID.fullmatch(name) and IMAGE_ID.fullmatch("CT-1_a.2")
