# SPDX-License-Identifier: Apache-2.0
"""Writable overlays: what is written stays, whatever dies; what does not fit is refused by name."""

import contextlib
import ctypes
import json
import mmap
import os
import random
import shutil
import signal
import subprocess
import threading

import pytest

import faults
from command import BINARY, slowness
from nginx import PASSWORD, USER
from test_copy import loop_device
from util import (KIB, MIB, assert_bytes, assert_same, drop_pages, one_line, pread, run,
                  seeded_bytes, segments, sha256, wait_for)

KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
LIBC = ctypes.CDLL(None, use_errno=True)


def fallocate(fd, mode, offset, length):
    if LIBC.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@contextlib.contextmanager
def opened(path, flags=os.O_RDWR):
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def attached(path):
    """The file as a loop device, with direct I/O."""
    device = run("losetup", "--find", "--show", "--direct-io=on", path).strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=False)


@contextlib.contextmanager
def mounted_ext4(device, point):
    os.makedirs(point, exist_ok=True)
    run("mount", "-t", "ext4", device, point)
    try:
        yield point
    finally:
        subprocess.run(["umount", "-l", point], check=False, capture_output=True)


def make_ext4(path, size):
    with open(path, "wb") as f:
        f.truncate(size)
    run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", path)
    return path


def overlay_of(tmp):
    return os.path.join(tmp, "changes.overlay")


def as_it_is(path, size):
    drop_pages(path)
    return pread(path, size, 0)


def write_in_every_way(path, model):
    """Buffered, direct, mapped, zeroed, discarded; the same to @model."""
    rng = random.Random(3)
    with opened(path) as fd:
        for _ in range(60):
            length = rng.choice([1, 100, 512, 4096, 5000, 70000])
            at = rng.randrange(0, len(model) - length)
            data = rng.randbytes(length)
            assert os.pwrite(fd, data, at) == length
            model[at:at + length] = data
        for mode in (PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE):
            for length in (300, 4096, 300000):
                at = rng.randrange(0, len(model) - length)
                fallocate(fd, mode, at, length)
                model[at:at + length] = bytes(length)
        with mmap.mmap(fd, len(model)) as memory:
            for at in (5000, 3 * MIB + 77):
                memory[at:at + 9000] = b"m" * 9000
                model[at:at + 9000] = b"m" * 9000
            memory.flush()
        os.fsync(fd)
    with opened(path, os.O_RDWR | os.O_DIRECT) as fd:
        buffer = mmap.mmap(-1, 64 * KIB)
        for at in (0, 17 * MIB + 512, len(model) - 64 * KIB):
            data = rng.randbytes(64 * KIB)
            buffer[:] = data
            assert os.pwrite(fd, buffer, at) == 64 * KIB
            model[at:at + 64 * KIB] = data
        os.fsync(fd)


@pytest.mark.parametrize("variant", ["raw", "zlib"])
def test_what_is_written_stays_and_the_image_is_only_read(lazydisk, nginx, images, tmp, variant):
    source = images.variant(variant)
    before = sha256(source)
    with open(images.raw, "rb") as f:
        model = bytearray(f.read())
    args = ("--overlay", overlay_of(tmp), nginx.url(source))
    with lazydisk.mounted(*args) as mount:
        assert os.stat(mount.image()).st_mode & 0o777 == 0o644
        write_in_every_way(mount.image(), model)
        assert_bytes(as_it_is(mount.image(), len(model)), bytes(model))
        layer = mount.layer("overlay")
        assert layer["file"] == overlay_of(tmp)
        assert layer["flushes"] >= 2 and layer["writes"] > 60
        assert 0 < layer["present_bytes"] < 16 * MIB and layer["zero_bytes"] > 600000
        assert os.getxattr(mount.image(), "user.lazydisk.format") == \
            (b"raw" if variant == "raw" else b"qcow2")
    with lazydisk.mounted(*args) as mount:
        assert_bytes(as_it_is(mount.image(), len(model)), bytes(model))
        assert os.stat(mount.image()).st_blocks * 512 <= len(model)
        for start, end, data in segments(mount.image()):
            assert data or model[start:end].count(0) == end - start
    assert sha256(source) == before
    assert os.stat(overlay_of(tmp)).st_blocks * 512 < 16 * MIB


def test_bytes_of_the_server_are_not_fetched_to_be_overwritten(lazydisk, nginx, images, tmp):
    url = nginx.url(images.raw)
    with lazydisk.mounted("--overlay", overlay_of(tmp), "--no-cache", "--readahead", 0,
                          url) as mount:
        before = mount.layer("http")["bytes_fetched"]
        with opened(mount.image(), os.O_RDWR | os.O_DIRECT) as fd:
            buffer = mmap.mmap(-1, MIB)
            for at in range(20 * MIB, 28 * MIB, MIB):
                assert os.pwrite(fd, buffer, at) == MIB
            assert os.pwrite(fd, memoryview(buffer)[:4096], 30 * MIB) == 4096
            fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 32 * MIB, 4 * MIB)
            os.fsync(fd)
        assert mount.layer("http")["bytes_fetched"] == before


def test_names_are_what_was_mounted(lazydisk, images, tmp):
    """Refused as not permitted, and not as ENOSYS."""
    with lazydisk.mounted("--overlay", overlay_of(tmp), images.raw) as mount:
        path, new = mount.image(), mount.path("new")
        for change in (lambda: os.close(os.open(new, os.O_CREAT | os.O_RDWR)),
                       lambda: os.mkdir(new), lambda: os.mkfifo(new),
                       lambda: os.symlink(path, new), lambda: os.rename(path, new),
                       lambda: os.link(path, new), lambda: os.unlink(path),
                       lambda: os.rmdir(mount.path(".lazydisk"))):
            with pytest.raises(PermissionError):
                change()
        assert mount.images() == [os.path.basename(path)]


def test_a_disk_of_fixed_size_that_others_may_not_have(lazydisk, images, tmp):
    with lazydisk.mounted("--overlay", overlay_of(tmp), images.unaligned()) as mount:
        path = mount.image()
        with pytest.raises(PermissionError):
            os.truncate(path, 1000)
        os.truncate(path, 9000001)
        with opened(path) as fd:
            assert os.pwrite(fd, b"abc", 9000000) == 1
            with pytest.raises(OSError, match="No space"):
                os.pwrite(fd, b"x", 9000001)
            assert os.pread(fd, 10, 8999999) == b"\0a"
        second = lazydisk.run("mount", "--foreground", "--overlay", overlay_of(tmp),
                              images.unaligned(), lazydisk.point())
        assert second.returncode == 5
        assert f"{overlay_of(tmp)} is in use" in one_line(second.stderr)


def write_files(point, names, size=300 * KIB):
    """Files whose content follows from their name; each is durable when the next is begun."""
    for name in names:
        with open(os.path.join(point, name), "wb") as f:
            f.write(seeded_bytes(size, name))
            f.flush()
            os.fsync(f.fileno())


def check_files(point, names, size=300 * KIB):
    for name in names:
        with open(os.path.join(point, name), "rb") as f:
            assert_bytes(f.read(), seeded_bytes(size, name))


def test_a_filesystem_in_it_is_written_remounted_and_clean(lazydisk, nginx, images, tmp):
    source = make_ext4(images.path("empty-ext4.raw"), 48 * MIB)
    args = ("--overlay", overlay_of(tmp), nginx.url(source))
    names = [f"file{i}" for i in range(20)]
    point = os.path.join(tmp, "point")
    with lazydisk.mounted(*args) as mount, attached(mount.image()) as device:
        with mounted_ext4(device, point):
            write_files(point, names)
            with open(os.path.join(point, "large"), "wb") as f:
                f.write(os.urandom(16 * MIB))
            run("umount", point)
        run("e2fsck", "-fn", device)
    full = os.stat(overlay_of(tmp)).st_blocks * 512
    with lazydisk.mounted(*args) as mount:
        run("e2fsck", "-fn", mount.image())
        with attached(mount.image()) as device, mounted_ext4(device, point):
            check_files(point, names)
            os.unlink(os.path.join(point, "large"))
            os.sync()
            run("fstrim", point)
            run("umount", point)
        assert os.stat(overlay_of(tmp)).st_blocks * 512 < full - 14 * MIB
        run("e2fsck", "-fn", mount.image())


class Writer(threading.Thread):
    """Writes files for as long as it can, and knows which of them are durable."""

    def __init__(self, point, prefix):
        super().__init__()
        self.point, self.prefix = point, prefix
        self.durable = []

    def run(self):
        for i in range(100000):
            name = f"{self.prefix}-{i % 40}-{i}"
            try:
                write_files(self.point, [name], 20 * KIB)
                directory = os.open(self.point, os.O_RDONLY)
                try:
                    os.fsync(directory)
                finally:
                    os.close(directory)
            except OSError:
                return
            self.durable.append(name)


def kill_while_writing(lazydisk, tmp, source, rounds):
    """Each round: replay the journal, check everything, write, kill -9. Returns how many files had
    been made durable."""
    rng = random.Random()
    point = os.path.join(tmp, "point")
    durable, total = [], 0
    for i in range(rounds + 1):
        mount = lazydisk.start("--overlay", overlay_of(tmp), source)
        with attached(mount.image()) as device:
            with mounted_ext4(device, point):
                check_files(point, durable, 20 * KIB)
                for name in os.listdir(point):
                    if name != "lost+found":
                        os.unlink(os.path.join(point, name))
                run("umount", point)
            run("e2fsck", "-fn", device)
            if i == rounds:
                break
            with mounted_ext4(device, point):
                writer = Writer(point, f"r{i}")
                writer.start()
                writer.join(rng.uniform(0.005, 0.1) * slowness())
                os.kill(mount.pid, signal.SIGKILL)
                mount.wait_end()
                writer.join(30)
                assert not writer.is_alive()
        durable = writer.durable
        total += len(durable)
        mount.crash()
    mount.umount()
    return total


def test_killed_while_a_filesystem_is_written_all_that_was_synced_is_there(lazydisk, tmp):
    source = make_ext4(os.path.join(tmp, "base.raw"), 32 * MIB)
    assert kill_while_writing(lazydisk, tmp, source, 5) > 0


@pytest.mark.slow
@pytest.mark.limit(120)
def test_killed_fifty_times_all_that_was_synced_is_there(lazydisk, tmp):
    source = make_ext4(os.path.join(tmp, "base.raw"), 32 * MIB)
    assert kill_while_writing(lazydisk, tmp, source, 50) > 50


def test_a_full_disk_is_told_to_the_writer_and_costs_nothing_else(lazydisk, images, tmp):
    point = os.path.join(tmp, "small")
    os.mkdir(point)
    run("mount", "-t", "tmpfs", "-o", "size=6m", "none", point)
    try:
        args = ("--overlay", os.path.join(point, "o"), images.raw)
        with lazydisk.mounted(*args) as mount, opened(mount.image()) as fd:
            data = seeded_bytes(4 * MIB, "full")
            assert os.pwrite(fd, data, 20 * MIB) == 4 * MIB
            os.fsync(fd)
            with pytest.raises(OSError, match="No space left"):
                for i in range(8):
                    os.pwrite(fd, data[:MIB], (30 + i) * MIB)
            assert "No space left on device" in mount.stderr()
            os.fsync(fd)
            assert_bytes(as_it_is(mount.image(), 24 * MIB)[20 * MIB:], data)
            fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 22 * MIB, 2 * MIB)
            assert os.pwrite(fd, data[:MIB], 40 * MIB) == MIB
            os.fsync(fd)
        with lazydisk.mounted(*args) as mount:
            assert_bytes(pread(mount.image(), 2 * MIB, 20 * MIB), data[:2 * MIB])
            assert_bytes(pread(mount.image(), 2 * MIB, 22 * MIB), bytes(2 * MIB))
            assert_bytes(pread(mount.image(), MIB, 40 * MIB), data[:MIB])
    finally:
        run("umount", "-l", point)


def test_what_does_not_fit_is_refused_in_one_line(lazydisk, nginx, images, tmp):
    served = os.path.join(images.directory, "changing.raw")
    shutil.copyfile(images.raw, served)
    overlay, url = overlay_of(tmp), nginx.url(served)
    with lazydisk.mounted("--overlay", overlay, url) as mount:
        with opened(mount.image()) as fd:
            os.pwrite(fd, b"changed", 4096)

    def refused(code, *words, sources=(url,), overlays=(overlay,)):
        options = [word for name in overlays for word in ("--overlay", name)]
        done = lazydisk.run("mount", *options, *sources, lazydisk.point())
        assert done.returncode == code, done.stderr
        for word in words:
            assert word in one_line(done.stderr)

    with open(overlay, "r+b") as f:
        f.seek(100)
        byte = f.read(1)
        f.seek(100)
        f.write(bytes([byte[0] ^ 1]))
    refused(4, "damaged", "header", overlay)
    with open(overlay, "r+b") as f:
        f.seek(100)
        f.write(byte)
    other = os.path.join(tmp, "other")
    shutil.copyfile(images.raw, other)
    refused(5, "no overlay", other, overlays=(other,))
    assert_same(other, images.raw)
    refused(5, "/nowhere/o", overlays=("/nowhere/o",))
    refused(2, "2 times for 1 source", overlays=(overlay, other))
    refused(2, "1 time for 2 sources", sources=(url, images.raw))
    os.utime(served, (1, 1))
    refused(4, overlay, "another image", url)
    os.utime(served)


def test_temporary_changes_are_forgotten(lazydisk, images, tmp):
    plain = images.variant("plain")
    args = ("--overlay", ":temp:", images.raw, plain)
    for _ in range(2):
        with lazydisk.mounted(*args, env={"TMPDIR": tmp}) as mount:
            for name in mount.images():
                path = mount.path(name)
                with open(images.raw, "rb") as f:
                    assert_bytes(pread(path, MIB, 20 * MIB), f.read(21 * MIB)[20 * MIB:])
                with opened(path) as fd:
                    assert os.pwrite(fd, b"x" * MIB, 20 * MIB) == MIB
                    os.fsync(fd)
                assert_bytes(pread(path, MIB, 20 * MIB), b"x" * MIB)
    assert not [name for name in os.listdir(tmp) if "overlay" in name]


def test_each_source_has_an_overlay_of_its_own(lazydisk, images, tmp):
    a, b = os.path.join(tmp, "a"), os.path.join(tmp, "b")
    args = ("--overlay", a, "--overlay", b, "--name", "x", "--name", "y", images.raw,
            images.variant("plain"))
    with lazydisk.mounted(*args) as mount:
        for name in "xy":
            with opened(mount.path(f"{name}.raw")) as fd:
                os.pwrite(fd, name.encode() * 4096, 4096)
    with lazydisk.mounted(*args) as mount:
        for name in "xy":
            assert pread(mount.path(f"{name}.raw"), 4096, 4096) == name.encode() * 4096
    same = lazydisk.run("mount", "--overlay", a, "--overlay", a, "--name", "x", "--name", "y",
                        images.raw, images.raw, lazydisk.point())
    assert same.returncode == 5 and "in use" in one_line(same.stderr)


def test_volumes_of_manifests_can_have_temporary_overlays_only(lazydisk, nginx, images, tmp):
    manifest = os.path.join(tmp, "dv.yaml")
    with open(manifest, "w", encoding="ascii") as f:
        f.write("apiVersion: cdi.kubevirt.io/v1beta1\nkind: DataVolume\nmetadata:\n  name: vm\n"
                f"spec:\n  source:\n    http:\n      url: {nginx.url(images.raw)}\n"
                "  pvc:\n    resources:\n      requests:\n        storage: 1Gi\n")
    refused = lazydisk.run("mount", "--overlay", overlay_of(tmp), "-f", manifest, lazydisk.point())
    assert refused.returncode == 2 and ":temp: only" in one_line(refused.stderr)
    with lazydisk.mounted("--overlay", ":temp:", "-f", manifest) as mount:
        with opened(mount.path("vm.raw")) as fd:
            assert os.pwrite(fd, b"x" * 4096, 4096) == 4096
        assert pread(mount.path("vm.raw"), 4096, 4096) == b"x" * 4096


def test_a_mount_option_and_qemu_without_and_with_its_cache(lazydisk, images, tmp):
    """As fstab has it; qemu writes, discards and flushes as for a guest."""
    point = lazydisk.point()
    source = images.variant("zlib")
    helper = os.path.join(tmp, "mount.fuse.lazydisk")
    os.symlink(BINARY, helper)
    done = subprocess.run([helper, source, point, "-o", f"rw,overlay={overlay_of(tmp)}"],
                          env=lazydisk.env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    mount = lazydisk.adopt(point)
    path = mount.image()
    with open(images.raw, "rb") as f:
        model = bytearray(f.read())
    for i, cache in enumerate(("none", "writeback", "directsync")):
        base = 20 * MIB + i * 4 * MIB
        run("qemu-io", "-f", "raw", "-t", cache, "-d", "unmap",
            "-c", f"write -P {i + 1} {base} 1M", "-c", f"write -P 9 {base + 512} 512",
            "-c", "flush", "-c", f"discard {base + 256 * KIB} 256k",
            "-c", f"write -z {base + 768 * KIB} 64k", "-c", "flush", path)
        model[base:base + MIB] = bytes([i + 1]) * MIB
        model[base + 512:base + 1024] = b"\x09" * 512
        model[base + 256 * KIB:base + 512 * KIB] = bytes(256 * KIB)
        model[base + 768 * KIB:base + 832 * KIB] = bytes(64 * KIB)
    mount.crash()
    with lazydisk.mounted("--overlay", overlay_of(tmp), source) as again:
        assert_bytes(as_it_is(again.image(), len(model)), bytes(model))


def test_info_and_commit_into_a_file_and_a_device(lazydisk, nginx, pki, images, tmp):
    overlay = overlay_of(tmp)
    password = os.path.join(tmp, "pw")
    with open(password, "w", encoding="ascii") as f:
        f.write(PASSWORD)
    login = ("--user", USER, "--password-file", password, "--cacert", pki.ca)
    url = nginx.url(images.variant("zlib"), "basic_https")
    with open(images.raw, "rb") as f:
        model = bytearray(f.read())
    expected = os.path.join(tmp, "expected")
    with lazydisk.mounted("--overlay", overlay, *login, url) as mount:
        write_in_every_way(mount.image(), model)
        busy = lazydisk.run("overlay", "commit", overlay, os.path.join(tmp, "t"))
        assert busy.returncode == 5 and "in use" in one_line(busy.stderr)
        assert json.loads(lazydisk.ok("overlay", "info", "--json", overlay))["in_use"]
    with open(expected, "wb") as f:
        f.write(model)
    info = json.loads(lazydisk.ok("overlay", "info", "--json", overlay))
    assert info["source"] == url and not info["in_use"] and info["size"] == len(model)
    assert info["present_bytes"] > MIB and info["zero_bytes"] > 600000
    assert PASSWORD not in json.dumps(info)
    shown = lazydisk.ok("overlay", "info", overlay)
    assert url in shown and info["uuid"] in shown

    target = os.path.join(tmp, "target")
    denied = lazydisk.run("overlay", "commit", "--cacert", pki.ca, overlay, target)
    assert denied.returncode == 3 and not os.path.exists(target)
    lazydisk.ok("overlay", "commit", *login, overlay, target)
    assert_same(target, expected)
    assert os.stat(target).st_blocks * 512 < len(model)
    again = lazydisk.run("overlay", "commit", *login, overlay, target)
    assert again.returncode == 5 and "exists already" in one_line(again.stderr)
    onto_itself = lazydisk.run("overlay", "commit", *login, "--force", overlay, overlay)
    assert onto_itself.returncode == 5 and "to be read" in one_line(onto_itself.stderr)
    assert json.loads(lazydisk.ok("overlay", "info", "--json", overlay)) == info
    with loop_device(os.path.join(tmp, "backing"), len(model) + 4 * MIB) as device:
        lazydisk.ok("overlay", "commit", *login, "--verify", overlay, device)
        assert_bytes(pread(device, len(model), 0), bytes(model))
        assert_bytes(pread(device, 4 * MIB, len(model)), bytes(4 * MIB))


def test_an_overlay_that_fails_while_it_is_merged_is_named_and_not_its_source(
        lazydisk, bad, tmp):
    data = seeded_bytes(24 * MIB, "blame")
    go_on = threading.Event()
    go_on.set()
    url = bad.file("/disk.raw", data, faults=[faults.hold(64 * KIB, len(data), go_on)])
    overlay, target = overlay_of(tmp), os.path.join(tmp, "target")
    with lazydisk.mounted("--overlay", overlay, url) as mount:
        with opened(mount.image()) as fd:
            assert os.pwrite(fd, b"w" * 64 * KIB, 23 * MIB) == 64 * KIB
            os.fsync(fd)
    # All readers wait for the server, which lets them go when the end of the overlay is gone.
    go_on.clear()
    with subprocess.Popen([BINARY, "overlay", "commit", overlay, target], env=lazydisk.env,
                          stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as commit:
        try:
            wait_for(lambda: os.path.exists(target), 15 * slowness(), "the target")
            os.truncate(overlay, os.stat(overlay).st_size - 2 * MIB)
            go_on.set()
            told = commit.communicate(timeout=30 * slowness())[1]
        finally:
            go_on.set()
            commit.kill()
    assert commit.returncode == 1
    line = one_line(told)
    assert f"read the overlay {overlay}: " in line and url not in line


def test_a_base_is_not_its_own_target(lazydisk, images, tmp):
    source = os.path.join(tmp, "disk.raw")
    shutil.copyfile(images.raw, source)
    with lazydisk.mounted("--overlay", overlay_of(tmp), source) as mount:
        with opened(mount.image()) as fd:
            os.pwrite(fd, b"x" * 100, 100)
    done = lazydisk.run("overlay", "commit", "--force", overlay_of(tmp), source)
    assert done.returncode == 5 and "to be read" in one_line(done.stderr)
    assert_same(source, images.raw)


@pytest.mark.slow
def test_what_was_written_is_saved_although_a_reader_hangs(lazydisk, bad, tmp):
    """The server falls silent, somebody waits for it, and the daemon is told to end."""
    data = seeded_bytes(4 * MIB, "stall")
    silent = faults.Switch(faults.stall(100, 3600))
    url = bad.file("/disk.raw", data, faults=[silent])
    args = ("--overlay", overlay_of(tmp), "--no-cache", "--readahead", 0, "--retry", "hard", url)
    mount = lazydisk.start(*args)
    with opened(mount.image(), os.O_RDWR | os.O_DIRECT) as fd:
        buffer = mmap.mmap(-1, 4096)
        buffer[:] = b"w" * 4096
        assert os.pwrite(fd, buffer, 8192) == 4096
    silent.on = True
    asked = len(bad.requests("/disk.raw"))
    reader = subprocess.Popen(["dd", f"if={mount.image()}", "of=/dev/null", "bs=4k", "skip=600",
                               "count=1"], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: len(bad.requests("/disk.raw")) > asked, 10 * slowness(), "the read")
        mount.signal(signal.SIGTERM)
        assert mount.wait_end(20) == 0, mount.stderr()
    finally:
        reader.kill()
        reader.wait()
    silent.on = False
    bad.disconnect()
    with lazydisk.mounted(*args) as mount:
        assert pread(mount.image(), 4096, 8192) == b"w" * 4096
        assert_bytes(pread(mount.image(), 8192, 0), data[:8192])
