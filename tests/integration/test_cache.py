# SPDX-License-Identifier: Apache-2.0
"""What was fetched is kept: over restarts, crashes, changes, full disks, rot, and between daemons."""

import contextlib
import glob
import json
import os
import random
import threading

import pytest

import faults
from util import (KIB, MIB, assert_bytes, assert_same, disk_used, drop_pages, offset_words, one_line,
                  pread, run, seeded_bytes, wait_for)

SIZE = 16 * MIB
DATA = offset_words(8, 8 + 6 * MIB) + bytes(4 * MIB) + seeded_bytes(6 * MIB, "cache")
OTHER = offset_words(8, 8 + SIZE, seed=9)


def serve(server, path="/disk.img", data=DATA, **kwargs):
    return server.file(path, data, **kwargs)


def assert_whole(path, data=DATA):
    drop_pages(path)
    step = 1 * MIB
    for at in range(0, len(data), step):
        assert_bytes(pread(path, step, at), data[at:at + step], at)


def files_of(lazydisk, name):
    found = glob.glob(os.path.join(lazydisk.cache, "**", name), recursive=True)
    assert found, f"no file {name} in {lazydisk.cache}"
    return found


# what is kept

@pytest.mark.parametrize("variant", ["raw", "plain", "zlib"])
def test_a_remount_fetches_next_to_nothing(lazydisk, nginx, images, variant):
    url = nginx.url(images.variant(variant))
    with lazydisk.mounted(url) as mount:
        assert_same(mount.image(), images.raw)
        fetched = mount.layer("http")["bytes_fetched"]
        assert fetched >= os.stat(images.variant(variant)).st_size * 0.4
    with lazydisk.mounted(url) as mount:
        assert_same(mount.image(), images.raw)
        assert mount.layer("http")["bytes_fetched"] < fetched * 0.01


def test_nothing_is_fetched_twice_within_one_mount(lazydisk, bad):
    with lazydisk.mounted(serve(bad)) as mount:
        for _ in range(3):
            assert_whole(mount.image())
        assert bad.bytes_sent() < SIZE * 1.05
        assert mount.layer("cache")["hits"] > 0


def test_the_cache_is_small_where_the_image_is_zero(lazydisk, bad):
    data = seeded_bytes(1 * MIB, "a") + bytes(14 * MIB) + seeded_bytes(1 * MIB, "b")
    with lazydisk.mounted(serve(bad, data=data)) as mount:
        assert_whole(mount.image(), data)
    assert disk_used(lazydisk.cache) < 3 * MIB


def test_the_cache_belongs_to_its_user_only(lazydisk, bad):
    with lazydisk.mounted(serve(bad)) as mount:
        pread(mount.image(), 4096, 0)
    assert os.stat(lazydisk.cache).st_mode & 0o777 == 0o700


def test_no_cache_leaves_nothing_behind_and_reads_the_same(lazydisk, bad):
    with lazydisk.mounted("--no-cache", serve(bad)) as mount:
        assert_whole(mount.image())
        assert mount.layer("cache")["mode"] == "memory"
    assert not os.path.exists(lazydisk.cache) or disk_used(lazydisk.cache) < 64 * KIB


def test_readers_of_one_place_share_one_fetch(lazydisk, bad):
    url = serve(bad, faults=[faults.beyond(MIB, faults.delay(0.5))])
    with lazydisk.mounted("--readahead", 0, url) as mount:
        bad.forget()
        got = []
        threads = [threading.Thread(target=lambda: got.append(pread(mount.image(), 4096, 8 * MIB)))
                   for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert got == [DATA[8 * MIB:8 * MIB + 4096]] * 8
        covering = [r for r in bad.requests()
                    if r.ranged and r.start <= 8 * MIB and (r.end or SIZE) >= 8 * MIB]
        assert len(covering) == 1


# change and loss of the remote

def test_a_changed_image_is_noticed_at_the_next_mount(lazydisk, bad):
    url = serve(bad)
    with lazydisk.mounted(url) as mount:
        assert_whole(mount.image())
    bad.change("/disk.img", data=OTHER, etag='"v2"')
    with lazydisk.mounted(url) as mount:
        assert_whole(mount.image(), OTHER)
    bad.change("/disk.img", data=OTHER[:5 * MIB], etag='"v3"')
    with lazydisk.mounted(url) as mount:
        assert_whole(mount.image(), OTHER[:5 * MIB])


def test_an_image_without_validator_is_not_trusted_over_a_restart(lazydisk, bad):
    url = serve(bad, etag=None)
    with lazydisk.mounted(url) as mount:
        assert_whole(mount.image())
    bad.change("/disk.img", data=OTHER)
    with lazydisk.mounted(url) as mount:
        assert_whole(mount.image(), OTHER)


def test_a_change_during_a_mount_fails_what_is_missing_only(lazydisk, bad):
    url = serve(bad)
    with lazydisk.mounted("--timeout", 3, "--readahead", 0, url) as mount:
        assert_bytes(pread(mount.image(), 64 * KIB, 0), DATA[:64 * KIB])
        bad.change("/disk.img", data=OTHER, etag='"v2"')
        with pytest.raises(OSError):
            pread(mount.image(), 4096, 14 * MIB)
        drop_pages(mount.image())
        assert_bytes(pread(mount.image(), 64 * KIB, 0), DATA[:64 * KIB])
    with lazydisk.mounted(url) as mount:
        assert_whole(mount.image(), OTHER)


def test_a_second_version_that_comes_back_is_right_again(lazydisk, bad):
    url = serve(bad)
    for data, etag in ((DATA, '"v1"'), (OTHER, '"v2"'), (DATA, '"v1"')):
        bad.change("/disk.img", data=data, etag=etag)
        with lazydisk.mounted(url) as mount:
            assert_bytes(pread(mount.image(), 300 * KIB, 5 * MIB), data[5 * MIB:][:300 * KIB])
    with lazydisk.mounted(url) as mount:
        assert_whole(mount.image())


def test_with_the_server_gone_what_was_read_is_served(lazydisk, bad):
    url = serve(bad)
    mount = lazydisk.start("--timeout", 2, "--readahead", 0, url)
    part = pread(mount.image(), MIB, 3 * MIB)
    assert_bytes(part, DATA[3 * MIB:4 * MIB])
    bad.close()
    drop_pages(mount.image())
    assert_bytes(pread(mount.image(), MIB, 3 * MIB), part)
    with pytest.raises(OSError):
        pread(mount.image(), 4096, 15 * MIB)
    mount.umount()


@pytest.mark.parametrize("how", ["gone", "503", "429"])
def test_a_mount_starts_from_the_cache_when_the_server_cannot_be_asked(lazydisk, bad, how):
    url = serve(bad)
    with lazydisk.mounted(url) as mount:
        assert_whole(mount.image())
    if how == "gone":
        bad.close()
    else:
        bad.change("/disk.img", faults=(faults.status(int(how)),))
    with lazydisk.mounted("--timeout", 4, url) as mount:
        assert_whole(mount.image())
        assert mount.layer("http")["unconfirmed"] is True
        with open(mount.stderr_path, encoding="utf-8") as f:
            assert "cannot be asked" in f.read()


def test_a_qcow2_starts_from_the_cache_offline(lazydisk, bad, images):
    with open(images.variant("zlib"), "rb") as f:
        url = serve(bad, path="/sample.qcow2", data=f.read())
    with lazydisk.mounted(url) as mount:
        assert_same(mount.image(), images.raw)
    bad.close()
    with lazydisk.mounted("--timeout", 4, url) as mount:
        assert_same(mount.image(), images.raw)


def test_a_deleted_image_is_not_served_from_the_cache(lazydisk, bad):
    url = serve(bad)
    with lazydisk.mounted(url) as mount:
        assert_whole(mount.image())
    bad.change("/disk.img", faults=(faults.status(404),))
    done = lazydisk.run("mount", url, lazydisk.point())
    assert done.returncode == 3
    one_line(done.stderr)


def test_a_server_without_ranges_is_spooled_once(lazydisk, bad):
    url = serve(bad, faults=[faults.no_ranges(DATA)])
    with lazydisk.mounted(url) as mount:
        assert_bytes(pread(mount.image(), 4096, SIZE - 4096), DATA[-4096:])
        assert_whole(mount.image())
        assert bad.bytes_sent() < SIZE * 1.2
    bad.forget()
    with lazydisk.mounted(url) as mount:
        assert_whole(mount.image())
        # The opening meets a 200 again, of which it takes no more than it must.
        assert bad.bytes_sent() < SIZE * 0.6


def test_readers_of_a_server_without_ranges_wait_only_for_their_offset(lazydisk, bad):
    url = serve(bad, faults=[faults.no_ranges(DATA), faults.on_get(faults.stall(8 * MIB, 3))])
    with lazydisk.mounted("--timeout", 30, url) as mount:
        assert_bytes(pread(mount.image(), 4096, MIB), DATA[MIB:MIB + 4096])
        assert not any(r.done and r.sent == SIZE for r in bad.requests())
        assert_whole(mount.image())


# crashes

def read_until_dead(path, data, seed, wrong, dead):
    """Random reads until the daemon is gone; wrong bytes are kept in @wrong."""
    rng = random.Random(seed)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        while not dead.is_set():  # what the kernel has can be read without a daemon, too
            at = rng.randrange(0, len(data), 4096)
            length = rng.choice([4096, 64 * KIB, 512 * KIB])
            got = os.pread(fd, length, at)
            if got != data[at:at + len(got)]:
                wrong.append((at, len(got)))
                return
    except OSError:
        return
    finally:
        with contextlib.suppress(OSError):  # close() tells of the dead daemon, too
            os.close(fd)


def kill_while_filling(lazydisk, url, data, rng, wrong):
    mount = lazydisk.start("--timeout", 10, url)
    path = mount.image()
    dead = threading.Event()
    readers = [threading.Thread(target=read_until_dead,
                                args=(path, data, rng.random(), wrong, dead))
               for _ in range(3)]
    for reader in readers:
        reader.start()
    # What is waited for here is the moment itself, a random one.
    threading.Event().wait(rng.random() * 0.12)
    mount.crash()
    dead.set()
    for reader in readers:
        reader.join()
    lazydisk.mounts.remove(mount)
    os.rmdir(mount.point)


@pytest.mark.slow
@pytest.mark.limit(600)
def test_two_hundred_kills_while_filling_leave_no_wrong_byte(lazydisk, bad):
    """Each round kills four daemons, one after another, over one object, then checks every byte."""
    seed = int.from_bytes(os.urandom(4), "little")
    rng = random.Random(seed)
    data = DATA[2 * MIB:5 * MIB] + DATA[10 * MIB:13 * MIB]
    wrong = []
    kept = 0
    for number in range(50):
        slow = faults.Switch(faults.drip(int(rng.uniform(5, 40) * MIB)), on=True)
        url = serve(bad, f"/disk{number % 10}.img", data, etag=f'"v{number}"', faults=[slow])
        for _ in range(4):
            kill_while_filling(lazydisk, url, data, rng, wrong)
            assert not wrong, f"seed {seed}, round {number}: wrong bytes at {wrong}"
        slow.on = False
        bad.forget()
        mount = lazydisk.start(url)
        assert_whole(mount.image(), data)
        kept += bad.bytes_sent() < len(data)
        mount.umount()
        lazydisk.mounts.remove(mount)
        bad.change(f"/disk{number % 10}.img", data=b"")
    assert kept >= 25, "the kills left nothing in the cache: nothing was tested"


def test_a_kill_keeps_what_was_there(lazydisk, bad):
    url = serve(bad)
    mount = lazydisk.start(url)
    assert_whole(mount.image())
    mount.crash()
    bad.forget()
    with lazydisk.mounted(url) as mount:
        assert_whole(mount.image())
    assert bad.bytes_sent() < SIZE * 0.4  # the last fills may not have been written


# a cache disk in trouble

@pytest.fixture(name="small_disk")
def fixture_small_disk(tmp):
    """A file system of 6 MiB, for a cache directory."""
    point = os.path.join(tmp, "small")
    os.mkdir(point)
    run("mount", "-t", "tmpfs", "-o", "size=6m", "none", point)
    yield point
    run("umount", "-l", point)


def test_no_reader_notices_a_cache_disk_that_is_too_small(lazydisk, bad, small_disk):
    with lazydisk.mounted("--cache-dir", small_disk, serve(bad)) as mount:
        assert_whole(mount.image())
        assert_whole(mount.image())
    with lazydisk.mounted("--cache-dir", small_disk, serve(bad)) as mount:
        assert_whole(mount.image())


def fill_up(path):
    """Writes until the file system has no more room."""
    with open(path, "wb", buffering=0) as f:
        for step in (MIB, KIB):
            try:
                while True:
                    f.write(b"x" * step)
            except OSError:
                pass


def test_no_reader_notices_a_cache_disk_that_fills_up(lazydisk, bad, tmp):
    """An ext4 of its own, which another file fills while the mount reads."""
    disk, point = os.path.join(tmp, "disk"), os.path.join(tmp, "point")
    os.mkdir(point)
    with open(disk, "wb") as f:
        f.truncate(64 * MIB)
    run("mkfs.ext4", "-q", "-m", "0", disk)
    run("mount", "-o", "loop", disk, point)
    try:
        with lazydisk.mounted("--cache-dir", point + "/cache", "--cache-size", "1Gi",
                              "--readahead", 0, serve(bad)) as mount:
            assert_bytes(pread(mount.image(), MIB, 0), DATA[:MIB])
            fill_up(point + "/other")
            assert os.statvfs(point).f_bavail < 64
            assert_whole(mount.image())
            assert mount.stderr().count("\n") <= 3
        with lazydisk.mounted("--cache-dir", point + "/cache", serve(bad)) as mount:
            assert_whole(mount.image())
    finally:
        run("umount", "-l", point)


def test_a_cache_directory_that_cannot_be_written_is_done_without(lazydisk, bad, tmp):
    point = os.path.join(tmp, "readonly")
    os.mkdir(point)
    run("mount", "-t", "tmpfs", "-o", "ro,size=1m", "none", point)
    try:
        with lazydisk.mounted("--cache-dir", point + "/cache", serve(bad)) as mount:
            assert_whole(mount.image())
            assert mount.layer("cache")["mode"] == "memory"
            assert "cache" in one_line(mount.stderr())
    finally:
        run("umount", point)


def test_a_cache_directory_that_becomes_read_only_disturbs_nobody(lazydisk, bad, tmp):
    point = os.path.join(tmp, "cachefs")
    os.mkdir(point)
    run("mount", "-t", "tmpfs", "-o", "size=64m", "none", point)
    try:
        with lazydisk.mounted("--cache-dir", point + "/cache", serve(bad)) as mount:
            assert_bytes(pread(mount.image(), MIB, 0), DATA[:MIB])
        run("mount", "-o", "remount,ro", point)
        with lazydisk.mounted("--cache-dir", point + "/cache", serve(bad)) as mount:
            assert_whole(mount.image())
    finally:
        run("umount", "-l", point)


def test_a_cache_of_another_user_is_not_trusted(lazydisk, bad):
    with lazydisk.mounted(serve(bad)) as mount:
        assert_whole(mount.image())
    os.chmod(lazydisk.cache, 0o777)
    with lazydisk.mounted(serve(bad)) as mount:
        assert_whole(mount.image())
        assert mount.layer("cache")["mode"] == "memory"


def test_a_cache_of_another_version_is_left_alone(lazydisk, bad):
    os.makedirs(lazydisk.cache, mode=0o700)
    with open(os.path.join(lazydisk.cache, "VERSION"), "w", encoding="ascii") as f:
        f.write("something else 99\n")
    with lazydisk.mounted(serve(bad)) as mount:
        assert_whole(mount.image())
    assert os.listdir(lazydisk.cache) == ["VERSION"]


# rot

def flip_bits(path, count, rng):
    """Flips @count bits where the file has data; returns how many were flipped."""
    with open(path, "r+b") as f:
        size = os.fstat(f.fileno()).st_size
        for _ in range(count):
            at = rng.randrange(size)
            f.seek(at)
            byte = f.read(1)[0]
            f.seek(at)
            f.write(bytes([byte ^ (1 << rng.randrange(8))]))


@pytest.mark.parametrize("name", ["data", "map", "meta"])
def test_flipped_bits_are_noticed_and_fetched_again(lazydisk, bad, name):
    url = serve(bad)
    with lazydisk.mounted(url) as mount:
        assert_whole(mount.image())
    rng = random.Random(4)
    for path in files_of(lazydisk, name):
        flip_bits(path, 40, rng)
    bad.forget()
    with lazydisk.mounted(url) as mount:
        assert_whole(mount.image())
        if name == "data":
            assert mount.layer("cache")["torn"] > 0
        assert bad.bytes_sent() > 0
    bad.forget()
    with lazydisk.mounted(url) as mount:
        assert_whole(mount.image())
    assert bad.bytes_sent() < SIZE * 0.02


@pytest.mark.parametrize("name", ["data", "map", "meta"])
@pytest.mark.parametrize("size", [0, 5000])
def test_truncated_files_are_noticed(lazydisk, bad, name, size):
    url = serve(bad)
    with lazydisk.mounted(url) as mount:
        assert_whole(mount.image())
    for path in files_of(lazydisk, name):
        os.truncate(path, size)
    with lazydisk.mounted(url) as mount:
        assert_whole(mount.image())


def test_bits_that_flip_during_a_mount_of_another_daemon_are_noticed(lazydisk, bad):
    url = serve(bad)
    with lazydisk.mounted(url) as first:
        assert_whole(first.image())
        for path in files_of(lazydisk, "data"):
            flip_bits(path, 20, random.Random(8))
        with lazydisk.mounted(url) as second:
            assert_whole(second.image())


# sharing

def test_two_daemons_share_one_cache(lazydisk, bad):
    url = serve(bad)
    with lazydisk.mounted(url) as one, lazydisk.mounted(url) as two:
        failures = []

        def check(path, seed):
            rng = random.Random(seed)
            for _ in range(150):
                at = rng.randrange(0, SIZE - 4096)
                length = rng.choice([100, 4096, 200 * KIB])
                if pread(path, length, at) != DATA[at:at + length]:
                    failures.append(at)

        threads = [threading.Thread(target=check, args=(m.image(), seed))
                   for seed, m in enumerate((one, two, one, two))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert_whole(one.image())
        bad.forget()
        assert_whole(two.image())
        assert bad.bytes_sent() < SIZE * 0.05
        assert one.layer("cache")["mode"] == two.layer("cache")["mode"] == "disk"


def test_a_killed_daemon_does_not_stop_its_neighbour(lazydisk, bad):
    url = serve(bad)
    one = lazydisk.start(url)
    with lazydisk.mounted(url) as two:
        assert_bytes(pread(one.image(), MIB, MIB), DATA[MIB:2 * MIB])
        one.crash()
        assert_whole(two.image())


def test_an_old_version_in_use_and_a_new_one_do_not_mix(lazydisk, bad):
    url = serve(bad)
    with lazydisk.mounted("--readahead", 0, "--timeout", 2, url) as old:
        assert_bytes(pread(old.image(), MIB, 0), DATA[:MIB])
        bad.change("/disk.img", data=OTHER, etag='"v2"')
        with lazydisk.mounted(url) as new:
            assert_whole(new.image(), OTHER)
            drop_pages(old.image())
            assert_bytes(pread(old.image(), MIB, 0), DATA[:MIB])
            with pytest.raises(OSError):
                pread(old.image(), 4096, 15 * MIB)
    with lazydisk.mounted(url) as new:
        assert_whole(new.image(), OTHER)


# the limit, and the cache command

def test_the_cache_stays_under_its_limit(lazydisk, bad):
    data = seeded_bytes(40 * MIB, "limit")
    url = serve(bad, data=data)
    with lazydisk.mounted("--cache-size", "12Mi", url) as mount:
        assert_whole(mount.image(), data)
        assert_whole(mount.image(), data)
        wait_for(lambda: disk_used(lazydisk.cache) <= 12 * MIB, 30, "the cache to shrink")
    assert 2 * MIB < disk_used(lazydisk.cache) <= 12 * MIB
    with lazydisk.mounted("--cache-size", "12Mi", url) as mount:
        assert_whole(mount.image(), data)


def test_the_least_recently_used_image_goes_first(lazydisk, bad):
    data = [seeded_bytes(6 * MIB, f"lru{n}") for n in range(3)]
    urls = [serve(bad, f"/disk{n}.img", data[n]) for n in range(3)]
    for url, content in zip(urls, data):
        with lazydisk.mounted(url) as mount:
            assert_whole(mount.image(), content)
        for path in files_of(lazydisk, "use"):  # their times tell the order of use
            os.utime(path, (os.stat(path).st_atime - 3600, os.stat(path).st_mtime - 3600))
    lazydisk.ok("cache", "prune", "--max-size", "13Mi")
    assert disk_used(lazydisk.cache) <= 13 * MIB
    bad.forget()
    with lazydisk.mounted(urls[2]) as mount:
        assert_whole(mount.image(), data[2])
    assert bad.bytes_sent() < MIB // 2


def filled(lazydisk, bad, count=2):
    urls = [serve(bad, f"/disk{n}.img", DATA) for n in range(count)]
    for url in urls:
        with lazydisk.mounted(url) as mount:
            assert_whole(mount.image())
    return urls


def test_cache_list_names_what_is_kept(lazydisk, bad):
    urls = filled(lazydisk, bad)
    text = lazydisk.ok("cache", "list")
    for url in urls:
        assert url in text
    assert lazydisk.ok("cache", "list", "--cache-dir", lazydisk.cache) == text


def test_cache_drop_forgets_one_image(lazydisk, bad):
    urls = filled(lazydisk, bad)
    lazydisk.ok("cache", "drop", urls[0])
    text = lazydisk.ok("cache", "list")
    assert urls[0] not in text and urls[1] in text
    assert disk_used(lazydisk.cache) < SIZE + MIB
    bad.forget()
    with lazydisk.mounted(urls[0]) as mount:
        assert_whole(mount.image())
    assert bad.bytes_sent() > SIZE // 2
    done = lazydisk.run("cache", "drop", bad.origin + "/never.img")
    assert done.returncode != 0
    assert "never.img" in one_line(done.stderr)


def test_cache_drop_leaves_an_image_in_use_alone(lazydisk, bad):
    url = serve(bad)
    with lazydisk.mounted(url) as mount:
        assert_whole(mount.image())
        done = lazydisk.run("cache", "drop", url)
        assert done.returncode != 0
        assert "use" in one_line(done.stderr)
        assert_whole(mount.image())


def test_cache_prune_obeys_its_limit(lazydisk, bad):
    filled(lazydisk, bad)
    assert disk_used(lazydisk.cache) > 12 * MIB
    lazydisk.ok("cache", "prune", "--max-size", "4Mi")
    assert disk_used(lazydisk.cache) <= 4 * MIB
    lazydisk.ok("cache", "prune", "--max-size", "0")
    assert disk_used(lazydisk.cache) < 256 * KIB


def test_cache_prune_while_mounted_takes_bytes_and_breaks_nobody(lazydisk, bad):
    url = serve(bad)
    with lazydisk.mounted(url) as mount:
        assert_whole(mount.image())
        lazydisk.ok("cache", "prune", "--max-size", "2Mi")
        assert_whole(mount.image())


def test_cache_verify_finds_rot(lazydisk, bad):
    urls = filled(lazydisk, bad)
    assert lazydisk.run("cache", "verify").returncode == 0
    flip_bits(files_of(lazydisk, "data")[0], 30, random.Random(3))
    done = lazydisk.run("cache", "verify")
    assert "0 bad" not in done.stdout
    assert lazydisk.run("cache", "verify").returncode == 0
    for url in urls:
        with lazydisk.mounted(url) as mount:
            assert_whole(mount.image())


def test_cache_list_in_json_is_complete(lazydisk, bad):
    urls = filled(lazydisk, bad, count=1)
    entries = json.loads(lazydisk.ok("cache", "list", "--json"))
    assert urls[0] in json.dumps(entries)


def test_an_empty_cache_lists_nothing(lazydisk):
    done = lazydisk.run("cache", "list")
    assert done.returncode == 0
    assert done.stderr == ""


# the I/O errors that a disk gives

def test_no_reader_notices_a_limit_on_the_size_of_files(lazydisk, bad):
    """Every write of the cache beyond 2 MiB fails, and none ends the daemon by its signal."""
    for number in range(4):
        url = serve(bad, f"/disk{number}.img")
        with lazydisk.mounted(url) as mount:
            run("prlimit", "--fsize=2097152:2097152", "--pid", mount.pid)
            assert_whole(mount.image())
            assert mount.layer("cache")["bypassed"] > 0
        with lazydisk.mounted(url) as mount:
            assert_whole(mount.image())
