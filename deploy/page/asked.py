"""What a request asks for: a record and an interval, and for a case a scan of the session and a point; nothing else."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError
from starlette.requests import Request

from deploy.page.gate import read_body
from deploy.page.refusal import Refusal
from scripts.ehr.features import FEATURES, EHRError
from scripts.ehr.report import radiology_report


class Asked(BaseModel):
    """What a record is asked for with."""

    model_config = ConfigDict(extra="forbid", strict=True)
    record: Annotated[dict[str, float | str | None], Field(max_length=13)]
    interval_days: Annotated[FiniteFloat, Field(ge=1, le=3653)] = 365.0


class AskedCase(Asked):
    """A case that is asked for."""

    scan: Annotated[str, Field(max_length=64)]
    point: Annotated[list[Annotated[FiniteFloat, Field(ge=-1e5, le=1e5)]], Field(min_length=3, max_length=3)]


Model = TypeVar("Model", bound=Asked)


async def read_asked(request: Request, kind: type[Model]) -> Model:
    """What a request asks for.

    Raises:
        Refusal: what is malformed, by its place; values are not repeated.
    """
    body = await read_body(request)
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        known = {*kind.model_fields, *range(3)}
        faults = {
            f"{'.'.join(str(part) for part in each['loc'] if part in known) or 'request'}: {each['msg']}": None
            for each in error.errors(include_input=False)
        }
        raise Refusal(422, "; ".join(list(faults)[:5])) from error


def report_of(asked: Asked) -> str:
    """The record as text.

    Raises:
        Refusal: the record has what is no feature, or no value of one.
    """
    if unknown := asked.record.keys() - FEATURES.keys():
        raise Refusal(422, f"record: {len(unknown)} unknown features; expected {', '.join(FEATURES)}.")
    try:
        return radiology_report(asked.record, asked.interval_days)
    except EHRError as error:
        raise Refusal(422, str(error)) from error
