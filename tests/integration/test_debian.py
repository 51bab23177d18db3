# SPDX-License-Identifier: Apache-2.0
"""A real Debian disk in every packing and disk format: mounted and copied, it is itself.

The disk has a partition table and, in an ext4, a part of the guest's own root file system, so that
this takes a minute. LAZYDISK_WHOLE_DISK=1: all of the 4 GiB that the guest boots from.
"""

import os
import random
import subprocess

import pytest

from command import Lazydisk
from disks import stream_optimized
from test_boot import debian, root_of
from test_xz_zstd import zstd_seekable
from util import MIB, assert_bytes, pread, run

WHOLE = os.environ.get("LAZYDISK_WHOLE_DISK") == "1"
SIZE = 80 * MIB
# What fills the disk to two thirds: text, programs, compressed and small files, links.
PARTS = ["etc", "root", "usr/bin", "usr/sbin", "var/lib/dpkg"]
START = MIB
TABLE = "label: gpt\nstart={}, size={}, type=linux\n"
LIMIT = {"timeout": 600}


def shell(words):
    subprocess.run(["bash", "-c", "set -o pipefail; " + words], check=True, **LIMIT)


def make_small(whole, directory, target):
    """A partition table and an ext4 with PARTS of what the one of the disk @whole has."""
    tree = os.path.join(directory, "tree")
    os.mkdir(tree)
    with root_of(whole, os.path.join(directory, "root"), "ro,noload") as root:
        for part in PARTS:
            os.makedirs(os.path.join(tree, os.path.dirname(part)), exist_ok=True)
            run("cp", "-a", os.path.join(root, part), os.path.join(tree, part))
    with open(target, "wb") as f:
        f.truncate(SIZE)
    run("mkfs.ext4", "-q", "-F", "-E", f"offset={START}", "-d", tree, target,
        f"{(SIZE - 2 * START) // 1024}k", **LIMIT)
    run("sfdisk", "--quiet", target,
        input=TABLE.format(START // 512, (SIZE - 2 * START) // 512))
    run("rm", "-r", tree)


@pytest.fixture(scope="module", name="disk")
def fixture_disk(images, workdir):
    guest = debian.build()
    disk = images.path("debian.raw")
    if WHOLE:
        run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", guest / "disk.qcow2", disk, **LIMIT)
        return disk
    directory = os.path.join(workdir, "debian")
    os.mkdir(directory)
    runner = Lazydisk(directory)
    try:
        with runner.mounted(guest / "disk.qcow2") as mount:
            make_small(mount.image(), directory, disk)
    finally:
        runner.close()
    return disk


def filtered(command):
    return lambda disk, out: shell(f"{command} < {disk} > {out}")


def converted(fmt, options=""):
    def make(disk, out):
        run("qemu-img", "convert", "-f", "raw", "-O", fmt, *(["-o", options] if options else []),
            disk, out, **LIMIT)
    return make


def packed_qcow2(command):
    def make(disk, out):
        converted("qcow2")(disk, out + ".qcow2")
        shell(f"{command} < {out}.qcow2 > {out}")
        os.unlink(out + ".qcow2")
    return make


def ova(disk, out):
    """As exports are, the directory behind the grains. Needs the disk in memory."""
    (converted("vmdk", "subformat=streamOptimized") if WHOLE else stream_optimized)(disk, out)


KINDS = {
    "gzip.raw.gz": filtered("gzip -1"),
    "pigz.raw.gz": filtered("pigz -1 -p2"),
    "bgzip.raw.gz": filtered("bgzip -l1 -c"),
    "one.raw.xz": filtered("xz -0 -T1"),
    "many.raw.xz": filtered("xz -0 -T2 --block-size=8MiB"),
    "one.raw.zst": lambda disk, out: run("zstd", "-q", "-1", disk, "-o", out, **LIMIT),
    "seekable.raw.zst": lambda disk, out: zstd_seekable(disk, out, 4 * MIB),
    "pzstd.raw.zst": lambda disk, out: run("pzstd", "-q", "-1", disk, "-o", out, **LIMIT),
    "disk.qcow2.gz": packed_qcow2("gzip -1"),
    "disk.qcow2.xz": packed_qcow2("xz -0 -T1"),
    "sparse.vmdk": converted("vmdk", "subformat=monolithicSparse"),
    "ova.vmdk": ova,
    "stream.vmdk": converted("vmdk", "subformat=streamOptimized"),
    "flat.vmdk": converted("vmdk", "subformat=monolithicFlat"),
    "fixed.vhd": converted("vpc", "subformat=fixed,force_size=on"),
    "dynamic.vhd": converted("vpc", "subformat=dynamic,force_size=on"),
    "fixed.vhdx": converted("vhdx", "subformat=fixed"),
    "dynamic.vhdx": converted("vhdx", "subformat=dynamic"),
    "disk.vdi": converted("vdi"),
}
# Nothing in these says how large the disk is: a first mount finds out.
UNSIZED = ["bgzip.raw.gz", "pzstd.raw.zst"]


def assert_pieces(path, reference, count=30):
    """Random pieces in random order, before anything was read in order."""
    rng = random.Random("debian")
    size = os.stat(reference).st_size
    for _ in range(count):
        length = rng.choice([1, 512, 4096, 256 * 1024])
        at = rng.randrange(size - length)
        assert_bytes(pread(path, length, at), pread(reference, length, at), at)


def assert_the_same(path, reference):
    """As cmp says, which is fast."""
    done = subprocess.run(["cmp", path, reference], capture_output=True, text=True, check=False,
                          **LIMIT)
    assert done.returncode == 0, done.stdout + done.stderr


def read_to_the_end(path):
    subprocess.run(["cat", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                   check=False, **LIMIT)


@pytest.mark.slow
@pytest.mark.limit(1200 if WHOLE else 180)
@pytest.mark.parametrize("kind", KINDS)
def test_a_debian_disk_is_itself(lazydisk, nginx, images, disk, tmp, kind):
    path = images.path(kind)
    KINDS[kind](disk, path)
    url = nginx.url(path)
    target = os.path.join(tmp, "copy.img")
    try:
        lazydisk.ok("copy", "--allow-backing", url, target, timeout=600)
        assert_the_same(target, disk)
        # Holes are found in whole pages.
        assert os.stat(target).st_blocks <= os.stat(disk).st_blocks * 1.02
        if kind in UNSIZED:
            with lazydisk.mounted(url) as mount:
                read_to_the_end(mount.image())
        with lazydisk.mounted("--allow-backing", url) as mount:
            assert_pieces(mount.image(), disk)
            assert_the_same(mount.image(), disk)
    finally:
        for name in (path, path.replace(".vmdk", "-flat.vmdk"), target):
            if os.path.exists(name):
                os.unlink(name)


@pytest.mark.slow
def test_the_disk_has_a_sound_file_system(disk, images):
    """What all of the above is compared with is a disk indeed."""
    part = images.path("part.ext4")
    run("dd", f"if={disk}", f"of={part}", "bs=1M", "skip=1", "conv=sparse", "status=none", **LIMIT)
    run("e2fsck", "-fn", part, **LIMIT)
    os.unlink(part)
    assert "gpt" in run("sfdisk", "--dump", disk)
