# SPDX-License-Identifier: Apache-2.0
"""A remote image, mounted: its bytes, its holes, its attributes, and who can use it."""

import ctypes
import json
import mmap
import os
import select
import signal
import subprocess
import sys

import pytest

from images import PARTITION, PARTITION_SIZE, VARIANTS, guest_files
from util import (KIB, MIB, assert_bytes, assert_same, drop_pages, mounts_at, pread, run, segments,
                  sha256, wait_for)

import command


def data_bytes(path):
    """How many bytes of the disk are data, says qemu-img."""
    extents = json.loads(run("qemu-img", "map", "--output=json", path))
    return sum(x["length"] for x in extents if x["data"])


def assert_holes_are_honest(path, reference):
    """What SEEK_DATA skips is zero in @reference; the walk covers the whole file."""
    at = 0
    with open(reference, "rb") as f:
        for start, end, is_data in segments(path):
            assert start == at
            at = end
            f.seek(start)
            while not is_data and start < end:
                part = f.read(min(4 * MIB, end - start))
                assert part.count(0) == len(part), f"SEEK_DATA hides data near {start}"
                start += len(part)
    assert at == os.stat(reference).st_size


# bytes

@pytest.mark.parametrize("variant", ["raw", *VARIANTS])
def test_every_variant_reads_as_qemu_img_converts_it(lazydisk, nginx, images, variant):
    source = images.variant(variant)
    with lazydisk.mounted(nginx.url(source)) as mount:
        path = mount.image()
        assert os.path.basename(path) == os.path.basename(source).rsplit(".", 1)[0] + ".raw"
        assert sha256(path) == sha256(images.raw)
        assert_same(path, images.raw)
        assert_holes_are_honest(path, images.raw)
        if variant != "raw":
            data = data_bytes(source)
            assert abs(os.stat(path).st_blocks * 512 - data) <= data // 10


@pytest.mark.parametrize("which", ["subclusters", "snapshot"])
def test_mixed_subclusters_and_snapshots_read_as_qemu_img_converts_them(
        lazydisk, nginx, images, which):
    source, expected = getattr(images, which)()
    with lazydisk.mounted(nginx.url(source)) as mount:
        assert_same(mount.image(), expected)
        assert_holes_are_honest(mount.image(), expected)


def test_a_raw_image_of_an_odd_size_keeps_its_last_byte(lazydisk, nginx, images):
    source = images.unaligned()
    with lazydisk.mounted(nginx.url(source)) as mount:
        path = mount.image()
        assert os.stat(path).st_size == 9000001
        assert pread(path, 100, 9000000) == b"!"
        assert_same(path, source)


def test_a_local_file_is_mounted_too(lazydisk, images):
    with lazydisk.mounted(images.variant("zlib")) as mount:
        assert_same(mount.image(), images.raw)
    with lazydisk.mounted("file://" + images.variant("plain")) as mount:
        assert_same(mount.image(), images.raw)


def test_a_hole_is_seen_without_fetching_it(lazydisk, nginx, images):
    source = images.variant("plain")
    with lazydisk.mounted(nginx.url(source)) as mount:
        found = segments(mount.image())
        assert any(end - start >= 7 * MIB and not is_data for start, end, is_data in found)
        assert mount.layer("http")["bytes_fetched"] < os.stat(source).st_size // 4


def test_the_format_can_be_forced(lazydisk, nginx, images):
    source = images.variant("plain")
    with lazydisk.mounted("--format", "raw", nginx.url(source)) as mount:
        assert_same(mount.image(), source)


# what the file says about itself

def test_the_file_cannot_be_written(lazydisk, nginx, images):
    with lazydisk.mounted(nginx.url(images.raw)) as mount:
        with pytest.raises(OSError):
            os.open(mount.image(), os.O_RDWR)
        with pytest.raises(OSError):
            open(mount.path("new"), "wb")
        assert os.stat(mount.image()).st_mode & 0o222 == 0


def test_extended_attributes_name_the_source(lazydisk, nginx, images):
    url = nginx.url(images.variant("zlib"))
    with lazydisk.mounted(url) as mount:
        path = mount.image()
        names = os.listxattr(path)
        for name in ("url", "format", "validator", "present"):
            assert "user.lazydisk." + name in names
        assert os.getxattr(path, "user.lazydisk.url").decode() == url
        assert os.getxattr(path, "user.lazydisk.format").decode() == "qcow2"
        assert os.getxattr(path, "user.lazydisk.validator")
        with pytest.raises(OSError):
            os.getxattr(path, "user.lazydisk.nothing")
        with pytest.raises(OSError):
            os.setxattr(path, "user.lazydisk.url", b"x")


def test_present_grows_as_bytes_are_read(lazydisk, nginx, images):
    with lazydisk.mounted(nginx.url(images.raw)) as mount:
        before = os.getxattr(mount.image(), "user.lazydisk.present").decode()
        sha256(mount.image())
        after = os.getxattr(mount.image(), "user.lazydisk.present").decode()
        assert before != after
        # What a reader has got already may still be on its way to the disk.
        wait_for(lambda: mount.layer("cache")["present_bytes"] == os.stat(images.raw).st_size, 20,
                 "all bytes to be present")


def test_the_status_file_is_hidden_and_tells_the_layers(lazydisk, nginx, images):
    url = nginx.url(images.variant("zlib"))
    with lazydisk.mounted(url) as mount:
        assert mount.images() == ["sample-zlib.raw"]
        sha256(mount.image())
        status = mount.status()
        assert status["version"] == 1
        assert status["pid"] == mount.pid
        assert status["mountpoint"] == mount.point
        (image,) = status["images"]
        assert image["name"] == "sample-zlib.raw"
        assert image["source"] == url
        assert image["size"] == os.stat(images.raw).st_size
        assert [layer["name"] for layer in image["layers"]][-2:] == ["cache", "http"]
        assert mount.layer("qcow2")["compression"] == "zlib"
        http = mount.layer("http")
        assert http["requests"] > 0
        assert 0 < http["bytes_fetched"] <= os.stat(images.variant("zlib")).st_size * 1.05
        assert mount.layer("cache")["mode"] == "disk"


def test_status_and_info_tell_the_same_as_the_status_file(lazydisk, nginx, images):
    url = nginx.url(images.variant("plain"))
    with lazydisk.mounted(url) as mount:
        sha256(mount.image())
        told = json.loads(lazydisk.ok("status", "--json", mount.point))
        assert told["images"][0]["source"] == url
        assert told["images"][0]["layers"] == mount.status()["images"][0]["layers"]
        text = lazydisk.ok("status", mount.point)
        assert "sample-plain" in text
    info = json.loads(lazydisk.ok("info", "--json", url))
    assert info["size"] == os.stat(images.raw).st_size
    assert info["layers"][0]["name"] == "qcow2"
    assert "qcow2" in lazydisk.ok("info", url)


def merged(extents):
    """Neighbours that say the same of where their bytes are become one."""
    found = []
    for x in extents:
        assert x["data"] or x["zero"]
        key = (x["data"], x["depth"])
        last = found[-1] if found else None
        if last and last[2] == key and last[0] + last[1] == x["start"]:
            last[1] += x["length"]
        else:
            found.append([x["start"], x["length"], key])
    return found


@pytest.mark.parametrize("variant", ["plain", "zlib", "ext-l2", "metadata", "cluster-512"])
def test_map_says_what_qemu_img_map_says(lazydisk, images, variant):
    source = images.variant(variant)
    ours = json.loads(lazydisk.ok("map", "--json", source))
    theirs = json.loads(run("qemu-img", "map", "--output=json", source))
    assert merged(ours) == merged(theirs)
    # Holes of the file below show as zeros; qemu-img looks for them in some images only.
    assert sum(x["length"] for x in ours if x["zero"]) >= sum(
        x["length"] for x in theirs if x["zero"])
    # qemu-img gives offsets to subclusters without data, too
    offsets = {x["start"]: x["offset"] for x in theirs if "offset" in x and x["data"]}
    told = {x["start"]: x["offset"] for x in ours if "offset" in x and x["data"]}
    assert offsets.items() <= told.items()
    for x in ours:
        assert set(x) - {"offset"} == set(theirs[0]) - {"offset"}


def test_map_of_a_remote_image_takes_what_the_server_cannot_tell_for_data(lazydisk, nginx, images):
    theirs = json.loads(run("qemu-img", "map", "--output=json", images.variant("plain")))
    ours = json.loads(lazydisk.ok("map", "--json", nginx.url(images.variant("plain"))))
    assert merged(ours) == merged(theirs)
    ours = json.loads(lazydisk.ok("map", "--json", nginx.url(images.variant("metadata"))))
    assert merged(ours) == [[0, os.stat(images.raw).st_size, (True, 0)]]
    assert not any(x["zero"] for x in ours)


# mounting and unmounting

def test_several_images_share_one_mount(lazydisk, nginx, images):
    sources = [images.variant("plain"), images.raw, images.variant("zstd")]
    with lazydisk.mounted(*[nginx.url(s) for s in sources]) as mount:
        assert mount.images() == ["sample-plain.raw", "sample-zstd.raw", "sample.raw"]
        for name in mount.images():
            assert_same(mount.path(name), images.raw)


def test_a_name_can_be_given(lazydisk, nginx, images):
    with lazydisk.mounted("--name", "root-disk", nginx.url(images.raw)) as mount:
        assert mount.images() == ["root-disk.raw"]


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unmounts_cleanly(lazydisk, nginx, images, sig):
    mount = lazydisk.start(nginx.url(images.raw))
    assert pread(mount.image(), 4096, 0) == pread(images.raw, 4096, 0)
    mount.signal(sig)
    assert mount.wait_end() == 0
    assert not mounts_at(mount.point)
    assert mount.stderr() == ""


def test_the_background_mount_answers_when_the_command_returns(lazydisk, nginx, images):
    mount = lazydisk.background(nginx.url(images.variant("zlib")))
    assert mount.pid != os.getpid() and mount.alive()
    assert_same(mount.image(), images.raw)
    mount.umount()
    assert not mount.alive()


def test_the_background_daemon_ends_on_sigterm_and_on_plain_umount(lazydisk, nginx, images):
    mount = lazydisk.background(nginx.url(images.raw))
    mount.signal(signal.SIGTERM)
    mount.wait_end()
    assert not mounts_at(mount.point)
    mount = lazydisk.background(nginx.url(images.raw))
    run("umount", mount.point)
    mount.wait_end()


def test_the_background_daemon_holds_nothing_of_its_caller(lazydisk, nginx, images):
    mount = lazydisk.background(nginx.url(images.raw))
    assert os.readlink(f"/proc/{mount.pid}/cwd") == "/"
    for fd in ("0", "1", "2"):
        assert os.readlink(f"/proc/{mount.pid}/fd/{fd}") == "/dev/null"
    with open(f"/proc/{mount.pid}/stat", encoding="ascii") as f:
        session = int(f.read().rsplit(")", 1)[1].split()[3])
    assert session != os.getsid(0)
    mount.umount()


def test_relative_sources_and_mountpoints_work_in_the_background(lazydisk, images, tmp):
    point = lazydisk.point("here")
    done = subprocess.run(
        [command.BINARY, "mount", os.path.relpath(images.variant("plain"), tmp), "here"], cwd=tmp,
        capture_output=True, text=True, check=False, timeout=20, env=lazydisk.env)
    mount = lazydisk.adopt(point)
    assert done.returncode == 0, done.stderr
    assert_same(mount.image(), images.raw)
    mount.umount()


def test_umount_of_what_is_not_ours_is_refused(lazydisk, tmp):
    done = lazydisk.run("umount", tmp)
    assert done.returncode != 0
    assert tmp in done.stderr


def test_umount_of_a_busy_mount_says_so_and_leaves_it_alone(lazydisk, nginx, images):
    mount = lazydisk.start(nginx.url(images.raw))
    with open(mount.image(), "rb"):
        done = lazydisk.run("umount", mount.point)
        assert done.returncode != 0
        assert len(done.stderr.splitlines()) == 1
        assert_same(mount.image(), images.raw)
    mount.umount()


def test_a_killed_daemon_can_be_replaced_at_its_mountpoint(lazydisk, nginx, images):
    mount = lazydisk.start(nginx.url(images.raw))
    mount.crash()
    again = lazydisk.start(nginx.url(images.raw), point=mount.point)
    assert_same(again.image(), images.raw)
    again.umount()


def test_the_mount_helper_takes_fstab_options(lazydisk, nginx, images, pki, tmp):
    helper = os.path.join(tmp, "mount.fuse.lazydisk")
    os.symlink(command.BINARY, helper)
    point = lazydisk.point()
    options = f"ro,noauto,_netdev,cacert={pki.ca},cache-dir={tmp}/helper-cache"
    done = subprocess.run(
        [helper, nginx.url(images.variant("plain"), "https"), point, "-o", options],
        capture_output=True, text=True, check=False, timeout=20, env=lazydisk.env)
    mount = lazydisk.adopt(point)
    assert done.returncode == 0, done.stderr
    assert_same(mount.image(), images.raw)
    assert os.path.exists(f"{tmp}/helper-cache")
    mount.umount()


def test_mount_t_fuse_lazydisk_finds_the_command(lazydisk, nginx, images, tmp):
    """mount(8) runs mount.fuse.lazydisk of /sbin: bound there in a mount namespace of our own."""
    script = r"""
set -e
mount --make-rprivate /
mkdir "$T/upper" "$T/work"
mount -t tmpfs none "$T/work"
cp -a /usr/sbin/mount.fuse3 "$T/work/" 2>/dev/null || true
mkdir "$T/work/u" "$T/work/w"
mount -t overlay overlay -o "lowerdir=/usr/sbin,upperdir=$T/work/u,workdir=$T/work/w" /usr/sbin
ln -s "$BINARY" /usr/sbin/mount.fuse.lazydisk
mount -t fuse.lazydisk "$URL" "$T/point" -o "ro,cache-dir=$T/cache"
sha256sum < "$T/point/sample-plain.raw"
"$BINARY" umount "$T/point"
"""
    os.mkdir(os.path.join(tmp, "point"))
    out = run("unshare", "-m", "sh", "-c", script, env={
        **lazydisk.env, "T": tmp, "BINARY": command.BINARY,
        "URL": nginx.url(images.variant("plain"))})
    assert out.split()[0] == sha256(images.raw)


def test_the_daemon_keeps_nothing_of_its_callers_open(lazydisk, images):
    """A script's lock is free when the script is done, and a pipe is closed."""
    point = lazydisk.point()
    ours, theirs = os.pipe()
    lazydisk.ok("mount", images.raw, point, pass_fds=(theirs,))
    mount = lazydisk.adopt(point)
    os.close(theirs)
    with open(ours, "rb") as f:
        assert select.select([f], [], [], 10)[0], "the daemon holds the pipe"
        assert f.read() == b""
    assert_same(mount.image(), images.raw)
    mount.umount()


def test_an_image_may_be_a_descriptor_of_the_callers(lazydisk, images):
    point = lazydisk.point()
    with open(images.raw, "rb") as f:
        lazydisk.ok("mount", "--name", "disk", f"/dev/fd/{f.fileno()}", point,
                    pass_fds=(f.fileno(),))
    mount = lazydisk.adopt(point)
    assert_same(mount.image(), images.raw)
    mount.umount()


def test_an_unprivileged_user_mounts_through_fusermount3(lazydisk, nginx, images, tmp):
    """In a mount namespace of our own, where /dev/fuse is open to all as distributions have it."""
    script = r"""
set -e
mount --make-rprivate /
mknod "$T/fuse" c 10 229
chmod 666 "$T/fuse"
mount --bind "$T/fuse" /dev/fuse
exec setpriv --reuid=65534 --regid=65534 --clear-groups sh -ec '
test "$(id -u)" = 65534
"$BINARY" mount "$URL" "$T/user/point"
sha256sum < "$T/user/point/sample-zlib.raw"
"$BINARY" status "$T/user/point" > "$T/user/status"
"$BINARY" umount "$T/user/point"
'"""
    os.makedirs(os.path.join(tmp, "user", "point"))
    for path in ("user", "user/point"):
        os.chown(os.path.join(tmp, path), 65534, 65534)
    out = run("unshare", "-m", "sh", "-c", script, env={
        **lazydisk.env, "T": tmp, "BINARY": command.BINARY, "HOME": tmp + "/user",
        "LAZYDISK_CACHE_DIR": tmp + "/user/cache", "URL": nginx.url(images.variant("zlib"))})
    assert out.split()[0] == sha256(images.raw)
    assert os.stat(os.path.join(tmp, "user/cache")).st_uid == 65534
    assert "sample-zlib" in open(os.path.join(tmp, "user/status"), encoding="utf-8").read()


# consumers

def attach(path, *options):
    """A read-only loop device over @path, to be detached by the caller."""
    return run("losetup", "--find", "--show", "-r", *options, path).strip()


def detach(device):
    subprocess.run(["losetup", "-d", device], check=False)
    wait_for(lambda: device not in run("losetup", "-l", "-n", "-O", "NAME"), 30, "losetup -d")


def test_a_loop_device_with_direct_io_reads_the_same_bytes(lazydisk, nginx, images):
    with lazydisk.mounted(nginx.url(images.variant("zlib"))) as mount:
        device = attach(mount.image(), "--direct-io=on")
        try:
            dio = run("losetup", "-l", "-n", "-O", "DIO", device).strip()
            assert dio == "1"
            assert run("sha256sum", device).split()[0] == sha256(images.raw)
        finally:
            detach(device)


def test_the_kernel_mounts_a_partition_inside(lazydisk, nginx, images):
    with lazydisk.mounted(nginx.url(images.variant("plain"))) as mount:
        device = attach(mount.image(), f"--offset={PARTITION}",
                        f"--sizelimit={PARTITION_SIZE}")
        inside = lazydisk.point("inside")
        try:
            run("mount", "-t", "ext4", "-o", "ro,noload", device, inside)
            try:
                for name, content in guest_files().items():
                    with open(os.path.join(inside, name), "rb") as f:
                        assert_bytes(f.read(), content)
                assert sorted(os.listdir(inside)) == ["etc", "lost+found", "var"]
            finally:
                run("umount", inside)
        finally:
            detach(device)
        assert mount.layer("http")["bytes_fetched"] < os.stat(images.variant("plain")).st_size


def test_qemu_img_finds_no_difference(lazydisk, nginx, images):
    source = images.variant("scrambled")
    with lazydisk.mounted(nginx.url(source)) as mount:
        out = run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", mount.image(), source)
        assert "identical" in out
        theirs = json.loads(run("qemu-img", "map", "-f", "raw", "--output=json", mount.image()))
        assert sum(x["length"] for x in theirs) == os.stat(images.raw).st_size
        run("qemu-io", "-r", "-f", "raw", "-t", "none", "-c", "read -P 0 33M 1M", mount.image())


def test_tools_keep_the_copy_sparse(lazydisk, nginx, images, tmp):
    with lazydisk.mounted(nginx.url(images.variant("zlib"))) as mount:
        copy = os.path.join(tmp, "copy")
        run("cp", "--sparse=auto", mount.image(), copy)
        assert_same(copy, images.raw)
        assert os.stat(copy).st_blocks * 512 < os.stat(copy).st_size * 3 // 4


def test_mapped_memory_reads_the_same_bytes(lazydisk, nginx, images):
    code = ("import mmap,sys,hashlib; f=open(sys.argv[1],'rb');"
            "print(hashlib.sha256(mmap.mmap(f.fileno(),0,prot=mmap.PROT_READ)).hexdigest())")
    with lazydisk.mounted(nginx.url(images.variant("zlib-4k"))) as mount:
        assert run(sys.executable, "-c", code, mount.image()).strip() == sha256(images.raw)


def test_direct_reads_of_odd_places_are_right(lazydisk, nginx, images):
    with lazydisk.mounted(nginx.url(images.variant("zlib-2m"))) as mount:
        for skip in (0, 5, 17 * 256 - 3, 30 * 256 + 1):
            got = subprocess.run(
                ["dd", f"if={mount.image()}", "iflag=direct", f"bs={4 * KIB}", "count=7",
                 f"skip={skip}", "status=none"], capture_output=True, check=True).stdout
            assert_bytes(got, pread(images.raw, 28 * KIB, skip * 4 * KIB))


# passthrough

needs_passthrough = pytest.mark.skipif(
    tuple(map(int, os.uname().release.split(".")[:2])) < (6, 9),
    reason="FUSE passthrough came with Linux 6.9")


def lent(mount):
    return mount.layer("cache")["lent"]


def opened_lent(mount, path):
    """A descriptor whose reads go to the cache's file, as soon as it may be lent."""
    held = []

    def one():
        held[:] = [os.open(path, os.O_RDONLY | os.O_CLOEXEC)]
        if lent(mount):
            return True
        os.close(held.pop())
        return False

    wait_for(one, 20 * command.slowness(), "the cache's file to be lent", poll=0.05)
    return held[0]


@needs_passthrough
def test_a_whole_raw_image_is_read_past_the_daemon(lazydisk, nginx, images):
    with lazydisk.mounted(nginx.url(images.raw)) as mount:
        path = mount.image()
        assert pread(path, 4096, 0) == pread(images.raw, 4096, 0)
        assert not lent(mount)
        assert_same(path, images.raw)
        fd = opened_lent(mount, path)
        try:
            before = mount.layer("cache")["hits"]
            drop_pages(path)
            assert_same(path, images.raw)
            assert_holes_are_honest(path, images.raw)
            # pages of a mapping come the same way
            with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as view:
                assert_bytes(view[MIB:2 * MIB], pread(images.raw, MIB, MIB), MIB)
            assert mount.layer("cache")["hits"] == before
            # nobody takes the bytes away meanwhile
            lazydisk.ok("cache", "prune", "--max-size", "0")
            drop_pages(path)
            assert_same(path, images.raw)
        finally:
            os.close(fd)
        wait_for(lambda: not lent(mount), 30, "the file to come back")
        lazydisk.ok("cache", "prune", "--max-size", "0")
        drop_pages(path)
        assert_same(path, images.raw)


def test_what_is_open_already_stays_with_the_daemon(lazydisk, nginx, images):
    with lazydisk.mounted(nginx.url(images.raw)) as mount:
        path = mount.image()
        with open(path, "rb"):
            for _ in range(3):
                assert_same(path, images.raw)
            assert not lent(mount)


def test_a_decoded_image_has_no_file_to_lend(lazydisk, nginx, images):
    with lazydisk.mounted(nginx.url(images.variant("plain"))) as mount:
        for _ in range(3):
            assert_same(mount.image(), images.raw)
        with open(mount.image(), "rb"):
            assert not lent(mount)


@needs_passthrough
def test_a_daemon_that_dies_leaves_lent_files_right(lazydisk, nginx, images):
    mount = lazydisk.start(nginx.url(images.raw))
    path = mount.image()
    assert_same(path, images.raw)
    fd = opened_lent(mount, path)
    try:
        mount.crash()
    finally:
        os.close(fd)
    with lazydisk.mounted(nginx.url(images.raw)) as again:
        assert_same(again.image(), images.raw)


class Mapping:
    """The pages of a file, and nothing else of it: Python's own mmap keeps a descriptor, too."""

    def __init__(self, fd):
        self.size = os.fstat(fd).st_size
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.mmap.restype = ctypes.c_void_p
        self.libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int,
                                   ctypes.c_int, ctypes.c_long]
        self.libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self.start = self.libc.mmap(None, self.size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
        assert self.start != ctypes.c_void_p(-1).value, os.strerror(ctypes.get_errno())

    def read(self):
        return ctypes.string_at(self.start, self.size)

    def close(self):
        self.libc.munmap(self.start, self.size)


def all_of(fd):
    """What a descriptor reads, from the beginning."""
    parts = []
    while part := os.pread(fd, MIB, MIB * len(parts)):
        parts.append(part)
    return b"".join(parts)


def content(path):
    with open(path, "rb") as f:
        return f.read()


@needs_passthrough
def test_a_mapping_of_a_closed_file_keeps_its_bytes(lazydisk, nginx, images):
    with lazydisk.mounted(nginx.url(images.raw)) as mount:
        path = mount.image()
        assert_same(path, images.raw)
        fd = opened_lent(mount, path)
        mapping = Mapping(fd)
        try:
            os.close(fd)
            wait_for(lambda: not lent(mount), 30, "the file to come back")
            lazydisk.ok("cache", "prune", "--max-size", "1Mi")
            assert_bytes(mapping.read(), content(images.raw))
        finally:
            mapping.close()


@needs_passthrough
@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_a_lent_file_keeps_its_bytes_when_the_daemon_ends(lazydisk, nginx, images, sig):
    mount = lazydisk.start(nginx.url(images.raw))
    path = mount.image()
    assert_same(path, images.raw)
    fd = opened_lent(mount, path)
    try:
        mount.signal(sig)
        mount.wait_end()
        lazydisk.ok("cache", "prune", "--max-size", "1Mi")
        assert_bytes(all_of(fd), content(images.raw))
    finally:
        os.close(fd)
    mount.destroy()
    with lazydisk.mounted(nginx.url(images.raw)) as again:
        assert_same(again.image(), images.raw)


@needs_passthrough
def test_a_lent_file_never_becomes_another_version(lazydisk, bad):
    old, new = os.urandom(8 * MIB), os.urandom(8 * MIB)
    url = bad.file("/disk.raw", old, etag='"one"')
    mount = lazydisk.start(url)
    assert content(mount.image()) == old
    fd = opened_lent(mount, mount.image())
    try:
        mount.crash()
        bad.change("/disk.raw", data=new, etag='"two"')
        with lazydisk.mounted(url) as again:
            assert_bytes(content(again.image()), new)
            assert_bytes(all_of(fd), old)
    finally:
        os.close(fd)
