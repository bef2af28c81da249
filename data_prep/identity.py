"""Pseudonyms: patients and nodules have new names in a dataset, and a key file, kept elsewhere, tells whose they are.

A name is a keyed hash (HMAC-SHA256) of the identifier. With the same key file a patient keeps the name from run to
run, whatever else the table holds; without it the name tells nothing, not even to someone who has a list of patients.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from data_prep.errors import DataError
from data_prep.files import one_writer
from scripts.files import write_atomically

NOTE = "Tells the patients of a dataset. Keep it apart from the dataset, and give it to nobody who gets that."


@dataclass(frozen=True)
class Names:
    """The names of one dataset.

    Attributes:
        secret: what the names are made with; empty: identifiers stay as they are.
    """

    secret: str = field(repr=False)

    def patient(self, patient_id: str) -> str:
        """A patient's name: 12 hexadecimal digits."""
        return self.digest("patient", patient_id)[:12] if self.secret else patient_id

    def nodule(self, patient_id: str, nodule_id: str) -> str:
        """A nodule's name beside its patient's: 8 hexadecimal digits."""
        return self.digest("nodule", patient_id, nodule_id)[:8] if self.secret else nodule_id

    def digest(self, *facts: object) -> str:
        """64 hexadecimal digits that follow from facts, and tell nothing about them without the secret."""
        return hmac.new(self.secret.encode(), repr(facts).encode(), "sha256").hexdigest()


def open_key(path: Path, dataset: Path) -> Names:
    """The names of an earlier run, by its key file, or new ones.

    Raises:
        DataError: the key would lie in the dataset's folder, or is there and is no key.
    """
    if path.resolve().is_relative_to(dataset.resolve()):
        raise DataError(f"{path}: the key would lie in the dataset; expected a file outside. Name another with --key.")
    return Names(_read(path)[0]) if path.exists() else Names(secrets.token_hex(32))


def write_key(path: Path, names: Names, cases: Mapping[str, Mapping[str, object]]) -> None:
    """Writes the key: the secret and, by the name of each case, whose it is; for its owner's eyes alone.

    Cases that the file has already, of this or another dataset, stay in it, those too that another run is just adding.
    Names without a secret have no key.

    Raises:
        DataError: the file is none, or has another secret: another run has made it since :func:`open_key`.
    """
    if not names.secret:
        return
    with one_writer(path, wait=True):
        secret, known = _read(path) if path.exists() else (names.secret, {})
        if secret != names.secret:
            raise DataError(f"{path}: another run has made it meanwhile. Give the same command again, which takes it.")
        content = {"note": NOTE, "secret": names.secret, "cases": {**known, **cases}}
        with write_atomically(path) as temporary:
            temporary.touch(mode=0o600)
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _read(path: Path) -> tuple[str, dict[str, object]]:
    """The secret and the cases of a key file.

    Raises:
        DataError: it is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        secret, cases = content["secret"], content.get("cases", {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: no key of a dataset; expected JSON with a secret. Name another with --key."
        ) from error
    if not isinstance(secret, str) or not secret or not isinstance(cases, dict):
        raise DataError(f"{path}: the secret is empty, or the cases are no object. Name another key with --key.")
    return secret, cases
