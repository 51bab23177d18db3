# SPDX-License-Identifier: Apache-2.0
"""`lazydisk copy`: what is on the target afterwards, and what is refused before."""

import contextlib
import glob
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import tempfile

import pytest

import faults
from command import BINARY
from images import VARIANTS
from util import MIB, assert_bytes, assert_same, one_line, pread, run, seeded_bytes, wait_for


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


def test_a_target_is_not_zero_any_more_when_a_copy_onto_it_failed(lazydisk, tmp):
    """What the first image left there does not show where the second one has holes."""
    first, second = (os.path.join(tmp, name) for name in ("first.raw", "second.raw"))
    with open(first, "wb") as f:
        f.write(seeded_bytes(8 * MIB, "first"))
    with open(second, "wb") as f:
        f.write(seeded_bytes(2 * MIB, "second"))
        f.truncate(8 * MIB)
    with loop_device(os.path.join(tmp, "backing"), 8 * MIB, dirty=False) as device:
        args = ("copy", "--target-is-zero", "--checksum")
        done = lazydisk.run(*args, checksum(second), first, device)
        assert done.returncode == 6
        lazydisk.ok(*args, checksum(second), second, device)
        assert_disk(device, second)


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


def test_a_read_only_device_is_refused_as_such(lazydisk, images, tmp):
    with loop_device(os.path.join(tmp, "backing"), 300 * MIB, dirty=False) as device:
        run("blockdev", "--setro", device)
        try:
            done = lazydisk.run("copy", images.variant("plain"), device)
        finally:
            run("blockdev", "--setrw", device)
        assert done.returncode == 5
        assert f"{device} is read-only" in one_line(done.stderr)


@pytest.mark.parametrize("where", ["", "group/"])
def test_a_device_whose_name_is_misspelt_becomes_no_file(lazydisk, images, request, where):
    target = f"/dev/{where}lazydisk-test-{os.getpid()}"
    if where and not os.path.isdir(os.path.dirname(target)):
        os.mkdir(os.path.dirname(target))
        request.addfinalizer(lambda: os.rmdir(os.path.dirname(target)))
    done = lazydisk.run("copy", images.variant("plain"), target)
    assert done.returncode == 5
    assert "no such device" in one_line(done.stderr)
    assert not os.path.lexists(target)


def test_neither_file_nor_device_is_told_so(lazydisk, images):
    """Also where standard input is the same."""
    done = lazydisk.run("copy", images.variant("plain"), "/dev/null", stdin=subprocess.DEVNULL)
    assert done.returncode == 5
    assert "neither a regular file nor a block device" in one_line(done.stderr)


def test_a_script_may_hold_the_target_open(lazydisk, images, tmp):
    """As flock(1) does, to keep others away."""
    with loop_device(os.path.join(tmp, "backing"), 300 * MIB) as device:
        lock = os.open(device, os.O_RDONLY)
        try:
            done = lazydisk.run("copy", images.variant("plain"), device, pass_fds=(lock,))
        finally:
            os.close(lock)
        assert done.returncode == 0, done.stderr
        assert_disk(device, images.raw, 300 * MIB)


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


def test_a_loop_device_over_the_image_is_never_the_target(lazydisk, images, tmp):
    source = os.path.join(tmp, "image.qcow2")
    run("cp", images.variant("plain"), source)
    device = run("losetup", "--find", "--show", source).strip()
    try:
        done = lazydisk.run("copy", source, device)
    finally:
        run("losetup", "--detach", device)
    assert done.returncode == 5
    assert "image" in one_line(done.stderr)
    assert_same(source, images.variant("plain"))


def test_a_file_of_the_journals_name_is_left_alone(lazydisk, images, tmp):
    target = os.path.join(tmp, "disk.img")
    with open(target + ".lazydisk", "wb") as f:
        f.write(b"precious, and no journal")
    done = lazydisk.run("copy", images.variant("plain"), target)
    assert done.returncode == 0, done.stderr
    assert "cannot be continued" in done.stderr
    assert_same(target, images.raw)
    with open(target + ".lazydisk", "rb") as f:
        assert f.read() == b"precious, and no journal"


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
    average = lines[-1]["done"] / lines[-1]["elapsed_s"]
    assert lines[-1]["rate"] == pytest.approx(average, rel=0.1)
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


@pytest.mark.limit(60)
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


class Killed:
    """A copy that is ended at some point, and what the server sent for it."""

    def __init__(self, lazydisk, *args):
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            [BINARY, "copy", *map(str, args)], env=lazydisk.env, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def kill_after(self, seconds, sig=signal.SIGKILL):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        if self.process.poll() is None:
            self.process.send_signal(sig)
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err


def sent(nginx, begin=0):
    """Bytes of bodies that nginx has sent, from byte @begin of its log on, and the end of the log."""
    with open(os.path.join(nginx.prefix, "access.log"), encoding="utf-8") as f:
        f.seek(begin)
        lines = f.read().splitlines()
        return sum(int(line.split('"')[2].split()[1]) for line in lines), f.tell()


def noise_image(images, size=256 * MIB):
    path = images.path("noise.raw")
    if not os.path.exists(path):
        with open(path + ".tmp", "wb") as f:
            for i in range(size // (16 * MIB)):
                f.write(seeded_bytes(16 * MIB, i))
        os.rename(path + ".tmp", path)
    return path


@pytest.mark.limit(120)
@pytest.mark.parametrize("kind", ["file", "device"])
def test_ten_kills_cost_little(lazydisk, images, nginx, tmp, kind):
    source = noise_image(images)
    size = os.stat(source).st_size
    with contextlib.ExitStack() as stack:
        # In memory: what a busy disk has not taken yet is lost to a kill, and not what is counted.
        memory = stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm"))
        target = os.path.join(memory, "disk.img")
        if kind == "device":
            target = stack.enter_context(
                loop_device(os.path.join(memory, "backing"), size + 5 * MIB))
        args = ["--rate", "14Mi", nginx.url(source), target]
        _, begin = sent(nginx)
        chance = random.Random(7)
        killed = 0
        for _ in range(10):
            code, _, err = Killed(lazydisk, *args).kill_after(chance.uniform(0.8, 1.8))
            assert code in (0, -signal.SIGKILL), err
            killed += code == -signal.SIGKILL
        assert killed == 10
        lazydisk.ok("copy", "--verify", *args[2:], timeout=60)
        assert_disk(target, source, size + 5 * MIB if kind == "device" else size)
        assert sent(nginx, begin)[0] <= 1.15 * size
        if kind == "file":
            assert not os.path.exists(target + ".lazydisk")
        assert not glob.glob(os.path.join(lazydisk.cache, "copies", "*"))


def interrupted(lazydisk, source, target, seconds=1.0, rate="16Mi"):
    code, _, err = Killed(lazydisk, "--rate", rate, source, target).kill_after(
        seconds, signal.SIGINT)
    assert code == 1, err
    assert "interrupted" in one_line(err.splitlines()[-1])


def test_an_interrupt_leaves_what_can_be_continued(lazydisk, images, nginx, tmp):
    source = noise_image(images)
    target = os.path.join(tmp, "disk.img")
    interrupted(lazydisk, nginx.url(source), target, 2.0)
    assert os.path.exists(target + ".lazydisk")
    done = lazydisk.run("copy", nginx.url(source), target)
    assert done.returncode == 0, done.stderr
    found = float(re.search(r"([\d.]+) MiB found done", done.stderr).group(1))
    assert found >= 16
    assert_same(target, source)
    assert not os.path.exists(target + ".lazydisk")


def test_another_image_starts_over_and_says_so(lazydisk, images, tmp):
    source = noise_image(images)
    target = os.path.join(tmp, "disk.img")
    interrupted(lazydisk, source, target)
    done = lazydisk.run("copy", images.variant("zlib"), target)
    assert done.returncode == 0, done.stderr
    assert "starting over" in done.stderr
    assert " 0.0 MiB found done" in done.stderr
    assert_same(target, images.raw)


def test_a_target_that_changed_is_made_right(lazydisk, images, tmp):
    source = noise_image(images)
    target = os.path.join(tmp, "disk.img")
    interrupted(lazydisk, source, target)
    with open(target, "r+b") as f:
        f.seek(MIB)
        f.write(b"changed")
    done = lazydisk.run("copy", source, target)
    assert done.returncode == 0, done.stderr
    assert "changed" in done.stderr
    assert_same(target, source)


def test_another_file_in_the_place_of_the_target_is_left_alone(lazydisk, images, tmp):
    source = noise_image(images)
    target = os.path.join(tmp, "disk.img")
    interrupted(lazydisk, source, target)
    os.rename(target, target + ".old")
    with open(target, "wb") as f:
        f.write(b"precious")
    done = lazydisk.run("copy", source, target)
    assert done.returncode == 5
    assert "--force" in done.stderr
    with open(target, "rb") as f:
        assert f.read() == b"precious"


@pytest.mark.parametrize("damage", ["torn", "garbage", "empty"])
def test_a_broken_journal_costs_time_only(lazydisk, images, tmp, damage):
    source = noise_image(images)
    target = os.path.join(tmp, "disk.img")
    interrupted(lazydisk, source, target)
    journal = target + ".lazydisk"
    size = os.stat(journal).st_size
    with open(journal, "r+b") as f:
        if damage == "torn":
            f.truncate(size - 5)
        elif damage == "empty":
            f.truncate(0)
        else:
            f.seek(70)
            f.write(b"garbage")
    done = lazydisk.run("copy", *(["--force"] if damage == "empty" else []), source, target)
    assert done.returncode == 0, done.stderr
    assert_same(target, source)


def test_a_server_that_dies_is_exit_3_and_the_next_run_continues(lazydisk, images, bad, tmp):
    source = noise_image(images)
    switch = faults.Switch(faults.drop)
    target = os.path.join(tmp, "disk.img")
    with open(source, "rb") as f:
        url = bad.file("/noise.raw", f.read(64 * MIB), faults=[switch], etag='"one"')
    process = Killed(lazydisk, "--timeout", "2", "--rate", "16Mi", url, target).process
    wait_for(lambda: os.path.exists(target + ".lazydisk") and
             os.stat(target + ".lazydisk").st_size > 100, 30, "the journal")
    switch.on = True
    bad.disconnect()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 3, err
    one_line(err.splitlines()[-1])
    switch.on = False
    done = lazydisk.run("copy", url, target)
    assert done.returncode == 0, done.stderr
    assert " 0.0 MiB found done" not in done.stderr
    with open(source, "rb") as f, open(target, "rb") as g:
        assert_bytes(g.read(), f.read(64 * MIB))


def checksum(path, algorithm="sha256"):
    return algorithm + ":" + run(algorithm + "sum", path).split()[0]


@pytest.mark.parametrize("variant", ["raw", "plain", "zlib", "zstd", "scrambled", "cluster-512"])
@pytest.mark.parametrize("local", [True, False])
def test_the_right_checksum_changes_nothing(lazydisk, images, nginx, tmp, variant, local):
    source = images.variant(variant)
    target = os.path.join(tmp, "disk.img")
    _, begin = sent(nginx)
    lazydisk.ok("copy", "--verify", "--checksum", checksum(source),
                source if local else nginx.url(source), target)
    assert_same(target, images.raw)
    assert sent(nginx, begin)[0] <= 1.3 * os.stat(source).st_size


@pytest.mark.parametrize("algorithm", ["sha512", "sha1", "md5"])
def test_other_digests_in_capitals(lazydisk, images, nginx, tmp, algorithm):
    source = images.variant("zlib")
    target = os.path.join(tmp, "disk.img")
    lazydisk.ok("copy", "--checksum", checksum(source, algorithm).upper(), nginx.url(source), target)
    assert_same(target, images.raw)


@pytest.mark.parametrize("kind", ["file", "device"])
def test_a_wrong_checksum_leaves_nothing_to_boot(lazydisk, images, nginx, tmp, kind):
    source = images.variant("zlib")
    wrong = checksum(images.raw)
    with contextlib.ExitStack() as stack:
        target = os.path.join(tmp, "disk.img")
        if kind == "device":
            target = stack.enter_context(loop_device(os.path.join(tmp, "backing"),
                                                     os.stat(images.raw).st_size))
        done = lazydisk.run("copy", "--checksum", wrong, nginx.url(source), target)
        assert done.returncode == 6
        assert checksum(source)[7:] in one_line(done.stderr.splitlines()[-1])
        with open(target, "rb") as f, open(images.raw, "rb") as g:
            assert f.read(MIB) == bytes(MIB)
            assert g.read(MIB) != bytes(MIB)
        assert not os.path.exists(target + ".lazydisk")


def half_copied(lazydisk, bad, target, data, checksum_):
    """A copy with a checksum that was killed on its way: its source."""
    url = bad.file("/noise.raw", data, etag='"one"')
    process = Killed(lazydisk, "--rate", "8Mi", "--checksum", checksum_, url, target).process

    def journal():
        try:
            return os.stat(target + ".lazydisk").st_size
        except FileNotFoundError:
            return 0
    wait_for(lambda: journal() > 600, 20, "the journal")
    process.kill()
    process.communicate(timeout=20)
    assert pread(target, MIB, 0) in (bytes(MIB), b"")
    return url


@pytest.mark.parametrize("change", ["none", "target", "checksum"])
def test_a_copy_with_a_checksum_is_continued(lazydisk, bad, tmp, change):
    data = seeded_bytes(40 * MIB, 1)
    right = "sha256:" + hashlib.sha256(data).hexdigest()
    target = os.path.join(tmp, "disk.img")
    url = half_copied(lazydisk, bad, target, data, right)
    bad.forget()
    if change == "target":
        with open(target, "r+b") as f:
            f.seek(4 * MIB)
            f.write(b"changed")
    if change == "checksum":
        done = lazydisk.run("copy", "--checksum", "sha256:" + "0" * 64, url, target)
        assert done.returncode == 6 and right[7:] in done.stderr, done.stderr
        assert pread(target, MIB, 0) == bytes(MIB) and data[:MIB] != bytes(MIB)
        assert not os.path.exists(target + ".lazydisk")
        assert bad.bytes_sent("/noise.raw") < 36 * MIB
        return
    done = lazydisk.run("copy", "--verify", "--checksum", right, url, target)
    assert done.returncode == 0, done.stderr
    assert ("changed" in done.stderr) == (change == "target")
    found = float(re.search(r"([\d.]+) MiB found done", done.stderr).group(1))
    assert 2.9 < found < 3.1 if change == "target" else found > 6
    assert bad.bytes_sent("/noise.raw") < (42 - found) * MIB
    assert_bytes(pread(target, len(data), 0), data)
    assert not os.path.exists(target + ".lazydisk")


@pytest.mark.parametrize("text", ["sha256", "sha256:", "sha256:12", "crc32:12345678",
                                  "sha256:" + "g" * 64, "md5:" + "0" * 33])
def test_what_is_no_checksum_is_a_usage_error(lazydisk, images, tmp, text):
    target = os.path.join(tmp, "disk.img")
    done = lazydisk.run("copy", "--checksum", text, images.raw, target)
    assert done.returncode == 2
    assert "--checksum" in one_line(done.stderr)
    assert not os.path.exists(target)


def test_a_checksum_is_of_what_the_cache_gives(lazydisk, bad):
    """Not of what the server would give now."""
    right = seeded_bytes(3 * MIB, "right")
    lie = right[:MIB] + b"?" + right[MIB + 1:]
    url = bad.file("/disk.img", lie, etag='"one"')
    with lazydisk.mounted(url) as mount:
        assert_bytes(pread(mount.image(), len(lie), 0), lie)
    bad.change("/disk.img", data=right)
    target = os.path.join(lazydisk.directory, "copied.raw")
    options = ["--cache-dir", lazydisk.cache, "--checksum",
               "sha256:" + hashlib.sha256(right).hexdigest(), "--force", url, target]
    assert lazydisk.run("copy", *options).returncode == 6
    lazydisk.ok("copy", *options)  # what was wrong is not kept
    assert_bytes(pread(target, len(right), 0), right)
