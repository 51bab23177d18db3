# SPDX-License-Identifier: Apache-2.0
"""A qcow2 in a compressed stream, copied without scratch space: what is fetched for it."""

import os
import random
import struct
import subprocess

import pytest

from images import hex_text, write_at
from test_copy import sent
from util import KIB, MIB, assert_same, run, seeded_bytes

PACKERS = {
    "gz": ["gzip", "-1", "--stdout"],
    "xz": ["xz", "-0", "-T1", "--stdout"],
    "zst": ["zstd", "-q", "-1", "--stdout"],
}
# Options of `qemu-img convert`: many L2 tables, or few with much behind each.
SHAPES = {
    "small": ["-o", "cluster_size=4k"],
    "small-zlib": ["-c", "-o", "cluster_size=4k"],
    "usual": [],
    "usual-zlib": ["-c"],
    # Text that is compressed, and far behind it what fills the rest of its last cluster.
    "mixed": ["-c"],
    "small-mixed": ["-c", "-o", "cluster_size=4k"],
}
SIZE = 1600 * MIB
# A file that is more than what a copy keeps in memory, both of it and of what it was packed to.
PACKED = 56 * MIB


def noise_and_text(length, seed):
    return (seeded_bytes(length - 2 * MIB, seed) + hex_text(MIB, seed + " end") +
            hex_text(64 * KIB, seed) * 16)


def make_raw(path, make, length):
    """Data in four places, so that there are L2 tables in between whatever a cluster's size."""
    with open(path, "wb") as f:
        f.truncate(SIZE)
    write_at(path, [(i * 400 * MIB + 300 * KIB, make(length // 4, f"packed {i}"))
                    for i in range(4)])


def pack(source, packer, target):
    with open(source, "rb") as plain, open(target + ".tmp", "wb") as packed:
        subprocess.run(PACKERS[packer], stdin=plain, stdout=packed, check=True, timeout=240)
    os.rename(target + ".tmp", target)


def shuffle(path):
    """Puts the data clusters of a plain qcow2 with one L2 table into another order."""
    with open(path, "r+b") as f:
        head = f.read(48)
        cluster = 1 << struct.unpack(">I", head[20:24])[0]
        f.seek(struct.unpack(">Q", head[40:48])[0])
        table = struct.unpack(">Q", f.read(8))[0] & 0x00fffffffffffe00
        f.seek(table)
        entries = list(struct.unpack(f">{cluster // 8}Q", f.read(cluster)))
        used = [i for i, entry in enumerate(entries) if entry]
        data = []
        for i in used:
            f.seek(entries[i] & 0x00fffffffffffe00)
            data.append((i, f.read(cluster)))
        places = [entries[i] for i in used]
        random.Random("shuffled").shuffle(data)
        for place, (i, content) in zip(places, data):
            entries[i] = place
            f.seek(place & 0x00fffffffffffe00)
            f.write(content)
        f.seek(table)
        f.write(struct.pack(f">{cluster // 8}Q", *entries))


@pytest.fixture(scope="module", name="packed")
def fixture_packed(images):
    """(path, raw): a disk as a qcow2 of @shape, packed by @packer; made once."""
    def fixture(shape, packer):
        make, length = ((noise_and_text, 2 * PACKED) if "mixed" in shape else
                        (hex_text, 2 * PACKED) if "zlib" in shape else (seeded_bytes, PACKED))
        raw = images.path(f"in-order-{make.__name__}.raw")
        path = images.path(f"in-order-{shape}.qcow2")
        if not os.path.exists(raw):
            make_raw(raw, make, length)
        if not os.path.exists(path):
            run("qemu-img", "convert", "-O", "qcow2", *SHAPES[shape], raw, path, timeout=240)
        if not os.path.exists(f"{path}.{packer}"):
            pack(path, packer, f"{path}.{packer}")
        return f"{path}.{packer}", raw
    yield fixture
    for name in os.listdir(images.directory):
        if name.startswith("in-order"):
            os.unlink(images.path(name))


def copy(lazydisk, nginx, source, raw, target):
    """What the server sent for a copy of @source, in its sizes."""
    _, begin = sent(nginx)
    lazydisk.ok("copy", nginx.url(source), target, timeout=120)
    assert_same(target, raw)
    assert not os.path.exists(lazydisk.cache)
    fetched = sent(nginx, begin)[0] / os.stat(source).st_size
    print(f"{os.path.basename(source)}: {fetched:.2f} of the file")
    return fetched


@pytest.mark.limit(300)
@pytest.mark.slow
@pytest.mark.parametrize("shape,packer", [
    *[(shape, packer) for shape in SHAPES for packer in ("gz", "zst")],
    ("small", "xz"), ("usual-zlib", "xz")])
def test_a_stream_is_fetched_once(lazydisk, nginx, packed, tmp, shape, packer):
    source, raw = packed(shape, packer)
    assert copy(lazydisk, nginx, source, raw, os.path.join(tmp, "disk.img")) <= 1.15


@pytest.mark.limit(300)
@pytest.mark.slow
def test_a_shuffled_disk_behind_its_table_is_fetched_once(lazydisk, nginx, images, tmp):
    raw = os.path.join(tmp, "raw")
    path = images.path("in-order-shuffled.qcow2")
    with open(raw, "wb") as f:
        f.write(seeded_bytes(PACKED, "shuffled"))
    run("qemu-img", "convert", "-O", "qcow2", raw, path)
    shuffle(path)
    pack(path, "zst", path + ".zst")
    assert copy(lazydisk, nginx, path + ".zst", raw, os.path.join(tmp, "disk.img")) <= 1.15


@pytest.mark.limit(300)
@pytest.mark.slow
def test_a_stream_over_a_backing_file_is_fetched_once(lazydisk, nginx, images, tmp):
    """The backing file's bytes do not push out what was decoded and is not read yet."""
    base, top, raw = (images.path(f"in-order-{name}") for name in ("base.raw", "top.qcow2", "both"))
    with open(base, "wb") as f:
        f.write(seeded_bytes(3 * PACKED, "base"))
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", os.path.basename(base), "-F", "raw", top)
    content = os.path.join(tmp, "content")
    for at in range(0, 3 * PACKED, 2 * MIB):
        with open(content, "wb") as f:
            f.write(seeded_bytes(MIB, f"top {at}"))
        run("qemu-io", "-f", "qcow2", "-c", f"write -s {content} {at + 512 * KIB} 1M", top)
    run("qemu-img", "convert", "-O", "raw", top, raw)
    pack(top, "zst", top + ".zst")
    _, begin = sent(nginx)
    lazydisk.ok("copy", "--allow-backing", nginx.url(top + ".zst"), os.path.join(tmp, "disk.img"),
                timeout=120)
    assert_same(os.path.join(tmp, "disk.img"), raw)
    size = os.stat(top + ".zst").st_size + os.stat(base).st_size // 2
    print(f"{sent(nginx, begin)[0] / size:.2f}")
    assert sent(nginx, begin)[0] <= 1.2 * size


@pytest.mark.limit(120)
@pytest.mark.parametrize("packer", ["gz", "zst"])
@pytest.mark.parametrize("cluster", ["512", "4k", "64k"])
def test_a_disk_that_a_guest_wrote_is_copied(lazydisk, nginx, images, tmp, cluster, packer):
    """In any order, with tables behind their data, discarded and written again."""
    path = images.path(f"guest-{cluster}.qcow2")
    raw = os.path.join(tmp, "raw")
    chance = random.Random(cluster)
    commands = []
    for i in range(300):
        at = chance.randrange(0, 48 * MIB, 4 * KIB)
        what = chance.choice(["write", "write", "write -z", "discard"])
        byte = f"-P {1 + i % 250} " if what == "write" else ""
        commands += ["-c", f"{what} {byte}{at} {4 * KIB * chance.randrange(1, 40)}"]
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"cluster_size={cluster}", path, "64M")
    run("qemu-io", "-d", "unmap", "-f", "qcow2", *commands, path)
    run("qemu-img", "convert", "-O", "raw", path, raw)
    pack(path, packer, f"{path}.{packer}")
    copy(lazydisk, nginx, f"{path}.{packer}", raw, os.path.join(tmp, "disk.img"))


@pytest.mark.limit(120)
def test_what_is_verified_and_expected_is_all_of_it(lazydisk, nginx, images, tmp):
    source = images.variant("zlib-4k")
    target = os.path.join(tmp, "disk.img")
    pack(source, "zst", os.path.join(images.directory, "verified.qcow2.zst"))
    out = lazydisk.ok("copy", "--verify", "--size", "60Mi", "--progress", "json",
                      nginx.url(images.path("verified.qcow2.zst")), target)
    print(out)
    assert os.stat(target).st_size == 60 * MIB
    os.truncate(target, os.stat(images.raw).st_size)
    assert_same(target, images.raw)
