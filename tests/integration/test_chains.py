# SPDX-License-Identifier: Apache-2.0
"""Formats in each other: disks in compressed streams, read, mounted, copied, kept and cut short."""

import contextlib
import errno
import gzip
import hashlib
import json
import os
import struct
import subprocess
import tarfile
import threading
import zlib

import pytest

import faults
from command import slowness
from images import hex_text
from test_copy import loop_device
from util import (KIB, MIB, assert_bytes, assert_same, one_line, pread, refuses, run, seeded_bytes,
                  sha256, wait_for)

PACKERS = {
    "gz": ["gzip", "-1", "--stdout"],
    "xz": ["xz", "-0", "-T1", "--stdout"],
    "blocks.xz": ["xz", "-0", "-T2", "--block-size=5MiB", "--stdout"],
}
# The disk as it is, and a qcow2 that spans the whole stream.
MATRIX = [("raw", "gz"), ("zlib", "gz"), ("zlib-4k", "gz"), ("cluster-512", "gz"), ("raw", "xz"),
          ("plain", "xz"), ("raw", "blocks.xz")]


def pack(source, packer, target):
    with open(source, "rb") as plain, open(target, "wb") as packed:
        subprocess.run(PACKERS[packer], stdin=plain, stdout=packed, check=True, timeout=60)


@pytest.fixture(scope="session", name="packed")
def fixture_packed(images):
    """The path of the sample disk as @inside, packed by @packer; made once."""
    def make(inside, packer):
        source = images.raw if inside == "raw" else images.variant(inside)
        path = f"{source}.{packer}"
        if not os.path.exists(path):
            pack(source, packer, path)
        return path
    return make


def members(*parts):
    """A gzip file of several members: nothing in it says how long it is."""
    return b"".join(gzip.compress(part, 1) for part in parts)


def disk_bytes(size, seed):
    """No partition table, no zeros at the end: nothing to guess a size from."""
    return b"\1" + seeded_bytes(size - 1, seed)


def assert_boots_nowhere(target):
    """Decoding ahead may meet the damage before there is a target at all."""
    if os.path.exists(target):
        assert pread(target, MIB, 0).strip(b"\0") == b""


@pytest.mark.parametrize("inside,packer", MATRIX)
def test_a_packed_disk_is_mounted_and_the_second_time_at_once(
        lazydisk, nginx, images, packed, inside, packer):
    path = packed(inside, packer)
    with lazydisk.mounted(nginx.url(path)) as mount:
        assert_bytes(pread(mount.image(), 4096, 2 * MIB), pread(images.raw, 4096, 2 * MIB))
        assert_same(mount.image(), images.raw)
        fetched = mount.layer("http")["bytes_fetched"]
        assert fetched < os.stat(path).st_size * 1.1 + MIB
    with lazydisk.mounted(nginx.url(path)) as mount:
        assert_same(mount.image(), images.raw)
        assert mount.layer("http")["bytes_fetched"] < 300 * KIB
        assert mount.layer("cache")["present_bytes"] > 0
    lazydisk.ok("cache", "verify")


@pytest.mark.parametrize("inside,packer", MATRIX)
def test_a_packed_disk_is_copied(lazydisk, nginx, images, packed, tmp, inside, packer):
    target = os.path.join(tmp, "disk.img")
    lazydisk.ok("copy", nginx.url(packed(inside, packer)), target)
    assert_same(target, images.raw)
    assert os.stat(target).st_blocks * 512 < os.stat(images.raw).st_size
    assert not os.path.exists(lazydisk.cache)
    assert sorted(os.listdir(tmp)) == ["disk.img"]


@pytest.mark.parametrize("inside,packer", [("raw", "gz"), ("plain", "xz"), ("raw", "blocks.xz")])
def test_a_packed_disk_goes_onto_a_device(lazydisk, images, packed, tmp, inside, packer):
    size = os.stat(images.raw).st_size
    with loop_device(os.path.join(tmp, "back"), size + 3 * MIB) as device:
        lazydisk.ok("copy", "--verify", packed(inside, packer), device)
        with open(device, "rb") as got, open(images.raw, "rb") as want:
            assert_bytes(got.read(size), want.read())
            assert got.read() == bytes(3 * MIB)


@pytest.mark.parametrize("packer", ["gz", "blocks.xz"])
def test_without_a_cache_directory_it_is_right_too(lazydisk, nginx, images, packed, packer):
    with lazydisk.mounted("--no-cache", nginx.url(packed("zlib", packer))) as mount:
        assert_same(mount.image(), images.raw)
        assert mount.layer("cache")["mode"] == "memory"
    assert not os.path.exists(lazydisk.cache)


@pytest.mark.parametrize("packer", ["gz", "xz"])
def test_what_was_decoded_before_a_crash_is_good(lazydisk, nginx, images, packed, packer):
    url = nginx.url(packed("raw", packer))
    mount = lazydisk.start(url)
    assert_bytes(pread(mount.image(), MIB, 10 * MIB), pread(images.raw, MIB, 10 * MIB))
    mount.crash()
    with lazydisk.mounted(url) as mount:
        assert mount.layer("cache")["present_bytes"] > MIB
        assert_same(mount.image(), images.raw)


@pytest.mark.parametrize("packer", PACKERS)
def test_a_stream_that_was_cut_off_gives_errors_and_boots_nowhere(
        lazydisk, packed, tmp, packer):
    with open(packed("raw", packer), "rb") as f:
        whole = f.read()
    path = os.path.join(tmp, f"cut.raw.{packer}")
    with open(path, "wb") as f:
        f.write(whole[:len(whole) * 2 // 3])
    target = os.path.join(tmp, "disk.img")
    done = lazydisk.run("copy", path, target)
    assert done.returncode == 4
    assert "Traceback" not in done.stderr and one_line(done.stderr)
    assert_boots_nowhere(target)


def test_a_stream_whose_checksum_is_wrong_boots_nowhere(lazydisk, tmp):
    data = bytearray(members(disk_bytes(5 * MIB, "crc")))
    data[-8] ^= 1
    path = os.path.join(tmp, "wrong.raw.gz")
    with open(path, "wb") as f:
        f.write(data)
    target = os.path.join(tmp, "disk.img")
    done = lazydisk.run("copy", path, target)
    assert done.returncode == 4
    assert_boots_nowhere(target)


# a size that nothing tells

@pytest.fixture(name="several")
def fixture_several(tmp):
    parts = [disk_bytes(3 * MIB, "a"), disk_bytes(2 * MIB + 512, "b"), disk_bytes(MIB, "c")]
    path = os.path.join(tmp, "several.raw.gz")
    with open(path, "wb") as f:
        f.write(members(*parts))
    return path, b"".join(parts)


def provisional(mount):
    return os.getxattr(mount.image(), "user.lazydisk.size").decode()


def test_a_size_is_final_once_the_end_was_seen_and_never_wrong(lazydisk, several):
    path, data = several
    mount = lazydisk.start(path)
    assert "assumed" in mount.stderr()
    shown = os.stat(mount.image()).st_size
    assert shown != len(data)
    assert provisional(mount) == "provisional"
    with pytest.raises(OSError) as caught:
        with open(mount.image(), "rb") as f:
            while f.read(MIB):
                pass
    assert caught.value.errno == errno.EIO
    known = min(shown, len(data)) - 1
    assert_bytes(pread(mount.image(), known // 4096 * 4096, 0), data[:known // 4096 * 4096])
    assert str(len(data)) in provisional(mount)
    assert mount.layer("raw")["final_size"] == len(data)
    assert str(len(data)) in lazydisk.ok("status", mount.point)
    mount.umount()
    with lazydisk.mounted(path) as mount:
        assert provisional(mount) == "final"
        assert os.stat(mount.image()).st_size == len(data)
        with open(mount.image(), "rb") as f:
            assert_bytes(f.read(), data)


def test_a_size_may_be_given(lazydisk, several):
    path, data = several
    mount = lazydisk.start("--size", len(data), path)
    assert mount.stderr() == ""
    with open(mount.image(), "rb") as f:
        assert_bytes(f.read(), data)
    assert provisional(mount) == "final"
    mount.umount()


def test_a_size_is_not_taken_for_a_disk_that_knows_its_own(lazydisk, several, images, tmp):
    plain, raw = images.variant("plain"), os.path.join(tmp, "disk.raw")
    with open(raw, "wb") as f:
        f.write(seeded_bytes(2 * MIB, "size"))
    run("xz", "-k", raw)
    path, data = several
    size = os.stat(images.raw).st_size
    for source, real in ((plain, size), (raw, 2 * MIB), (f"{raw}.xz", 2 * MIB)):
        for verb in ("info", "map"):
            done = lazydisk.run(verb, "--json", "--size", "7Mi", source)
            assert done.returncode == 0
            line = one_line(done.stderr)
            assert source in line and "--size is ignored" in line and str(real) in line
            json.loads(done.stdout)
            assert lazydisk.run(verb, "--size", real, source).stderr == ""
        assert lazydisk.run("info", "--size", "7Mi", path).stderr == ""
    # Of several, the one that it is not for is named.
    mount = lazydisk.start("--size", len(data), path, raw)
    line = one_line(mount.stderr())
    assert "--size is ignored" in line and raw in line and path not in line
    assert [os.stat(mount.path(name)).st_size for name in mount.images()] == [2 * MIB, len(data)]
    mount.umount()


def test_a_copy_finds_out_how_large_the_disk_is(lazydisk, several, tmp):
    path, data = several
    target = os.path.join(tmp, "disk.img")
    for options in (["--verify"], ["--preallocation", "full"], ["--size", "8Mi"]):
        lazydisk.ok("copy", *options, path, target)
        with open(target, "rb") as f:
            assert_bytes(f.read(len(data)), data)
            assert f.read() == bytes(8 * MIB - len(data) if "8Mi" in options else 0)
        os.unlink(target)


def test_a_target_that_turns_out_too_small_is_named_and_boots_nowhere(lazydisk, several, tmp):
    path, _ = several
    with loop_device(os.path.join(tmp, "back"), 4 * MIB) as device:
        done = lazydisk.run("copy", path, device)
        assert done.returncode == 5
        assert "too small" in one_line(done.stderr) and str(4 * MIB) in done.stderr
        with open(device, "rb") as f:
            assert f.read(MIB).strip(b"\0") == b""


def test_a_disk_full_at_the_end_of_a_stream_leaves_the_journal_whole(lazydisk, tmp):
    """How long it is shows when all was decoded; then there is no room for it."""
    path, point = os.path.join(tmp, "disk.raw.gz"), lazydisk.point()
    with open(path, "wb") as f:
        f.write(members(disk_bytes(2 * MIB, "a"), *[bytes(16 * MIB)] * 40))
    run("mount", "-t", "tmpfs", "-o", "size=24m", "none", point)
    try:
        done = lazydisk.run("copy", "--target-is-zero", "--preallocation", "falloc", path,
                            os.path.join(point, "disk.img"))
        assert done.returncode == 5, done.stderr
        assert "space" in one_line(done.stderr)
    finally:
        run("umount", point)


@pytest.mark.parametrize("inner", ["xz", "gz"])
@pytest.mark.parametrize("cached", [False, True], ids=["", "cached"])
def test_a_container_in_a_stream_of_unknown_size(lazydisk, tmp, inner, cached):
    options = ["--cache-dir", f"{tmp}/kept"] if cached else []
    data = disk_bytes(3 * MIB, "inner")
    inside = subprocess.run([*PACKERS[inner]], input=data, capture_output=True, check=True).stdout
    path, target = f"{tmp}/disk.raw.{inner}.zst", f"{tmp}/disk.img"
    with open(path, "wb") as f:
        f.write(subprocess.run([*STREAMS[3]], input=inside, capture_output=True, check=True).stdout)
    lazydisk.ok("copy", *options, path, target)
    with open(target, "rb") as f:
        assert_bytes(f.read(), data)
    damaged = bytearray(open(path, "rb").read())
    damaged[-1] ^= 1  # of the stream's checksum
    with open(path, "wb") as f:
        f.write(damaged)
    done = lazydisk.run("copy", "--force", path, target)
    assert done.returncode == 4, done.stderr


def test_damage_of_an_interrupted_stream_does_not_stay_where_zeros_are(lazydisk, tmp):
    """The target was zero when that began; the next run decodes zeros where it put something."""
    frames = [seeded_bytes(MIB, 1), bytes(61 * MIB), seeded_bytes(2 * MIB, 2)]
    packed = [subprocess.run([*STREAMS[3], f"--stream-size={len(x)}"], input=x, capture_output=True,
                             check=True).stdout for x in frames]
    path = os.path.join(tmp, "disk.raw.zst")
    with open(path, "wb") as f:
        f.write(b"".join(packed))
    whole = os.stat(path)
    at = len(packed[0]) + packed[1].index(b"\2\0\x10\0") + 3  # 128 KiB of this byte
    with loop_device(os.path.join(tmp, "back"), 64 * MIB, dirty=False) as device:
        args = ("copy", "--target-is-zero", path, device)
        with open(path, "r+b") as f:
            f.seek(at)
            f.write(b"\1")
        os.utime(path, ns=(whole.st_atime_ns, whole.st_mtime_ns))
        assert lazydisk.run(*args).returncode == 4
        assert b"\1\1\1\1" in pread(device, 4 * MIB, MIB)
        with open(path, "r+b") as f:
            f.seek(at)
            f.write(b"\0")
        os.utime(path, ns=(whole.st_atime_ns, whole.st_mtime_ns))
        lazydisk.ok(*args)
        with open(device, "rb") as f:
            assert_bytes(f.read(), b"".join(frames))


@pytest.mark.slow
@pytest.mark.limit(180)
def test_more_than_4_gib_are_more_than_a_trailer_can_say(lazydisk, tmp):
    end = disk_bytes(MIB, "end")
    zeros = bytes(64 * MIB)
    size = 65 * len(zeros) + len(end)
    path = os.path.join(tmp, "large.raw.gz")
    flushed = zlib.compressobj(1, zlib.DEFLATED, -15)
    repeated = flushed.compress(zeros) + flushed.flush(zlib.Z_FULL_FLUSH)
    last = zlib.compressobj(1, zlib.DEFLATED, -15)
    crc = 0
    for _ in range(65):
        crc = zlib.crc32(zeros, crc)
    with open(path, "wb") as f:
        f.write(b"\x1f\x8b\x08" + bytes(6) + b"\xff" + repeated * 65)
        f.write(last.compress(end) + last.flush())
        f.write(struct.pack("<II", zlib.crc32(end, crc), size % 2**32))
    target = os.path.join(tmp, "disk.img")
    lazydisk.ok("copy", path, target, timeout=120)
    assert os.stat(target).st_size == size
    assert os.stat(target).st_blocks * 512 < 2 * MIB
    assert_bytes(pread(target, MIB, size - MIB), end)


# chains

def test_containers_in_containers_are_opened_up_to_a_bound(lazydisk, images, packed, tmp):
    path = os.path.join(tmp, "deep.raw.gz")
    with open(packed("zlib", "xz"), "rb") as f:
        data = f.read()
    with open(path, "wb") as f:
        f.write(gzip.compress(data, 1))
    with lazydisk.mounted(path) as mount:
        assert_same(mount.image(), images.raw)
        names = [layer["name"] for layer in mount.status()["images"][0]["layers"]]
        assert [n for n in names if n != "cache"] == ["qcow2", "xz", "gzip", "file"]
        assert "qcow2 in xz in gzip" in lazydisk.ok("status", mount.point)
    for _ in range(3):
        data = gzip.compress(data, 1)
    with open(path, "wb") as f:
        f.write(gzip.compress(data, 1))
    done = lazydisk.run("info", path)
    assert done.returncode == 4
    assert "containers" in one_line(done.stderr)


def test_the_chain_may_be_named(lazydisk, images, packed, tmp):
    path = packed("zlib", "gz")
    target = os.path.join(tmp, "out")
    lazydisk.ok("copy", "--format", "gzip+raw", path, target)
    assert_same(target, images.variant("zlib"))
    lazydisk.ok("copy", "--force", "--format", "gzip+qcow2", path, target)
    assert_same(target, images.raw)
    lazydisk.ok("copy", "--force", "--format", "raw", path, target)
    assert sha256(target) == sha256(path)
    assert lazydisk.run("copy", "--format", "raw+gzip", path, target).returncode == 2


def test_a_server_without_ranges_is_enough_for_a_stream(lazydisk, bad, packed, images, tmp):
    with open(packed("raw", "gz"), "rb") as f:
        data = f.read()
    url = bad.file("/disk.raw.gz", data, faults=[faults.no_ranges(data)])
    target = os.path.join(tmp, "disk.img")
    lazydisk.ok("copy", "--cache-dir", os.path.join(tmp, "c"), url, target)
    assert_same(target, images.raw)


def test_the_checksum_is_of_what_was_downloaded(lazydisk, nginx, packed, images, tmp):
    path = packed("raw", "gz")
    target = os.path.join(tmp, "disk.img")
    lazydisk.ok("copy", "--checksum", "sha256:" + sha256(path), nginx.url(path), target)
    assert_same(target, images.raw)
    done = lazydisk.run("copy", "--force", "--checksum", "sha256:" + "0" * 64, nginx.url(path),
                        target)
    assert done.returncode == 6
    assert pread(target, MIB, 0).strip(b"\0") == b""


# A stream of each kind whose checksums stand behind what is read.
STREAMS = [PACKERS["gz"], PACKERS["xz"], PACKERS["blocks.xz"], ["zstd", "-q", "-1", "--check", "-c"]]


def inner(kind, noise, tmp):
    """A file with the disk @noise in it, and something behind that nobody needs to read."""
    raw, path = os.path.join(tmp, "disk.raw"), os.path.join(tmp, f"disk.{kind}")
    with open(raw, "wb") as f:
        f.write(noise)
    if kind == "tar":
        with tarfile.open(path, "w") as archive:
            archive.add(raw, "disk.raw")
        size = os.stat(path).st_size
    else:
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, path)
        size = os.stat(path).st_size // 65536 * 65536
    with open(path, "ab") as f:
        f.truncate(size + 3 * MIB)
    return path


@pytest.mark.parametrize("kind", ["qcow2", "tar"])
@pytest.mark.parametrize("command", STREAMS, ids=["gz", "xz", "blocks.xz", "zst"])
def test_a_copy_ends_when_all_it_read_is_proven(lazydisk, bad, tmp, kind, command):
    """What a format needs of a stream may end before the checksum that tells of damage. Until that
    was seen, there is no beginning of a disk that boots."""
    noise = seeded_bytes(4 * MIB, f"proof {kind}")
    source, target = inner(kind, noise, tmp), os.path.join(tmp, "copy.img")
    with open(source, "rb") as f:
        data = bytearray(subprocess.run(
            command, stdin=f, capture_output=True, check=True, timeout=60).stdout)
    lazydisk.ok("copy", bad.file(f"/whole.{kind}", bytes(data)), target)
    with open(target, "rb") as f:
        assert_bytes(f.read(), noise)
    os.unlink(target)
    # Noise is stored as it is, so that one byte is another one, and nothing else is.
    at = data.find(noise[3 * MIB:3 * MIB + 64])
    assert at > 0
    data[at] ^= 1
    done = lazydisk.run("copy", bad.file(f"/damaged.{kind}", bytes(data)), target)
    assert done.returncode == 4, done.stderr
    assert one_line(done.stderr)
    assert_boots_nowhere(target)


@pytest.mark.parametrize("cached", [True, False], ids=["cached", "uncached"])
@pytest.mark.parametrize("command", STREAMS[:2], ids=["gz", "xz"])
def test_nothing_of_a_damaged_stream_is_taken_for_right_later(lazydisk, bad, tmp, command, cached):
    """A proxy's damage is not in what it sends the next time, and then there is nothing to prove."""
    noise = seeded_bytes(4 * MIB, "damage")
    source, target = inner("qcow2", noise, tmp), os.path.join(tmp, "copy.img")
    with open(source, "rb") as f:
        data = bytearray(subprocess.run(
            command, stdin=f, capture_output=True, check=True, timeout=60).stdout)
    at = data.find(noise[3 * MIB:3 * MIB + 64])
    assert at > 0
    data[at] ^= 1
    url = bad.file("/disk.qcow2", bytes(data), etag='"one"')
    args = ["copy", *(["--cache-dir", lazydisk.cache] if cached else []), url, target]
    assert lazydisk.run(*args).returncode == 4
    data[at] ^= 1
    bad.change("/disk.qcow2", data=bytes(data))
    lazydisk.ok(*args)
    with open(target, "rb") as f:
        assert_bytes(f.read(), noise)


def pack_pieces(data, start):
    """A stream of xz for what is before @start and for each 4 MiB behind it. It takes its time for
    noise, so each content is packed once."""
    packed = {}
    pieces = [data[:start], *(data[at:at + 4 * MIB] for at in range(start, len(data), 4 * MIB))]
    for piece in pieces:
        if piece not in packed:
            packed[piece] = subprocess.run(
                PACKERS["xz"], input=piece, capture_output=True, check=True, timeout=60).stdout
    return b"".join(packed[piece] for piece in pieces)


@pytest.mark.parametrize("packer", ["xz", "zst"])
def test_a_right_download_proves_nothing_of_a_damaged_one(lazydisk, bad, tmp, packer):
    """What a copy read is not proven by what the server sends when it is asked once more, which
    it is where that was more than there is memory for."""
    piece = seeded_bytes(4 * MIB, "first")
    source, target = inner("qcow2", piece * 12, tmp), os.path.join(tmp, "copy.img")
    with open(source, "rb") as f:
        data = f.read()
    if packer == "xz":
        data = pack_pieces(data, data.find(piece[:64]))
    else:  # where zstd does not find what is repeated
        data = subprocess.run([*STREAMS[3], "--zstd=wlog=19"], input=data, capture_output=True,
                              check=True, timeout=60).stdout
    assert len(data) > 48 * MIB
    at = data.find(piece[MIB:MIB + 64], 8 * MIB)
    assert at > 0
    done = lazydisk.run(
        "copy", bad.file("/disk.qcow2", data, faults=[faults.damage_once(at)]), target)
    if done.returncode == 0:  # the damaged answer was thrown away and asked for again
        with open(target, "rb") as f:
            assert_bytes(f.read(), piece * 12)
    else:
        assert done.returncode == 4, done.stderr
        assert one_line(done.stderr)
        assert_boots_nowhere(target)


def test_an_overlay_over_what_turns_out_damaged_is_told(lazydisk, bad, tmp):
    noise = seeded_bytes(12 * MIB, "overlay")
    data = bytearray(subprocess.run(PACKERS["xz"], input=noise, capture_output=True, check=True).stdout)
    data[data.find(noise[3 * MIB:3 * MIB + 64])] ^= 1
    go_on = threading.Event()
    url = bad.file("/damaged.raw", bytes(data), faults=[faults.hold(2 * MIB, 10 * MIB, go_on)])
    with lazydisk.mounted("--no-complete", "--overlay", f"{tmp}/o", url) as mount:
        with open(mount.image(), "r+b", buffering=0) as f:
            os.pwrite(f.fileno(), b"mine", 100)
            assert_bytes(os.pread(f.fileno(), KIB, 0), noise[:100] + b"mine" + noise[104:KIB])
            assert "overlay" not in mount.stderr()
            go_on.set()
            with contextlib.suppress(OSError):
                os.pread(f.fileno(), MIB, 11 * MIB)
            wait_for(lambda: "begin a new overlay" in mount.stderr(), 30 * slowness(), "the warning")


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
@pytest.mark.parametrize("command", STREAMS, ids=["gz", "xz", "blocks.xz", "zst"])
def test_what_was_read_of_a_damaged_stream_is_not_read_again(lazydisk, bad, tmp, kind, command):
    """Not from the kernel's pages either, while the mount and the file are open."""
    noise = seeded_bytes(12 * MIB, f"pages {kind}")
    source = inner("qcow2", noise, tmp) if kind == "qcow2" else os.path.join(tmp, "disk.raw")
    if kind == "raw":
        with open(source, "wb") as f:
            f.write(noise)
    with open(source, "rb") as f:
        data = bytearray(subprocess.run(
            command, stdin=f, capture_output=True, check=True, timeout=60).stdout)
    at = data.find(noise[3 * MIB:3 * MIB + 64])
    assert at > 0
    data[at] ^= 1
    go_on = threading.Event()
    # What says how long it is stands at the end.
    url = bad.file(f"/damaged.{kind}", bytes(data),
                   faults=[faults.hold(2 * MIB, 10 * MIB, go_on)])
    with lazydisk.mounted("--no-complete", url) as mount:
        with open(mount.image(), "rb", buffering=0) as f:
            # Nobody has seen the damage.
            assert_bytes(os.pread(f.fileno(), 64 * KIB, 0), noise[:64 * KIB])
            go_on.set()
            wait_for(lambda: any(refuses(f.name, at, MIB) for at in range(0, 12 * MIB, MIB)),
                     30 * slowness(), "the damage")
            # From the first page to the last.
            wait_for(lambda: refuses(f.name), 30 * slowness(), "the end of the pages")
            with pytest.raises(OSError):
                os.pread(f.fileno(), 64 * KIB, 0)
            # Blocks are proven each; where the clusters of the others are, this one has said.
            if "--block-size=5MiB" in command and kind == "raw":
                assert_bytes(os.pread(f.fileno(), MIB, 11 * MIB), noise[11 * MIB:])
            else:
                wait_for(lambda: refuses(f.name, 11 * MIB), 30 * slowness(), "the last pages")


def meet_damage(lazydisk, url):
    """Mounts it, and reads all of it, until some of that fails."""
    with lazydisk.mounted("--allow-backing", "--no-complete", url) as mount:
        places = range(0, os.stat(mount.image()).st_size, MIB)
        wait_for(lambda: any([refuses(mount.image(), at, MIB) for at in places]),
                 30 * slowness(), "the damage")


def read_anew(lazydisk, url, length):
    """What another mount has of it, and how much it had to fetch."""
    with lazydisk.mounted("--allow-backing", "--no-complete", url) as mount:
        return pread(mount.image(), length, 0), mount.layer("http")["bytes_fetched"]


@pytest.mark.slow
@pytest.mark.parametrize("command", STREAMS, ids=["gz", "xz", "blocks.xz", "zst"])
def test_a_damaged_download_is_not_kept_for_the_next_mount_or_copy(lazydisk, bad, tmp, command):
    noise = seeded_bytes(8 * MIB, "kept")
    data = subprocess.run(command, input=noise, capture_output=True, check=True, timeout=60).stdout
    at = data.find(noise[3 * MIB:3 * MIB + 64])
    assert at > 0
    damage = faults.Switch(faults.damage(at), on=True)
    target = os.path.join(tmp, "copy.img")
    url = bad.file("/disk.raw", data, faults=[damage])
    meet_damage(lazydisk, url)
    damage.on = False
    read, fetched = read_anew(lazydisk, url, len(noise))
    assert_bytes(read, noise)
    if "--block-size=5MiB" in command:  # the other blocks have stayed
        assert 0 < fetched < 6 * MIB
    damage.on = True
    copy = ["copy", "--cache-dir", os.path.join(tmp, "other"), url, target]
    done = lazydisk.run(*copy)
    assert done.returncode == 4, done.stderr
    damage.on = False
    lazydisk.ok(*copy, "--force")
    with open(target, "rb") as f:
        assert_bytes(f.read(), noise)


@pytest.mark.parametrize("kind", ["cluster", "member"])
def test_nor_is_a_damaged_cluster_or_member_of_an_archive(lazydisk, bad, tmp, kind):
    noise = hex_text(8 * MIB, "kept inside")
    raw, path = os.path.join(tmp, "disk.raw"), os.path.join(tmp, "disk")
    with open(raw, "wb") as f:
        f.write(noise)
    if kind == "cluster":
        run("qemu-img", "convert", "-c", "-O", "qcow2", "-o", "compression_type=zstd", raw, path)
    else:
        run("zstd", "-q", "-1", "--check", raw)
        run("tar", "-C", tmp, "-cf", path, "disk.raw.zst")
    with open(path, "rb") as f:
        data = f.read()
    magic = data.find(b"\x28\xb5\x2f\xfd", MIB if kind == "cluster" else 0)
    damage = faults.Switch(faults.damage(magic if kind == "cluster" else magic + MIB), on=True)
    url = bad.file("/disk.img", data, faults=[damage])
    meet_damage(lazydisk, url)
    damage.on = False
    assert_bytes(read_anew(lazydisk, url, len(noise))[0], noise)


def test_a_damaged_backing_file_is_not_kept_either(lazydisk, bad, tmp):
    noise = seeded_bytes(8 * MIB, "kept behind")
    top = os.path.join(tmp, "top.qcow2")
    data = subprocess.run(["zstd", "-q", "-1", "--check"], input=noise, capture_output=True,
                          check=True, timeout=60).stdout
    run("qemu-img", "create", "-u", "-f", "qcow2", "-b", "base.zst", "-F", "vhdx", top,
        str(len(noise)))
    with open(top, "rb") as f:
        url = bad.file("/top.qcow2", f.read().replace(b"vhdx", b"zstd"))
    damage = faults.Switch(faults.damage(data.find(noise[3 * MIB:3 * MIB + 64])), on=True)
    bad.file("/base.zst", data, faults=[damage])
    meet_damage(lazydisk, url)
    damage.on = False
    assert_bytes(read_anew(lazydisk, url, len(noise))[0], noise)


@pytest.mark.parametrize("summed", [False, True], ids=["", "checksum"])
def test_what_was_read_of_a_packed_backing_file_is_proven_too(lazydisk, bad, tmp, summed):
    """A checksum is of the file that was named, and of no other. A header may say that its backing file is packed, though qemu would not write that."""
    noise = seeded_bytes(24 * MIB, "backing")
    raw, top = os.path.join(tmp, "base.raw"), os.path.join(tmp, "top.qcow2")
    target = os.path.join(tmp, "copy.img")
    with open(raw, "wb") as f:
        f.write(noise)
    run("zstd", "-q", "-1", "--check", raw)
    with open(f"{raw}.zst", "rb") as f:
        base = bytearray(f.read())
    run("qemu-img", "create", "-u", "-f", "qcow2", "-b", "base.zst", "-F", "vhdx", top,
        str(4 * MIB))
    with open(top, "rb") as f:
        header = f.read()
    assert header.count(b"vhdx") == 1
    header = header.replace(b"vhdx", b"zstd")
    url = bad.file("/top.qcow2", header)
    args = ["copy", "--allow-backing"]
    if summed:
        args += ["--checksum", "sha256:" + hashlib.sha256(header).hexdigest()]
    bad.file("/base.zst", bytes(base))
    lazydisk.ok(*args, url, target)
    with open(target, "rb") as f:
        assert_bytes(f.read(), noise[:4 * MIB])
    os.unlink(target)
    at = base.find(noise[3 * MIB:3 * MIB + 64])
    assert at > 0
    base[at] ^= 1
    bad.file("/base.zst", bytes(base))
    done = lazydisk.run(*args, url, target)
    assert done.returncode == 4, done.stderr
    assert f'{url}: backing file "base.zst": zstd: ' in one_line(done.stderr)
    assert_boots_nowhere(target)
