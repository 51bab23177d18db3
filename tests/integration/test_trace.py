# SPDX-License-Identifier: Apache-2.0
"""Boots that are recorded, taken along and replayed, and images that complete themselves."""

import gzip
import json
import lzma
import os
import random
import threading
import time

import pytest

import faults
from command import slowness
from util import (KIB, MIB, assert_bytes, drop_pages, offset_words, one_line, pread, refuses, seeded_bytes,
                  sha256, wait_for)

SIZE = 32 * MIB
DATA = offset_words(8, 8 + SIZE)
GRANULE = 64 * KIB
PLACES = random.Random(4).sample(range(SIZE // GRANULE), 60)


def boot(mount, places=PLACES):
    """Reads as a machine that boots does: here and there, always the same."""
    fd = os.open(mount.image(), os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)  # the kernel guesses nothing
        for place in places:
            at = place * GRANULE + 4096
            assert_bytes(os.pread(fd, 4096, at), DATA[at:at + 4096], at)
    finally:
        os.close(fd)


def settled(mount):
    """How many misses there were, once nothing is replayed any more."""
    wait_for(lambda: not mount.layer("cache")["replaying"], 20, "the replay")
    return mount.layer("cache")["misses"]


def recorded(lazydisk, url, tmp, *options):
    """The trace of one boot, exported."""
    with lazydisk.mounted("--readahead", 0, "--no-complete", *options, url) as mount:
        boot(mount)
    path = os.path.join(tmp, "disk.trace")
    lazydisk.ok("trace", "export", url, path)
    return path


@pytest.fixture(name="elsewhere")
def fixture_elsewhere(tmp):
    """The options of a machine that has nothing cached yet."""
    return ["--cache-dir", os.path.join(tmp, "elsewhere"), "--readahead", 0, "--no-complete"]


def info(lazydisk, *args):
    return json.loads(lazydisk.ok("trace", "info", "--json", *args))


# traces

def test_a_boot_recorded_here_is_fetched_ahead_there(lazydisk, bad, tmp, elsewhere):
    url = bad.file("/disk.img", DATA)
    trace = recorded(lazydisk, url, tmp)
    assert os.stat(trace).st_size < 4 * KIB
    bad.forget()
    with lazydisk.mounted("--trace", trace, *elsewhere, url) as mount:
        misses = settled(mount)  # of opening
        before = len(bad.requests())
        assert before <= 60 + 4  # neighbours come together when the link suggests it
        assert bad.bytes_sent("/disk.img") < 62 * GRANULE + SIZE // 8
        boot(mount)
        cache = mount.layer("cache")
        assert len(bad.requests()) == before
        assert cache["misses"] == misses <= 1
        assert cache["trace_boots"] == 1
        assert cache["bytes_foreseen"] >= 59 * GRANULE
        assert cache["foretold_bytes"] == cache["touched_bytes"] >= 60 * GRANULE
        shown = lazydisk.ok("status", mount.point)
        assert "of 1 boot:" in shown and "100 % of it foretold" in shown, shown
    # And this boot is one more of those that the trace is of.
    assert info(lazydisk, "--cache-dir", elsewhere[1], url)["boots"] == 2


def test_the_second_mount_here_replays_what_was_evicted(lazydisk, bad):
    url = bad.file("/disk.img", DATA)
    with lazydisk.mounted("--readahead", 0, url) as mount:
        boot(mount)
    lazydisk.ok("cache", "prune", "--max-size", 0)
    with lazydisk.mounted("--readahead", 0, url) as mount:
        boot(mount)
    with lazydisk.mounted("--readahead", 0, url) as mount:
        misses = settled(mount)
        boot(mount)
        assert mount.layer("cache")["misses"] == misses <= 1
        assert mount.layer("cache")["trace_boots"] >= 1
    found = info(lazydisk, url)
    assert found["bytes"] >= 60 * GRANULE and found["size"] == SIZE


def test_a_qcow2_is_traced_as_it_is_stored(lazydisk, nginx, images, tmp, elsewhere):
    url = nginx.url(images.variant("zlib"))
    with open(images.raw, "rb") as f:
        raw = f.read()
    places = [p for p in range(0, len(raw) - 4096, len(raw) // 20)]
    with lazydisk.mounted("--no-complete", url) as mount:
        for at in places:
            assert_bytes(pread(mount.image(), 4096, at), raw[at:at + 4096], at)
    trace = os.path.join(tmp, "trace")
    lazydisk.ok("trace", "export", url, trace)
    with lazydisk.mounted("--trace", trace, *elsewhere, url) as mount:
        misses = settled(mount)
        for at in places:
            assert_bytes(pread(mount.image(), 4096, at), raw[at:at + 4096], at)
        assert mount.layer("cache")["misses"] == misses


def ignored(lazydisk, mount):
    """One warning, and no replay; the bytes are right as ever."""
    wait_for(lambda: "ignored" in mount.stderr(), 30, "the warning")
    boot(mount, PLACES[:5])
    assert mount.layer("cache")["trace_boots"] == 0
    assert mount.layer("cache")["bytes_replayed"] == 0
    assert "ignored" in one_line(mount.stderr())
    return mount.stderr()


@pytest.mark.parametrize("how", ["damaged", "cut", "other version", "no trace", "empty"])
def test_a_trace_that_is_not_right_is_ignored_with_one_warning(
        lazydisk, bad, tmp, elsewhere, how):
    url = bad.file("/disk.img", DATA)
    trace = recorded(lazydisk, url, tmp)
    with open(trace, "rb") as f:
        record = bytearray(f.read())
    if how == "damaged":
        record[100] ^= 1
    elif how == "cut":
        del record[-20:]
    elif how == "other version":
        bad.change("/disk.img", etag='"v2"')
    else:
        record = b"" if how == "empty" else b"1,2,3\n"
    with open(trace, "wb") as f:
        f.write(record)
    with lazydisk.mounted("--trace", trace, *elsewhere, url) as mount:
        assert trace in ignored(lazydisk, mount)


def test_the_trace_beside_the_image_is_found(lazydisk, bad, tmp, elsewhere):
    url = bad.file("/a/disk.img", DATA)
    with open(recorded(lazydisk, url, tmp), "rb") as f:
        bad.file("/a/disk.img.trace", f.read())
    bad.forget()
    with lazydisk.mounted(*elsewhere, url) as mount:
        wait_for(lambda: mount.layer("cache")["trace_boots"] == 1, 30, "the trace")
        misses = settled(mount)
        boot(mount)
        assert mount.layer("cache")["misses"] == misses <= 1
        assert mount.stderr() == ""
    assert len(bad.requests("/a/disk.img.trace")) == 1
    # What the cache knows now is better.
    with lazydisk.mounted(*elsewhere, url) as mount:
        settled(mount)
        assert mount.layer("cache")["trace_boots"] == 2
    assert len(bad.requests("/a/disk.img.trace")) == 1


def test_that_there_is_no_trace_goes_without_a_word(lazydisk, bad, elsewhere):
    url = bad.file("/disk.img?sig=1", DATA)
    url = bad.file("/disk.img", DATA) + "?sig=1"
    with lazydisk.mounted(*elsewhere, url) as mount:
        asked = wait_for(lambda: bad.requests("/disk.img.trace"), 30, "the question")
        boot(mount, PLACES[:5])
        assert mount.stderr() == ""
    assert len(asked) == 1 and asked[0].query == "sig=1"
    page = bad.file("/page", DATA)
    bad.file("/page.trace", b"<html>Welcome</html>")
    with lazydisk.mounted(*elsewhere, page) as mount:
        wait_for(lambda: bad.requests("/page.trace"), 30, "the question")
        boot(mount, PLACES[:5])
        assert mount.stderr() == ""


def test_a_damaged_trace_beside_the_image_is_worth_a_warning(lazydisk, bad, tmp, elsewhere):
    url = bad.file("/disk.img", DATA)
    with open(recorded(lazydisk, url, tmp), "rb") as f:
        record = bytearray(f.read())
    record[-1] ^= 1
    bad.file("/disk.img.trace", bytes(record))
    with lazydisk.mounted(*elsewhere, url) as mount:
        assert url + ".trace" in ignored(lazydisk, mount)


def test_a_server_that_is_slow_with_the_trace_delays_nothing(lazydisk, bad, elsewhere):
    url = bad.file("/disk.img", DATA)
    bad.file("/disk.img.trace", b"x", faults=[faults.delay(30)])
    begun = time.monotonic()
    mount = lazydisk.start(*elsewhere, url)
    boot(mount, PLACES[:5])
    wait_for(lambda: bad.requests("/disk.img.trace"), 30, "the question")
    mount.umount()
    assert time.monotonic() - begun < 15


def test_no_trace_asks_for_none_and_keeps_none(lazydisk, bad, elsewhere):
    url = bad.file("/disk.img", DATA)
    with lazydisk.mounted("--no-trace", *elsewhere, url) as mount:
        boot(mount, PLACES[:5])
        assert not mount.layer("cache")["tracing"]
    assert not bad.requests("/disk.img.trace")
    done = lazydisk.run("trace", "info", "--cache-dir", elsewhere[1], url)
    assert done.returncode == 1
    assert "no boot of" in one_line(done.stderr)


def test_traces_are_shown_brought_and_dropped(lazydisk, bad, tmp):
    url = bad.file("/disk.img", DATA)
    mirror = bad.file("/mirror.img", DATA, etag='"m"')
    trace = recorded(lazydisk, url, tmp)
    here, there = info(lazydisk, url), info(lazydisk, trace)
    assert here == there
    assert here["boots"] == 1 and here["bytes"] >= 60 * GRANULE and here["rare_bytes"] == 0
    assert here["requests"] <= 61
    assert "60" not in lazydisk.ok("trace", "drop", url)
    assert lazydisk.run("trace", "export", url, trace + "2").returncode == 1
    # Of a copy with a validator of its own it is good when somebody says so.
    lazydisk.ok("trace", "import", mirror, trace)
    assert info(lazydisk, mirror)["bytes"] == here["bytes"]
    assert info(lazydisk, mirror)["version"] != here["version"]
    with lazydisk.mounted("--readahead", 0, "--no-complete", mirror) as mount:
        misses = settled(mount)
        boot(mount)
        assert mount.layer("cache")["misses"] == misses <= 1
    other = bad.file("/other.img", DATA[:SIZE // 2])
    done = lazydisk.run("trace", "import", other, trace)
    assert done.returncode == 1 and "bytes" in one_line(done.stderr)


def test_a_killed_daemon_leaves_a_cache_that_records_on(lazydisk, bad, tmp):
    url = bad.file("/disk.img", DATA)
    recorded(lazydisk, url, tmp)
    mount = lazydisk.start("--complete", "--complete-delay", 0, "--complete-rate", "4Mi", url)
    wait_for(lambda: mount.layer("cache")["bytes_completed"] > MIB, 20, "some completion")
    boot(mount, PLACES[:30])
    mount.crash()
    assert info(lazydisk, url)["boots"] == 1
    with lazydisk.mounted("--complete", "--complete-delay", 0, url) as mount:
        wait_for(lambda: mount.layer("cache")["completion"] == "done", 20, "completion")
        boot(mount)
    assert info(lazydisk, url)["boots"] == 2
    assert lazydisk.ok("cache", "verify").count("0 B damaged") == 1


@pytest.mark.parametrize("args, says", [
    (["--trace", "/nowhere/x"], "--trace: cannot read"),
    (["--trace", "/dev/null", "--no-trace"], "either --trace or --no-trace"),
    (["--complete", "--no-complete"], "either --complete or --no-complete"),
    (["--complete", "--no-cache"], "--complete needs a cache"),
    (["--complete-rate", "0"], "--complete-rate"),
    (["--complete-delay", "soon"], "--complete-delay"),
    (["--checksum", "sha256:12"], "--checksum"),
])
def test_options_that_make_no_sense_are_refused(lazydisk, args, says):
    done = lazydisk.run("mount", *args, "http://localhost:1/x", lazydisk.point())
    assert done.returncode == 2
    assert says in one_line(done.stderr)


def test_what_is_said_of_one_image_is_not_said_of_two(lazydisk, tmp):
    checksum = "sha256:" + "0" * 64
    for args in (["--checksum", checksum], ["--trace", "/dev/null"]):
        done = lazydisk.run("mount", *args, "http://localhost:1/x", "http://localhost:1/y",
                            lazydisk.point())
        assert done.returncode == 2
        assert args[0] in one_line(done.stderr)
    path = os.path.join(tmp, "local.img")
    with open(path, "wb") as f:
        f.truncate(MIB)
    done = lazydisk.run("mount", "--checksum", checksum, path, lazydisk.point())
    assert done.returncode == 2 and "local file" in one_line(done.stderr)


# completion

def completed(mount):
    wait_for(lambda: mount.layer("cache")["completion"] == "done", 30, "completion")
    return mount.layer("cache")


def lowest(mount):
    """The cache of what is stored on the server."""
    return [found for found in mount.status()["images"][0]["layers"] if found["name"] == "cache"][-1]


def assert_all(mount):
    drop_pages(mount.image())
    for at in range(0, SIZE, MIB):
        assert_bytes(pread(mount.image(), MIB, at), DATA[at:at + MIB], at)


def test_a_complete_image_needs_its_server_no_more(lazydisk, bad):
    url = bad.file("/disk.img", DATA)
    with lazydisk.mounted("--complete", "--complete-delay", 0, url) as mount:
        cache = completed(mount)
        assert cache["present_bytes"] == SIZE
        assert cache["bytes_completed"] > SIZE * 0.9
        assert bad.bytes_sent("/disk.img") < SIZE * 1.02
        bad.close()
        assert_all(mount)
        assert "done" in lazydisk.ok("status", mount.point)
    with lazydisk.mounted(url) as mount:
        assert_all(mount)


def test_the_whole_is_verified(lazydisk, bad, tmp):
    url = bad.file("/disk.img", DATA)
    path = os.path.join(tmp, "copy")
    with open(path, "wb") as f:
        f.write(DATA)
    right = "sha256:" + sha256(path)
    with lazydisk.mounted("--complete", "--complete-delay", 0, "--checksum", right, url) as mount:
        wait_for(lambda: mount.layer("cache").get("verified"), 30 * slowness(), "verifying")
        assert_all(mount)
        assert "verified" in lazydisk.ok("status", mount.point)
    wrong = "sha256:" + "0" * 64
    with lazydisk.mounted("--checksum", wrong, url) as mount:
        wait_for(lambda: mount.layer("cache").get("verified") is False, 30 * slowness(), "verifying")
        wait_for(lambda: refuses(mount.image()), 30 * slowness(), "the end of the pages")
        assert "checksum does not match" in mount.stderr()
        assert "does not match" in lazydisk.ok("status", mount.point)
    assert url not in lazydisk.ok("cache", "list")


@pytest.mark.parametrize("packer", ["gz", "xz"])
def test_what_was_decoded_of_wrong_bytes_is_forgotten_with_them(lazydisk, bad, tmp, packer):
    pack = {"gz": gzip.compress, "xz": lambda d: lzma.compress(d, preset=0)}[packer]
    wrong, right = (seeded_bytes(4 * MIB, seed) for seed in (1, 2))
    packed = pack(right)
    assert len(packed) == len(pack(wrong))
    path = os.path.join(tmp, "packed")
    with open(path, "wb") as f:
        f.write(packed)
    checksum = "sha256:" + sha256(path)
    go_on = threading.Event()
    url = bad.file("/disk.raw." + packer, pack(wrong), faults=[faults.hold(2 * MIB, 3 * MIB, go_on)])
    with lazydisk.mounted("--complete", "--complete-delay", 0, "--checksum", checksum, url) as mount:
        # All is not known before this was read.
        assert_bytes(pread(mount.image(), 65536, 0), wrong[:65536])
        go_on.set()
        wait_for(lambda: lowest(mount).get("verified") is False, 30 * slowness(), "verifying")
        wait_for(lambda: refuses(mount.image()), 30 * slowness(), "the end of the pages")
    assert url not in lazydisk.ok("cache", "list")
    # Nothing tells it from what it was.
    bad.change("/disk.raw." + packer, data=packed)
    for options in ([], ["--complete", "--complete-delay", 0, "--checksum", checksum]):
        with lazydisk.mounted(*options, url) as mount:
            assert_bytes(pread(mount.image(), 4 * MIB, 0), right)
            if options:
                wait_for(lambda: lowest(mount).get("verified"), 30 * slowness(), "verifying")
                drop_pages(mount.image())
                assert_bytes(pread(mount.image(), 4 * MIB, 0), right)


def test_completion_keeps_to_its_rate(lazydisk, bad):
    """A bound that a slow machine does not break."""
    url = bad.file("/disk.img", DATA)
    begun = time.monotonic()
    with lazydisk.mounted("--complete", "--complete-delay", 0, "--complete-rate", "8Mi",
                          url) as mount:
        def got():
            return mount.layer("cache")["bytes_completed"]
        wait_for(lambda: got() > 8 * MIB, 30, "completion")
        done = got()
        assert done <= (time.monotonic() - begun) * 8 * MIB * 1.05 + 2 * MIB


def test_it_completes_by_itself_when_a_third_was_read(lazydisk, bad):
    url = bad.file("/disk.img", DATA)
    with lazydisk.mounted("--complete-delay", 0, "--readahead", 0, url) as mount:
        pread(mount.image(), MIB, 0)
        assert mount.layer("cache")["completion"] == "idle"
        pread(mount.image(), 11 * MIB, MIB)
        completed(mount)
    lazydisk.ok("cache", "drop", url)
    with lazydisk.mounted("--no-complete", "--complete-delay", 0, url) as mount:
        pread(mount.image(), 12 * MIB, 0)
        assert mount.layer("cache")["completion"] == "off"


def test_readers_come_before_completion(lazydisk, bad):
    """The server takes its time for every answer: whoever waits for one is alone on the link."""
    url = bad.file("/disk.img", DATA, faults=[faults.delay(0.05)])
    with lazydisk.mounted("--complete", "--complete-delay", 0, "--readahead", 0, url) as mount:
        wait_for(lambda: mount.layer("cache")["completion"] == "running", 30, "completion")
        bad.forget()
        boot(mount, PLACES[:20])
        while_reading = len(bad.requests())
        # One for each read that the completion was not faster with, and next to none for itself.
        assert while_reading <= 20 + 6
        completed(mount)
        assert_all(mount)


def test_an_image_larger_than_the_cache_is_not_completed(lazydisk, bad):
    url = bad.file("/disk.img", DATA)
    with lazydisk.mounted("--complete", "--complete-delay", 0, "--cache-size", "16Mi",
                          url) as mount:
        assert mount.layer("cache")["completion"] == "off"
        assert "cannot be completed" in one_line(mount.stderr())
        boot(mount)
