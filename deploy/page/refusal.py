"""What the page answers to a request that it does not fulfil: a status, and one sentence for whoever asked."""

from __future__ import annotations

from starlette.responses import JSONResponse

LONGEST = 2000
"""Letters of a refusal."""


class Refusal(Exception):
    """A request that is refused.

    Attributes:
        status: of HTTP, 400 to 503.
        words: what is wrong and what to do; neither a path nor anything of another session.
    """

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status, self.words = status, words

    def response(self) -> JSONResponse:
        """A JSON object with ``fault``."""
        words = self.words.encode("utf-8", "backslashreplace").decode()  # lone surrogates cannot be sent
        return JSONResponse({"fault": words[:LONGEST]}, self.status)
