# SPDX-License-Identifier: Apache-2.0
"""Disks in gzip, by the programs that people use: what is read, mounted and copied is the disk that
was packed, and what was learned about a file makes it random access from then on."""

import contextlib
import errno
import glob
import os
import random
import shutil
import subprocess
import time

import pytest

from imgcat import imgcat
from util import KIB, MIB, assert_bytes, assert_same, one_line, pread, sha256

MAP_HEADER = 4096  # of cache/map.h

PACKERS = {
    "gzip": ["gzip", "-1", "-c"],
    "pigz": ["pigz", "-1", "-p2", "-c"],
    "pigz-i": ["pigz", "-1", "-i", "-p2", "-c"],
    "bgzip": ["bgzip", "-l1", "-c"],
}


def pack(packer, source, target):
    with open(source, "rb") as plain, open(target, "wb") as packed:
        subprocess.run(PACKERS[packer], stdin=plain, stdout=packed, check=True, timeout=120)


@pytest.fixture(scope="session", name="packed")
def fixture_packed(images):
    """Makes, once each, the sample disk (or another image) packed by one of PACKERS."""
    def make(packer, source=None):
        source = source or images.raw
        path = f"{source}.{packer}.gz"
        if not os.path.exists(path):
            pack(packer, source, path)
        return path
    return make


def assert_pieces(path, reference, count=40):
    """Random pieces in random order."""
    rng = random.Random("pieces")
    size = os.stat(reference).st_size
    for _ in range(count):
        length = rng.choice([1, 512, 4096, 100 * KIB])
        at = rng.randrange(size - length - 1)
        assert_bytes(pread(path, length, at), pread(reference, length, at), at)


@pytest.mark.parametrize("packer", PACKERS)
def test_a_packed_disk_is_mounted(lazydisk, nginx, packed, images, packer):
    """A first pass; then with all that was learned, when the size is known for sure."""
    url = nginx.url(packed(packer))
    with lazydisk.mounted(url) as mount:
        assert_pieces(mount.image(), images.raw)
        subprocess.run(["cat", mount.image()], stdout=subprocess.DEVNULL, check=False, timeout=60)
        layer = mount.layer("gzip")
        assert layer["size_known"] and layer["real_size"] == os.stat(images.raw).st_size
        assert layer["seek_points"] > 5
        assert layer["index_bytes"] < os.stat(images.raw).st_size / 100
    with lazydisk.mounted(url) as mount:
        assert os.stat(mount.image()).st_size == os.stat(images.raw).st_size
        assert_pieces(mount.image(), images.raw)
        assert sha256(mount.image()) == sha256(images.raw)


# How long a file of many members is can only be guessed.
@pytest.mark.parametrize("packer", ["gzip", "pigz", "pigz-i"])
def test_a_packed_disk_is_copied(lazydisk, nginx, packed, images, tmp, packer):
    target = os.path.join(tmp, "disk.img")
    lazydisk.ok("copy", nginx.url(packed(packer)), target)
    assert_same(target, images.raw)
    os.unlink(target)
    lazydisk.ok("copy", packed(packer), target)
    assert_same(target, images.raw)


def test_a_packed_qcow2_is_a_disk(lazydisk, nginx, packed, images, tmp):
    source = packed("gzip", images.variant("plain"))
    target = os.path.join(tmp, "disk.img")
    with lazydisk.mounted(nginx.url(source)) as mount:
        assert_pieces(mount.image(), images.raw)
        assert_same(mount.image(), images.raw)
    lazydisk.ok("copy", nginx.url(source), target)
    assert_same(target, images.raw)


def test_damage_and_truncation_are_errors(lazydisk, packed, tmp):
    broken = os.path.join(tmp, "broken.gz")
    target = os.path.join(tmp, "disk.img")
    whole = packed("gzip")
    size = os.stat(whole).st_size
    for cut in (size - 1, size - 8, size // 2):
        shutil.copyfile(whole, broken)
        os.truncate(broken, cut)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target)
            os.unlink(target + ".lazydisk")
        done = lazydisk.run("copy", broken, target)
        # What the cut file says of its length is anything.
        assert done.returncode in (1, 4), done.stderr
        assert "cut off" in one_line(done.stderr) or "assumed" in done.stderr
        assert done.stderr.count(broken) == 1
    for at, bit in ((size // 2, 4), (size - 6, 1), (size - 2, 1)):
        shutil.copyfile(whole, broken)
        with open(broken, "r+b") as f:
            f.seek(at)
            byte = f.read(1)[0]
            f.seek(at)
            f.write(bytes([byte ^ bit]))
        done = imgcat(broken)
        # Damaged data can be longer than the trailer says.
        assert done.returncode == 4 and b"gzip" in done.stderr or b"assumed" in done.stderr
        assert done.returncode != 0
    shutil.copyfile(whole, broken)
    with open(broken, "ab") as f:
        f.write(b"no gzip member")
    done = imgcat(broken)
    assert done.returncode == 4 and b"neither" in done.stderr or b"assumed" in done.stderr
    assert done.returncode != 0


@pytest.mark.parametrize("at", ["first", "last"])
@pytest.mark.parametrize("what", ["data", "checksum"])
def test_nothing_of_a_small_member_is_shown_before_it_is_proven(lazydisk, bad, tmp, what, at):
    """Of a damaged block of bgzip, nobody is given a byte."""
    noise = random.Random("held").randbytes(2 * MIB)
    plain, block = os.path.join(tmp, "noise.raw"), 65280
    begin, end = 10 * block, 11 * block
    with open(plain, "wb") as f:
        f.write(noise)
    pack("bgzip", plain, plain + ".gz")
    with open(plain + ".gz", "rb") as f:
        data = bytearray(f.read())
    # Noise is stored as it is, so that one byte is another one, and nothing else is.
    last = data.find(noise[end - 32:end])
    assert last > 0
    data[last if what == "data" else last + 32] ^= 1
    first = -(-begin // 4096) * 4096 if at == "first" else end // 4096 * 4096 - 4096
    with lazydisk.mounted("--no-complete", bad.file("/noise.raw.gz", bytes(data))) as mount:
        path = mount.image()
        assert_bytes(pread(path, 4096, 0), noise[:4096], 0)
        with pytest.raises(OSError) as failed:
            pread(path, 4096, first)
        assert failed.value.errno == errno.EIO
        assert "damaged" in mount.stderr()


def forget_granules(cache):
    """Leaves of every object in the cache only what was learned about it: no byte is present."""
    maps = glob.glob(os.path.join(cache, "**", "map"), recursive=True)
    assert len(maps) == 2  # of the file as it is on the server, and of what was decoded
    for path in maps:
        with open(path, "r+b") as f:
            size = os.fstat(f.fileno()).st_size
            f.seek(MAP_HEADER)
            f.write(bytes(size - MAP_HEADER))


def make_large(path):
    """2.25 GiB, mostly zeros; parts at 0 and 2 GiB that compress to half."""
    noise = random.Random("large").randbytes(12 * MIB).hex().encode()
    with open(path, "wb") as f:
        f.write(noise)
        f.seek(2048 * MIB)
        f.write(noise[::-1])
        f.truncate(2304 * MIB)


@pytest.mark.slow
def test_a_read_far_into_a_known_file_fetches_little(lazydisk, bad, tmp):
    """All that the second mount has is the index."""
    plain = os.path.join(tmp, "large.raw")
    make_large(plain)
    pack("pigz", plain, plain + ".gz")
    with open(plain + ".gz", "rb") as f:
        data = f.read()
    url = bad.file("/large.raw.gz", data)
    with lazydisk.mounted(url) as mount:
        with open(mount.image(), "rb") as f:
            while f.read(16 * MIB):
                pass
        assert mount.layer("gzip")["size_known"]
    forget_granules(lazydisk.cache)
    with lazydisk.mounted("--no-trace", "--no-complete", url) as mount:
        assert os.stat(mount.image()).st_size == 2304 * MIB
        before = bad.bytes_sent("/large.raw.gz")
        at = 2060 * MIB + 4321
        begun = time.monotonic()
        assert_bytes(pread(mount.image(), 4096, at), pread(plain, 4096, at), at)
        took = time.monotonic() - begun
        sent = bad.bytes_sent("/large.raw.gz") - before
        print(f"4 KiB at {at}: {sent} bytes fetched, {1000 * took:.0f} ms")
        assert sent < 8 * 1000 * 1000
