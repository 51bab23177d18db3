# SPDX-License-Identifier: Apache-2.0
"""`lazydisk copy`: what is on the target afterwards, and what is refused before."""

import contextlib
import json
import os
import subprocess

import pytest

from images import VARIANTS
from util import MIB, assert_same, one_line, run, seeded_bytes


@contextlib.contextmanager
def loop_device(path, size, sector=512, dirty=True):
    """A loop device over a new file of @size bytes, full of garbage."""
    with open(path, "wb") as f:
        if dirty:
            block = seeded_bytes(MIB, 99)
            for _ in range(size // MIB):
                f.write(block)
            f.write(block[:size % MIB])
        else:
            f.truncate(size)
    device = run("losetup", "--find", "--show", "--sector-size", sector, path).strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
        os.unlink(path)


def assert_disk(path, image, size=None):
    """@path begins with the bytes of the file @image, and only zeros follow up to @size."""
    length = os.stat(image).st_size
    subprocess.run(["cmp", "-n", str(length), path, image], check=True)
    with open(path, "rb") as f:
        f.seek(0, os.SEEK_END)
        end = f.tell()
        assert end == (size or length)
        f.seek(length)
        while True:
            part = f.read(MIB)
            if not part:
                break
            assert not part.strip(b"\0"), f"garbage behind the image, before {f.tell()}"


def needed(image, piece=64 * 1024):
    """What a sparse copy takes: the aligned pieces of @image that are not all zeros."""
    total = 0
    with open(image, "rb") as f:
        while True:
            part = f.read(piece)
            if not part:
                return total
            total += len(part) if part.strip(b"\0") else 0


def allocated(path):
    return os.stat(path).st_blocks * 512


@pytest.mark.parametrize("variant", ["raw", *VARIANTS])
def test_every_format_arrives_in_a_file(lazydisk, images, nginx, tmp, variant):
    target = os.path.join(tmp, "disk.img")
    lazydisk.ok("copy", nginx.url(images.variant(variant)), target)
    assert_same(target, images.raw)
    assert os.listdir(tmp).count("disk.img.lazydisk") == 0


@pytest.mark.parametrize("variant", ["raw", "plain", "zlib", "zstd"])
@pytest.mark.parametrize("mode", ["off", "falloc", "full"])
def test_a_dirty_device_is_the_disk_and_zeros(lazydisk, images, nginx, tmp, variant, mode):
    size = os.stat(images.raw).st_size + 5 * MIB
    backing = os.path.join(tmp, "backing")
    with loop_device(backing, size) as device:
        before = allocated(backing)
        done = lazydisk.run("copy", "--preallocation", mode, nginx.url(images.variant(variant)),
                            device)
        assert done.returncode == 0, done.stderr
        assert "warning" not in done.stderr
        assert_disk(device, images.raw, size)
        if mode == "off":
            assert allocated(backing) < before - 5 * MIB
            assert allocated(backing) <= needed(images.raw) + MIB // 4
        else:
            assert allocated(backing) >= size


@pytest.mark.parametrize("mode", ["off", "falloc", "full"])
def test_a_file_is_sparse_or_allocated_as_asked(lazydisk, images, nginx, tmp, mode):
    target = os.path.join(tmp, "disk.img")
    size = 256 * MIB
    lazydisk.ok("copy", "--preallocation", mode, "--size", size,
                nginx.url(images.variant("zlib")), target)
    assert_disk(target, images.raw, size)
    if mode == "off":
        assert allocated(target) <= needed(images.raw) + MIB // 4
    else:
        assert allocated(target) >= size


def test_an_odd_size_is_padded_with_zeros_on_a_device(lazydisk, images, tmp):
    source = images.unaligned()
    assert os.stat(source).st_size % 512 != 0
    size = (os.stat(source).st_size // MIB + 3) * MIB
    for sector in (512, 4096):
        with loop_device(os.path.join(tmp, "backing"), size, sector) as device:
            lazydisk.ok("copy", "--verify", source, device)
            assert_disk(device, source, size)


def test_a_target_that_is_zero_gets_data_only(lazydisk, images, tmp):
    size = os.stat(images.raw).st_size
    with loop_device(os.path.join(tmp, "backing"), size, dirty=False) as device:
        lazydisk.ok("copy", "--target-is-zero", images.variant("plain"), device)
        assert_disk(device, images.raw)


def test_a_device_too_small_is_not_touched(lazydisk, images, tmp):
    backing = os.path.join(tmp, "backing")
    with loop_device(backing, 8 * MIB) as device:
        before = run("sha256sum", backing)
        done = lazydisk.run("copy", images.variant("plain"), device)
        assert done.returncode == 5
        line = one_line(done.stderr)
        assert str(8 * MIB) in line and str(os.stat(images.raw).st_size) in line
        assert run("sha256sum", backing) == before


def test_a_mounted_device_is_not_touched(lazydisk, images, tmp):
    backing = os.path.join(tmp, "backing")
    point = lazydisk.point()
    with loop_device(backing, 300 * MIB, dirty=False) as device:
        run("mkfs.ext4", "-q", device)
        run("mount", device, point)
        try:
            done = lazydisk.run("copy", images.variant("plain"), device)
            assert done.returncode == 5
            assert point in one_line(done.stderr)
        finally:
            run("umount", point)
        assert run("fsck.ext4", "-n", "-f", device)


def test_the_file_behind_a_loop_device_is_refused(lazydisk, images, tmp):
    backing = os.path.join(tmp, "backing")
    with loop_device(backing, MIB) as device:
        done = lazydisk.run("copy", "--force", images.variant("plain"), backing)
        assert done.returncode == 5
        assert device in one_line(done.stderr)
        assert os.stat(backing).st_size == MIB


def test_the_image_itself_is_never_the_target(lazydisk, images, tmp):
    source = os.path.join(tmp, "image.qcow2")
    run("cp", images.variant("plain"), source)
    other = os.path.join(tmp, "link")
    os.link(source, other)
    for target in (source, other):
        done = lazydisk.run("copy", "--force", source, target)
        assert done.returncode == 5
        assert "image" in one_line(done.stderr)
        assert_same(source, images.variant("plain"))


def test_a_file_that_exists_is_replaced_only_by_force(lazydisk, images, tmp):
    target = os.path.join(tmp, "disk.img")
    with open(target, "wb") as f:
        f.write(b"precious" * 100000)
    done = lazydisk.run("copy", images.variant("plain"), target)
    assert done.returncode == 5
    assert "--force" in one_line(done.stderr)
    with open(target, "rb") as f:
        assert f.read() == b"precious" * 100000
    lazydisk.ok("copy", "--force", images.variant("plain"), target)
    assert_same(target, images.raw)


def test_a_partition_table_for_other_sectors_is_refused(lazydisk, tmp):
    source = os.path.join(tmp, "gpt.raw")
    with open(source, "wb") as f:
        f.truncate(8 * MIB)
    run("sfdisk", "-q", source, input="label: gpt\n")
    with loop_device(os.path.join(tmp, "backing"), 8 * MIB, 4096) as device:
        done = lazydisk.run("copy", source, device)
        assert done.returncode == 5
        assert "sectors" in one_line(done.stderr)


def test_a_disk_larger_than_size_is_refused(lazydisk, images, tmp):
    target = os.path.join(tmp, "disk.img")
    done = lazydisk.run("copy", "--size", "1Mi", images.variant("plain"), target)
    assert done.returncode == 5
    assert str(MIB) in one_line(done.stderr)
    assert not os.path.exists(target)


def test_a_full_file_system_is_told(lazydisk, images, tmp):
    point = lazydisk.point()
    run("mount", "-t", "tmpfs", "-o", "size=4m", "none", point)
    try:
        for mode in ("off", "falloc"):
            target = os.path.join(point, mode)
            done = lazydisk.run("copy", "--preallocation", mode, images.variant("plain"), target)
            assert done.returncode == 5
            assert "space" in one_line(done.stderr.splitlines()[-1])
    finally:
        run("umount", point)


def test_a_source_that_is_not_there_leaves_nothing(lazydisk, nginx, tmp):
    target = os.path.join(tmp, "disk.img")
    done = lazydisk.run("copy", nginx.url("nothing.qcow2"), target)
    assert done.returncode == 3
    one_line(done.stderr)
    assert not os.path.exists(target)


def test_progress_for_programs_is_json(lazydisk, images, nginx, tmp):
    target = os.path.join(tmp, "disk.img")
    done = lazydisk.run("copy", "--progress", "json", "--rate", "20Mi",
                        nginx.url(images.variant("plain")), target)
    assert done.returncode == 0 and done.stderr == ""
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[-1]["phase"] == "done"
    assert lines[-1]["done"] == lines[-1]["total"] > 0
    assert all(line["done"] <= line["total"] for line in lines)
    assert_same(target, images.raw)


def test_the_rate_is_kept(lazydisk, images, tmp):
    target = os.path.join(tmp, "disk.img")
    source = os.path.join(tmp, "noise.raw")
    with open(source, "wb") as f:
        f.write(seeded_bytes(24 * MIB, 5))
    done = lazydisk.run("copy", "--progress", "json", "--rate", "10Mi", source, target)
    assert done.returncode == 0
    assert json.loads(done.stdout.splitlines()[-1])["elapsed_s"] >= 2.0
    assert_same(target, source)


@pytest.mark.parametrize("args", [["--preallocation", "some"], ["--progress", "loud"],
                                  ["--rate", "0"], ["--size", "0"], ["--size", "many"]])
def test_a_wrong_option_is_a_usage_error(lazydisk, images, tmp, args):
    target = os.path.join(tmp, "disk.img")
    done = lazydisk.run("copy", *args, images.raw, target)
    assert done.returncode == 2
    assert args[0] in one_line(done.stderr)
    assert not os.path.exists(target)


@pytest.mark.limit(20)
def test_eight_tebibytes_of_nothing_take_no_time(lazydisk, images, tmp):
    target = os.path.join(tmp, "disk.img")
    lazydisk.ok("copy", images.huge(), target)
    assert os.stat(target).st_size == 8 << 40
    assert allocated(target) <= 3 * MIB
    for offset, byte in ((0, 1), (4 << 40, 2), (8796092956672, 3)):
        fd = os.open(target, os.O_RDONLY)
        try:
            assert os.pread(fd, 65536, offset) == bytes([byte]) * 65536
        finally:
            os.close(fd)
