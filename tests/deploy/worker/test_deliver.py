"""Delivered is what an archive names as stored and a query finds: against archives that lie in several ways."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from deploy.worker import Archive, Destination
from deploy.worker.deliver import AbsentError, DeliveryError, RefusedError

CONTENT = {"objects": {f"{uid}.dcm": {"sop_instance_uid": uid} for uid in ("1.1", "1.2")}}


class Pacs(BaseHTTPRequestHandler):
    """DICOMweb, as far as delivery asks for it; ``told`` is what it does wrong."""

    told: dict = {}

    def log_message(self, *_):
        pass

    def _answer(self, status, content=None):
        self.send_response(status)
        body = json.dumps(content).encode() if content is not None else b""
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        address = urlsplit(self.path)
        terms = parse_qs(address.query)
        self.told.setdefault("asked", []).append(self.path)
        if address.path == "/web/studies":
            patient = self.told.get("patient")
            return self._answer(200, [{"00100020": {"Value": [patient]}}]) if patient else self._answer(204)
        found = terms["SOPInstanceUID"][0] in self.told["held"] and not self.told.get("hides")
        return self._answer(200, [{}]) if found else self._answer(204)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.told.setdefault("sent", []).append((self.headers["Content-Type"], body))
        if "status" in self.told:
            return self._answer(self.told["status"], {"patient": "Doe"})
        uids = [uid for uid in ("1.1", "1.2") if f"bytes of {uid}".encode() in body]
        self.told["held"].update(uids)
        named = [] if self.told.get("silent") else [{"00081155": {"Value": [uid]}} for uid in uids]
        return self._answer(200, {"00081199": {"Value": named}})


@pytest.fixture
def pacs(tmp_path):
    """The archive's behaviour, and a delivery to it."""
    told = {"held": set()}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Server", (Pacs,), {"told": told}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for uid in ("1.1", "1.2"):
        (tmp_path / f"{uid}.dcm").write_bytes(f"bytes of {uid}".encode())
    archive = Archive(Destination(f"http://127.0.0.1:{server.server_port}/web"))
    yield told, lambda: archive.deliver(tmp_path, CONTENT, "1.9", "MRN-4711")
    server.shutdown()
    server.server_close()


def test_bytes_are_sent_once_and_as_they_are(pacs):
    told, deliver = pacs
    deliver()
    deliver()
    ((kind, body),) = told["sent"]
    assert 'type="application/dicom"' in kind and body.count(b"Content-Type: application/dicom\r\n\r\nbytes of 1.") == 2
    assert told["held"] == {"1.1", "1.2"}


def test_only_what_lacks_is_sent(pacs):
    told, deliver = pacs
    told["held"].add("1.1")
    deliver()
    assert b"bytes of 1.1" not in told["sent"][0][1] and told["held"] == {"1.1", "1.2"}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"silent": True}, "2 of 2 objects were not named"),  # as Orthanc on a full disk: 200, and nothing listed
        ({"hides": True}, "2 of 2 objects are not found"),
        ({"status": 503}, "answered 503"),
        ({"status": 302}, "answered 302"),
    ],
)
def test_what_an_archive_does_not_hold_is_not_delivered(pacs, wrong, words):
    told, deliver = pacs
    told.update(wrong)
    with pytest.raises(DeliveryError, match=words) as caught:
        deliver()
    assert "Doe" not in str(caught.value) and isinstance(caught.value, AbsentError) == ("503" in words)


def test_a_study_of_another_patient_gets_nothing(pacs):
    told, deliver = pacs
    told["patient"] = "MRN-4712"
    with pytest.raises(RefusedError, match="another PatientID") as caught:
        deliver()
    assert "sent" not in told and "471" not in str(caught.value)
    told["patient"] = "MRN-4711 "
    deliver()
    assert told["held"] == {"1.1", "1.2"}
