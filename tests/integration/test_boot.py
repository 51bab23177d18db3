# SPDX-License-Identifier: Apache-2.0
"""The real thing: a Debian guest boots from a remote compressed qcow2 that nobody downloaded."""

import contextlib
import os
import sys

import pytest

from util import MIB, run

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(__file__)), "guest"))
import guest as debian  # noqa: E402  pylint: disable=wrong-import-position

BOOT_SECONDS = 150


@pytest.fixture(scope="module", name="guest")
def fixture_guest():
    """Built once for a tree; the first time takes a minute or two."""
    return debian.build()


@pytest.mark.slow
@pytest.mark.limit(2 * BOOT_SECONDS + 120)
def test_a_debian_guest_boots_from_a_remote_qcow2_and_again_from_the_cache(
        guest, lazydisk, nginx, images):
    remote = os.path.join(images.directory, "debian.qcow2")
    os.symlink(guest / "disk.qcow2", remote)

    with lazydisk.mounted("--no-complete", nginx.url(remote)) as mount:
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
    with lazydisk.mounted("--no-complete", nginx.url(remote)) as mount:
        assert mount.layer("cache")["present_bytes"] >= present
        debian.boot(guest, f"file={mount.image()},format=raw", BOOT_SECONDS)
        second = mount.layer("http")["bytes_fetched"]
        new = mount.layer("cache")["present_bytes"] - present
    assert second < first / 10
    assert second - new < first / 100


# Runs in the guest before it says that it is up: files whose content follows from their number.
WRITE_FILES = """\
import os
os.makedirs("/root/written")
for i in range({count}):
    with open("/root/written/%d" % i, "wb") as f:
        f.write(b"%08d" % i * 131072)
"""
BEFORE_UP = "[Service]\nExecStartPre=/usr/bin/python3 /root/write.py\n"
PARTITION = MIB


@contextlib.contextmanager
def root_of(image, point, options="rw"):
    """The guest's root directory, mounted from the image of its disk."""
    os.makedirs(point, exist_ok=True)
    run("mount", "-o", f"loop,offset={PARTITION},{options}", image, point)
    try:
        yield point
    finally:
        run("umount", point)


def tell_guest_to_write(image, point, count):
    with root_of(image, point) as root:
        directory = os.path.join(root, "etc/systemd/system/guest-up.service.d")
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, "write.conf"), "w", encoding="ascii") as f:
            f.write(BEFORE_UP)
        with open(os.path.join(root, "root/write.py"), "w", encoding="ascii") as f:
            f.write(WRITE_FILES.format(count=count))


def check_guest_disk(image, point, count):
    """The guest's file system is clean, and its files are there."""
    device = run("losetup", "--find", "--show", "--read-only", f"--offset={PARTITION}",
                 image).strip()
    try:
        run("e2fsck", "-fn", device)
    finally:
        run("losetup", "--detach", device)
    with root_of(image, point, "ro") as root:
        assert len(os.listdir(os.path.join(root, "root/written"))) == count
        for i in range(count):
            with open(os.path.join(root, f"root/written/{i}"), "rb") as f:
                assert f.read() == b"%08d" % i * 131072


@pytest.mark.slow
@pytest.mark.limit(2 * BOOT_SECONDS + 90)
def test_a_guest_writes_and_its_disk_is_clean_after_a_remount(guest, lazydisk, nginx, images, tmp):
    """200 MB, past qemu's cache. With its cache, see test_overlay.py."""
    remote = os.path.join(images.directory, "debian-written.qcow2")
    os.symlink(guest / "disk.qcow2", remote)
    point = os.path.join(tmp, "root")
    args = ("--overlay", os.path.join(tmp, "vm.overlay"), nginx.url(remote))
    with lazydisk.mounted(*args) as mount:
        tell_guest_to_write(mount.image(), point, 200)
        debian.boot(guest, f"file={mount.image()},format=raw,discard=unmap,cache=none",
                    2 * BOOT_SECONDS, writes=True)
        assert mount.layer("overlay")["bytes_written"] > 200 * MIB
        assert mount.layer("overlay")["flushes"] > 0
    with lazydisk.mounted(*args) as mount:
        check_guest_disk(mount.image(), point, 200)
