"""Delivery by DICOMweb: what an archive says it stored, and then what a query finds there; never a status alone.

One archive was seen to answer a STOW with 200 on a full disk, and with neither stored nor failed instances listed; and
to hide a series once an instance of its study arrived for another patient. So the bytes that were made are sent as they
are, and a study that is there under another patient's number gets nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import requests

from deploy.worker.config import Destination, Server
from scripts.errors import UserError

TIMEOUT_S = (10, 120)
"""To connect, and to wait for an answer."""

JSON = "application/dicom+json"

STORED, UID, PATIENT_ID = "00081199", "00081155", "00100020"
"""ReferencedSOPSequence, ReferencedSOPInstanceUID and PatientID, as DICOM's JSON has them."""


class DeliveryError(Exception):
    """An archive that did not take or does not show what it was sent; later it may."""


class AbsentError(DeliveryError):
    """A server that cannot answer now."""


ABSENT = (AbsentError, requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
"""What is raised while a server is away, which is no fault of a request."""


class RefusedError(UserError):
    """A delivery that would do harm."""


def unexpected(who: str, status: int) -> DeliveryError:
    """What an answer with a status that is none of those expected raises."""
    return (AbsentError if status >= 500 else DeliveryError)(f"the {who} answered {status}")


def open_session(server: Server) -> requests.Session:
    """HTTP with a server's password and certificates, by no proxy that the environment names."""
    session = requests.Session()
    session.trust_env = False
    if server.user:
        session.auth = (server.user, server.password)
    if server.ca_file:
        session.verify = str(server.ca_file)
    return session


class Archive:
    """One destination.

    Args:
        destination: of the site's list.
    """

    def __init__(self, destination: Destination) -> None:
        self.url = destination.url
        self.session = open_session(destination)
        self.session.headers["Accept"] = JSON

    def lacks(self, uids: Sequence[str]) -> list[str]:
        """Those of some SOP Instance UIDs that a query does not find."""
        return [uid for uid in uids if not self._query("instances", {"SOPInstanceUID": uid})]

    def deliver(self, folder: Path, content: Mapping[str, Any], study_uid: str, patient_id: str) -> None:
        """Stores objects that are not there yet.

        Args:
            folder: with the files.
            content: of :func:`deploy.dicom_out.write.write_objects`.

        Raises:
            RefusedError: the study is there under another PatientID.
            DeliveryError: not all objects were named as stored, or not all are found.
        """
        for study in self._query("studies", {"StudyInstanceUID": study_uid, "includefield": "PatientID"}):
            if str((study.get(PATIENT_ID, {}).get("Value") or [""])[0]).strip() != patient_id.strip():
                raise RefusedError(
                    "delivery: the study is at the destination under another PatientID; ask its archive."
                )
        files = {entry["sop_instance_uid"]: folder / name for name, entry in content["objects"].items()}
        if lacking := self.lacks([*files]):
            stored = self._store([files[uid] for uid in lacking])
            if unnamed := len({*lacking} - stored):
                raise DeliveryError(f"{unnamed} of {len(lacking)} objects were not named as stored")
        if lost := len(self.lacks([*files])):
            raise DeliveryError(f"{lost} of {len(files)} objects are not found by a query")

    def _query(self, level: str, terms: Mapping[str, str]) -> list[dict[str, Any]]:
        """QIDO-RS (PS3.18, 10.6)."""
        answer = self.session.get(f"{self.url}/{level}", params=terms, timeout=TIMEOUT_S, allow_redirects=False)
        if answer.status_code == 204:
            return []
        return self._list(answer, 200)

    def _store(self, paths: Sequence[Path]) -> set[str]:
        """STOW-RS (PS3.18, 10.5): the SOP Instance UIDs that the archive names as stored."""
        boundary = secrets.token_hex(16)
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        body = b"".join(head + path.read_bytes() + b"\r\n" for path in paths) + f"--{boundary}--\r\n".encode()
        kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
        answer = self.session.post(
            f"{self.url}/studies", body, headers={"Content-Type": kind}, timeout=TIMEOUT_S, allow_redirects=False
        )
        (told,) = self._list(answer, 200, 202, 409) or ({},)
        return {each[UID]["Value"][0] for each in told.get(STORED, {}).get("Value", [])}

    def _list(self, answer: requests.Response, *good: int) -> list[dict[str, Any]]:
        """The datasets of an answer; the answer's text is not repeated, since it may tell of patients."""
        if answer.status_code not in good:
            raise unexpected("destination", answer.status_code)
        try:
            content = answer.json()
        except ValueError as error:
            raise DeliveryError("the destination's answer is no JSON") from error
        return content if isinstance(content, list) else [content]
