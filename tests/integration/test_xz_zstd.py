# SPDX-License-Identifier: Apache-2.0
"""Disks in xz and zstd, as published: what is read, mounted and copied is the disk that was packed."""

import errno
import os
import random
import shutil
import struct
import subprocess

import pytest

from imgcat import imgcat
from util import (KIB, MIB, assert_bytes, assert_same, drop_pages, one_line, pread, run, sha256,
                  wait_for)

LINE = {"timeout": 60}
SIZE = 12 * MIB


def packed_by(command, source, target):
    with open(source, "rb") as plain, open(target, "wb") as packed:
        subprocess.run(command, stdin=plain, stdout=packed, check=True, **LINE)


def xz_one(source, target):
    packed_by(["xz", "-0", "-T1", "--stdout"], source, target)


def xz_many(source, target):
    packed_by(["xz", "-0", "-T2", "--block-size=1536KiB", "--stdout"], source, target)


def xz_streams(source, target):
    """Several streams of different kinds, padded, and one without a single block."""
    with open(source, "rb") as f:
        plain = f.read()
    parts = [
        (plain[:3 * MIB], ["-0", "--block-size=100KiB", "-T1", "--check=sha256"]),
        (b"", ["-0"]),
        (plain[3 * MIB:7 * MIB], ["--x86", "--lzma2=preset=0", "--check=crc32"]),
        (plain[7 * MIB:], ["--delta=dist=8", "--lzma2=preset=0", "--check=none"]),
    ]
    with open(target, "wb") as f:
        for part, options in parts:
            done = subprocess.run(["xz", "--stdout", *options], input=part, check=True,
                                  stdout=subprocess.PIPE, **LINE)
            f.write(done.stdout + bytes(4 * len(options)))


def zstd_one(source, target):
    run("zstd", "-q", "-1", source, "-o", target)


def zstd_long(source, target):
    """From a pipe: nothing says how long the disk is."""
    packed_by(["zstd", "-q", "-1", "--long=27", "--stdout"], source, target)


def zstd_several(source, target):
    """Frames one behind the other; the first one's size is not the disk's."""
    with open(source, "rb") as f, open(target, "wb") as out:
        for length in (2 * MIB, 3 * MIB, SIZE):
            piece = f.read(length)
            out.write(zstd_frame(piece, "--check", f"--stream-size={len(piece)}"))


def zstd_frame(data, *options):
    return subprocess.run(["zstd", "-q", "-1", "--stdout", *options], input=data, check=True,
                          stdout=subprocess.PIPE, **LINE).stdout


def skippable(magic, data):
    return struct.pack("<II", magic, len(data)) + data


def zstd_seekable(source, target, size=1200 * KIB):
    """The Zstandard Seekable Format; frames are checked by what they are in the disk alone."""
    table = b""
    with open(source, "rb") as f, open(target, "wb") as out:
        while piece := f.read(size):
            frame = zstd_frame(piece, "--check")
            out.write(frame)
            table += struct.pack("<II", len(frame), len(piece))
        out.write(skippable(0x184D2A5E, table + struct.pack("<IBI", len(table) // 8, 0, 0x8F92EAB1)))


def pzstd(source, target):
    run("pzstd", "-q", "-1", "-p", "2", source, "-o", target)


VARIANTS = {
    "one.xz": xz_one,
    "many.xz": xz_many,
    "streams.xz": xz_streams,
    "one.zst": zstd_one,
    "several.zst": zstd_several,
    "seekable.zst": zstd_seekable,
    "long.zst": zstd_long,
    "pzstd.zst": pzstd,
}
# Nothing in these says how long the disk is.
UNSIZED = ["long.zst", "pzstd.zst"]
SIZED = [variant for variant in VARIANTS if variant not in UNSIZED]
# Decoded where somebody reads.
RANDOM = ["many.xz", "streams.xz", "seekable.zst"]


@pytest.fixture(scope="session", name="disk")
def fixture_disk(images):
    """A part of the sample disk that has words, text, noise and holes."""
    path = images.path("small.raw")
    with open(images.raw, "rb") as f, open(path, "wb") as out:
        for at, length in ((17, 3), (23, 3), (29, 1), (40, 5)):
            f.seek(at * MIB)
            out.write(f.read(length * MIB))
    assert os.stat(path).st_size == SIZE
    return path


@pytest.fixture(scope="session", name="packed")
def fixture_packed(disk):
    """Makes, once each, the disk (or another image) packed as one of VARIANTS says."""
    def make(variant, source=None):
        source = source or disk
        path = f"{source}.{variant}"
        if not os.path.exists(path):
            VARIANTS[variant](source, path)
        return path
    return make


def decoded(path):
    return imgcat(path, limited=False)


def assert_pieces(path, reference, count=40):
    """Random pieces in random order."""
    rng = random.Random("pieces")
    size = os.stat(reference).st_size
    for _ in range(count):
        length = rng.choice([1, 512, 4096, 100 * KIB])
        at = rng.randrange(size - length)
        assert_bytes(pread(path, length, at), pread(reference, length, at), at)


@pytest.mark.parametrize("variant", SIZED)
def test_a_packed_disk_decodes_to_itself(packed, disk, variant):
    with open(disk, "rb") as f:
        assert_bytes(decoded(packed(variant)).stdout, f.read())


@pytest.mark.parametrize("variant", [v for v in SIZED if v != "several.zst"])
def test_a_packed_disk_is_mounted(lazydisk, nginx, packed, disk, variant):
    with lazydisk.mounted(nginx.url(packed(variant))) as mount:
        path = mount.image()
        assert_pieces(path, disk)
        assert sha256(path) == sha256(disk)
    with lazydisk.mounted(nginx.url(packed(variant))) as mount:
        assert_pieces(mount.image(), disk)


@pytest.mark.parametrize("variant", [v for v in SIZED if v != "several.zst"])
def test_a_packed_disk_is_copied(lazydisk, nginx, packed, disk, tmp, variant):
    target = os.path.join(tmp, "disk.img")
    lazydisk.ok("copy", nginx.url(packed(variant)), target)
    assert_same(target, disk)
    os.unlink(target)
    lazydisk.ok("copy", packed(variant), target)
    assert_same(target, disk)


def read_until_it_fails(path):
    data = b""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while piece := os.pread(fd, 64 * KIB, len(data)):
            data += piece
    except OSError:
        pass
    finally:
        os.close(fd)
    return data


@pytest.mark.parametrize("variant", [*UNSIZED, "several.zst"])
def test_a_size_that_was_assumed_is_known_once_the_end_was_seen(
        lazydisk, nginx, packed, disk, variant):
    with open(disk, "rb") as f:
        plain = f.read()
    with lazydisk.mounted(nginx.url(packed(variant))) as mount:
        assert os.stat(mount.image()).st_size != SIZE
        got = read_until_it_fails(mount.image())
        assert len(got) < os.stat(mount.image()).st_size
        assert_bytes(got, plain[:len(got)])
        assert mount.layer("raw")["final_size"] == SIZE
    with lazydisk.mounted(nginx.url(packed(variant))) as mount:
        assert_pieces(mount.image(), disk)
        assert_same(mount.image(), disk)


@pytest.mark.parametrize("variant", ["one.xz", "many.xz", "one.zst", "pzstd.zst"])
def test_a_packed_qcow2_is_a_disk(lazydisk, nginx, packed, disk, images, variant):
    qcow2 = images.path("small.qcow2")
    if not os.path.exists(qcow2):
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", disk, qcow2)
    with lazydisk.mounted(nginx.url(packed(variant, qcow2))) as mount:
        assert_pieces(mount.image(), disk)
        assert_same(mount.image(), disk)


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v not in UNSIZED])
def test_a_truncated_file_is_an_error(lazydisk, packed, tmp, variant):
    """Where it ends early is told, by a copy, too; and nothing takes it for a disk."""
    short = os.path.join(tmp, "short")
    size = os.stat(packed(variant)).st_size
    for cut in (size - 1, size // 2):
        shutil.copyfile(packed(variant), short)
        os.truncate(short, cut)
        done = lazydisk.run("copy", short, os.path.join(tmp, f"{cut}.img"))
        assert done.returncode == 4, done.stderr
        assert "offset" in one_line(done.stderr)
        assert done.stderr.count(short) == 1


@pytest.mark.parametrize("variant", SIZED)
def test_damage_is_an_error(packed, tmp, variant):
    """Bytes in the middle that are not what was written."""
    path = os.path.join(tmp, "damaged")
    shutil.copyfile(packed(variant), path)
    with open(path, "r+b") as f:
        f.seek(os.stat(path).st_size // 2)
        byte = f.read(1)[0]
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte ^ 0x10]))
    done = decoded(path)
    assert done.returncode == 4
    assert "offset" in one_line(done.stderr.decode())


def test_a_window_that_is_too_large_is_refused(disk, tmp):
    path = os.path.join(tmp, "long.zst")
    packed_by(["zstd", "-q", "-1", "--long=28", "--stdout"], disk, path)
    done = decoded(path)
    assert done.returncode == 4
    assert "a window of 256 MiB" in one_line(done.stderr.decode())


def test_a_read_far_into_many_blocks_fetches_the_one_it_is_in(lazydisk, bad, packed, disk):
    with open(packed("many.xz"), "rb") as f:
        data = f.read()
    listed = run("xz", "--list", "--verbose", "--verbose", "--robot", packed("many.xz"))
    largest = max(int(line.split("\t")[6]) for line in listed.splitlines()
                  if line.startswith("block"))
    with lazydisk.mounted(bad.file("/disk.raw.xz", data)) as mount:
        opened = bad.bytes_sent("/disk.raw.xz")
        at = 5 * MIB + 12345
        assert_bytes(pread(mount.image(), 4096, at), pread(disk, 4096, at), at)
        wait_for(lambda: mount.layer("cache")["decoding"] == 0, 20, "the block to be decoded")
        assert bad.bytes_sent("/disk.raw.xz") - opened <= largest + 128 * KIB


def read_error(path, offset):
    """The errno of a read of one page past the kernel's own pages, or None."""
    drop_pages(path)
    try:
        pread(path, 4096, offset)
        return None
    except OSError as e:
        return e.errno


def test_bytes_of_a_corrupt_block_are_not_kept(lazydisk, bad, tmp):
    """Only the end of a block tells that a byte in its middle is wrong. From then on none of it is
    to be had, and the next mount does not believe what this one had stored."""
    plain, packed = os.path.join(tmp, "noise.raw"), os.path.join(tmp, "noise.raw.xz")
    noise = random.Random(3).randbytes(9 * MIB)
    with open(plain, "wb") as f:
        f.write(noise)
    packed_by(["xz", "-0", "-T1", "--block-size=3MiB", "--stdout"], plain, packed)
    with open(packed, "rb") as f:
        data = bytearray(f.read())
    # Noise is stored as it is, so that this damages one byte of the second block and no more.
    at = data.find(noise[4 * MIB:4 * MIB + 64])
    data[at] ^= 1
    url = bad.file("/noise.raw.xz", bytes(data))
    for _ in range(2):
        with lazydisk.mounted(url) as mount:
            path = mount.image()
            assert_bytes(pread(path, 4096, MIB), noise[MIB:MIB + 4096], MIB)
            wait_for(lambda p=path: read_error(p, 6 * MIB - 4096) == errno.EIO, 20,
                     "the end of the block to be seen")
            for offset in (3 * MIB, 4 * MIB, 5 * MIB):
                assert read_error(path, offset) == errno.EIO
            assert_bytes(pread(path, 4096, 8 * MIB), noise[8 * MIB:8 * MIB + 4096], 8 * MIB)
            assert "block 2" in mount.stderr()
            assert mount.status()["images"][0]["layers"][1]["present_bytes"] <= 6 * MIB + 128 * KIB


@pytest.mark.parametrize("at", [0, 600 * KIB, -4096], ids=["first", "middle", "last"])
@pytest.mark.parametrize("variant", ["many.xz", "seekable.zst"])
def test_nothing_of_a_small_block_is_shown_before_it_is_proven(lazydisk, bad, tmp, variant, at):
    """Of a damaged one, there is no byte for anybody: not for who reads first, nor for a copy."""
    noise = random.Random("held").randbytes(6 * MIB)
    plain, target = os.path.join(tmp, "noise.raw"), os.path.join(tmp, "copy.img")
    block = 1536 * KIB if variant == "many.xz" else 1200 * KIB
    begin, end = 2 * block, 3 * block
    with open(plain, "wb") as f:
        f.write(noise)
    VARIANTS[variant](plain, f"{plain}.{variant}")
    with open(f"{plain}.{variant}", "rb") as f:
        data = bytearray(f.read())
    # Noise is stored as it is, so that one byte is another one, and nothing else is.
    damaged = data.find(noise[end - 64:end - 32])
    assert damaged > 0
    data[damaged] ^= 1
    url = bad.file(f"/{variant}", bytes(data))
    first = begin + at if at >= 0 else end + at
    with lazydisk.mounted("--no-complete", url) as mount:
        path = mount.image()
        assert read_error(path, first) == errno.EIO
        assert read_error(path, begin) == errno.EIO
        assert read_error(path, end - 4096) == errno.EIO
        for good in (0, begin - 4096, end, 6 * MIB - 4096):
            assert_bytes(pread(path, 4096, good), noise[good:good + 4096], good)
        assert "is corrupt" in mount.stderr()
    done = lazydisk.run("copy", url, target)
    assert done.returncode == 4, done.stderr
    if os.path.exists(target):
        with open(target, "rb") as f:
            f.seek(begin)
            assert not any(f.read(block))
