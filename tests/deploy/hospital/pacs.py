"""Orthanc and nginx with the configurations that are shipped, in a network that has nothing but itself."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import requests

ROOT = Path(__file__).resolve().parents[3]

CONFIG = ROOT / "deploy" / "config"

PORT, DICOM_PORT, TLS_PORT = 8042, 2762, 8443

SENDERS = {name: {"AET": name, "Host": "127.0.0.1", "Port": 11112} for name in ("SCANNER", "PLANNING", "OTHER")}


def make_certificates(folder: Path) -> None:
    """An authority, and by it ``server`` and ``modality``, which serves and whose modalities are known."""
    folder.mkdir()
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    authority = ["-keyout", folder / "ca.key", "-out", folder / "ca.crt", "-subj", "/CN=hospital"]
    subprocess.run([*new, *map(str, authority)], check=True, capture_output=True)
    for name in ("server", "modality"):
        files = ["-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt", "-subj", f"/CN={name}"]
        signed = ["-CA", folder / "ca.crt", "-CAkey", folder / "ca.key", "-addext", "subjectAltName=IP:127.0.0.1"]
        plain = ["-addext", "basicConstraints=critical,CA:FALSE"]
        subprocess.run([*new, *map(str, [*files, *signed, *plain])], check=True, capture_output=True)


class Orthanc:
    """One server, with what is stored in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.process, self.tls = folder, None, folder / "tls"
        make_certificates(self.tls)
        shipped = json.loads((CONFIG / "orthanc.json").read_bytes())
        place = {"StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db")}
        users = {"RegisteredUsers": {"namd": "sesame"}, "StableAge": 1, "DicomModalities": SENDERS}
        files = {"Certificate": "server.crt", "PrivateKey": "server.key", "TrustedCertificates": "ca.crt"}
        tls = {f"DicomTls{name}": str(self.tls / file) for name, file in files.items()}
        assert shipped.keys() >= tls.keys() | {"DicomModalities", "StableAge"}
        (folder / "orthanc.json").write_text(json.dumps(shipped | place | users | tls))
        (folder / "password").write_text("sesame")
        self.root = f"http://127.0.0.1:{PORT}"
        self.url = f"{self.root}/dicom-web"
        self.session = requests.Session()
        self.session.trust_env, self.session.auth = False, ("namd", "sesame")

    def start(self) -> None:
        """Starts it and waits until it answers; the port may still be taken by the one before."""
        for _ in range(20):
            with (self.folder / "log").open("ab") as log:
                command = ["/usr/sbin/Orthanc", str(self.folder / "orthanc.json")]
                self.process = subprocess.Popen(command, stdout=log, stderr=log)
            for _ in range(100):
                if self.process.poll() is not None:
                    break
                try:
                    if self.session.get(f"{self.root}/system", timeout=2).ok:
                        return
                except requests.ConnectionError:
                    pass
                time.sleep(0.2)
        pytest.fail((self.folder / "log").read_text()[-2000:])

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)

    def get(self, path: str, **terms: str) -> Any:
        """What DICOMweb answers, empty where it finds nothing."""
        answer = self.session.get(f"{self.url}/{path}", params=terms, headers={"Accept": "application/dicom+json"})
        answer.raise_for_status()
        return answer.json() if answer.content else []

    def count(self) -> int:
        """Instances that it holds."""
        return self.session.get(f"{self.root}/statistics").json()["CountInstances"]

    def send(self, sender: str, *paths: Path, tls: bool = True, called: str = "NAMD") -> bool:
        """Whether dcmtk could store files by C-STORE, as an AE title."""
        keys = ["+tls", self.tls / "modality.key", self.tls / "modality.crt", "+cf", self.tls / "ca.crt"]
        places = ["-aet", sender, "-aec", called, "127.0.0.1", DICOM_PORT, *paths]
        command = ["storescu", "--required", *(keys if tls else []), *places]
        return subprocess.run([*map(str, command)], capture_output=True, check=False, timeout=60).returncode == 0


class Nginx:
    """In front of an Orthanc: users ``reader`` and ``worker``, whose password is "open"."""

    def __init__(self, folder: Path, orthanc: Orthanc) -> None:
        self.folder, self.process = folder, None
        shutil.copytree(orthanc.tls, folder / "tls")
        hashed = subprocess.run(["openssl", "passwd", "-6", "open"], capture_output=True, text=True, check=True)
        (folder / "htpasswd").write_text(f"reader:{hashed.stdout}worker:{hashed.stdout}")
        (folder / "htpasswd.worker").write_text(f"worker:{hashed.stdout}")
        token = base64.b64encode(b"namd:sesame").decode()
        (folder / "orthanc-user.conf").write_text(f'set $authorization "Basic {token}";\n')
        shipped = (CONFIG / "nginx.conf").read_text()
        for there, here in (
            *(("/etc/namd", str(folder)), ("/var/log/nginx", str(folder))),
            ("listen 443", f"listen 127.0.0.1:{TLS_PORT}"),
        ):
            assert there in shipped
            shipped = shipped.replace(there, here)
        (folder / "namd.conf").write_text(shipped)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        places = "".join(f"{kind}_temp_path {folder}/{kind}; " for kind in kinds)
        (folder / "nginx.conf").write_text(
            f"user root; daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
            f"http {{ {places} include {folder}/namd.conf; }}\n"
        )
        (folder / "open").write_text("open")
        self.url = f"https://127.0.0.1:{TLS_PORT}"

    def check(self) -> subprocess.CompletedProcess[str]:
        """``nginx -t``."""
        command = ["/usr/sbin/nginx", "-t", "-c", str(self.folder / "nginx.conf")]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def start(self) -> None:
        command = ["/usr/sbin/nginx", "-c", str(self.folder / "nginx.conf")]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        for _ in range(100):
            try:
                requests.get(self.url, verify=str(self.folder / "tls" / "ca.crt"), timeout=2)
                return
            except requests.ConnectionError:
                time.sleep(0.1)
        pytest.fail((self.folder / "error.log").read_text()[-2000:])

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)


def alone() -> None:
    """Fails where there is a network: Orthanc listens to all of it."""
    found = sorted(path.name for path in Path("/sys/class/net").iterdir())
    links = [line.split(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines()[2:]]
    if links != ["lo"]:
        pytest.fail(f"needs a network namespace of its own, has {', '.join(links or found)}: run make test-deploy")
