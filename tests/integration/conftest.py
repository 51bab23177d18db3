# SPDX-License-Identifier: Apache-2.0
"""Fixtures: images, servers, keys, and the lazydisk command in a directory of each test's own."""

import os
import shutil
import signal
import tempfile
import threading

import pytest

import command
from badserver import BadServer
from images import Images
from nginx import Nginx
from pki import Pki
from registries import Registries
from util import mounts_at


def pytest_configure(config):
    # A run that is told to end takes its mounts and servers along.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    config.addinivalue_line("markers", "limit(seconds): the test may take so long (default 120)")
    config.addinivalue_line("markers", "slow: takes more than a few seconds")


@pytest.fixture(scope="session", name="workdir")
def fixture_workdir():
    """Below /tmp and open to all, because nginx and unprivileged tests read here."""
    path = tempfile.mkdtemp(prefix="lazydisk-test-")
    os.chmod(path, 0o755)
    yield path
    left = [line for line in open("/proc/self/mountinfo", encoding="utf-8") if path in line]
    assert not left, left
    shutil.rmtree(path)


@pytest.fixture(scope="session", name="images")
def fixture_images(workdir):
    path = os.path.join(workdir, "images")
    os.mkdir(path)
    return Images(path)


@pytest.fixture(scope="session", name="pki")
def fixture_pki(workdir):
    return Pki(os.path.join(workdir, "pki"))


@pytest.fixture(scope="session", name="nginx")
def fixture_nginx(workdir, images, pki):
    server = Nginx(os.path.join(workdir, "nginx"), images.directory, pki)
    yield server
    server.close()


@pytest.fixture(scope="session", name="registries")
def fixture_registries(workdir, pki):
    servers = Registries(os.path.join(workdir, "registries"), pki)
    yield servers
    servers.close()


@pytest.fixture(name="bad")
def fixture_bad():
    """A scripted server of the test's own."""
    server = BadServer()
    yield server
    server.close()


@pytest.fixture(name="bad_tls")
def fixture_bad_tls(pki):
    server = BadServer(tls=(pki.server_cert, pki.server_key))
    yield server
    server.close()


@pytest.fixture(name="tmp")
def fixture_tmp(workdir):
    """A directory of the test's own that nothing is mounted below afterwards."""
    path = tempfile.mkdtemp(prefix="t", dir=workdir)
    os.chmod(path, 0o755)
    yield path
    assert not mounts_at(path)
    shutil.rmtree(path)


@pytest.fixture(name="lazydisk")
def fixture_lazydisk(tmp, request):
    """The command. When the test's time is over its daemons are killed: no read hangs for ever."""
    marker = request.node.get_closest_marker("limit")
    limit = (marker.args[0] if marker else 120) * command.slowness()
    runner = command.Lazydisk(tmp)
    expired = threading.Event()

    def expire():
        expired.set()
        runner.panic()

    timer = threading.Timer(limit, expire)
    timer.daemon = True
    timer.start()
    yield runner
    timer.cancel()
    runner.close()
    assert not expired.is_set(), f"the test was not done after {limit} s"
