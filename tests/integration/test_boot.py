# SPDX-License-Identifier: Apache-2.0
"""The real thing: a Debian guest boots from a remote compressed qcow2 that nobody downloaded."""

import os
import sys

import pytest

from util import MIB

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(__file__)), "guest"))
import guest as debian  # noqa: E402  pylint: disable=wrong-import-position

BOOT_SECONDS = 150


@pytest.fixture(scope="module", name="guest")
def fixture_guest():
    """Built once for a tree; the first time takes a minute or two."""
    return debian.build()


@pytest.mark.slow
@pytest.mark.limit(2 * BOOT_SECONDS + 60)
def test_a_debian_guest_boots_from_a_remote_qcow2_and_again_from_the_cache(
        guest, lazydisk, nginx, images):
    remote = os.path.join(images.directory, "debian.qcow2")
    os.symlink(guest / "disk.qcow2", remote)

    with lazydisk.mounted(nginx.url(remote)) as mount:
        debian.boot(guest, f"file={mount.image()},format=raw", BOOT_SECONDS)
        first = mount.layer("http")["bytes_fetched"]
        present = mount.layer("cache")["present_bytes"]
        size = mount.status()["images"][0]["size"]
    # Kernel and initrd come from elsewhere: this is what systemd and its services read, more than a
    # few MB and far from everything.
    assert size == 4096 * MIB
    assert 8 * MIB < first < os.stat(remote).st_size * 3 // 4

    # A new daemon, whose bytes are in the cache on disk. No two boots read quite the same, so a few
    # bytes may be new, but none may be fetched a second time.
    with lazydisk.mounted(nginx.url(remote)) as mount:
        assert mount.layer("cache")["present_bytes"] >= present
        debian.boot(guest, f"file={mount.image()},format=raw", BOOT_SECONDS)
        second = mount.layer("http")["bytes_fetched"]
        new = mount.layer("cache")["present_bytes"] - present
    assert second < first / 10
    assert second - new < first / 100
