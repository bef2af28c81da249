"""One Orthanc for all tests of a run."""

from __future__ import annotations

import pytest

from tests.deploy.hospital.pacs import Nginx, Orthanc, alone


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory):
    alone()
    server = Orthanc(tmp_path_factory.mktemp("orthanc"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def nginx(tmp_path_factory, orthanc):
    server = Nginx(tmp_path_factory.mktemp("nginx"), orthanc)
    server.start()
    yield server
    server.stop()
