"""A refusal is a sentence that can be sent, whatever it quotes."""

import json

from deploy.page.refusal import LONGEST, Refusal


def test_whatever_it_quotes_can_be_sent():
    answer = Refusal(422, "age: '\ud800' " + "x" * 9999).response()
    content = json.loads(answer.body)
    assert (
        answer.status_code == 422 and content["fault"].startswith("age: '\\ud800'") and len(content["fault"]) == LONGEST
    )
