# SPDX-License-Identifier: Apache-2.0
"""Servers that misbehave: the right bytes or a clear error in time, never wrong bytes or a hang."""

import errno
import os
import random
import re
import signal
import subprocess
import threading
import time

import pytest

import faults
from badserver import http_date
from command import slowness
from util import (KIB, MIB, assert_bytes, mounts_at, offset_words, one_line, pread, seeded_bytes,
                  wait_for)

SIZE = 3 * MIB
# Words that prove their offset, then noise: a raw disk that no probe takes for anything else.
DATA = offset_words(8, 8 + 2 * MIB) + seeded_bytes(SIZE - 2 * MIB, "faults")
OTHER = offset_words(8, 8 + SIZE, seed=5)  # another version of the same size
TIMEOUT = 1  # of --timeout

# what may come of reading through a server
IDENTICAL = "identical"  # every byte
REFUSED = "refused"  # no mount: one line, exit code 3 or 4
FAILS = "fails"  # the mount stands; reading all of it meets an error, never a wrong byte
SAFE = "safe"  # any of these: the server's answer leaves room for more than one

TRANSIENT = {
    "dropped connections": [faults.first(3, faults.drop)],
    "reset connections": [faults.first(3, faults.reset)],
    "connections dropped after the headers": [faults.first(3, faults.drop_after_headers)],
    "bodies cut in the middle": [faults.on_get(faults.first(4, faults.cut_half))],
    "bodies cut by a reset": [faults.on_get(faults.first(4, faults.cut(1000, by_reset=True)))],
    "every third body cut": [faults.on_get(faults.every(3, faults.cut(70 * KIB)))],
    "three times 503": [faults.first(3, faults.status(503))],
    "twice 500": [faults.first(2, faults.status(500))],
    "twice 502": [faults.first(2, faults.status(502))],
    "twice 504": [faults.first(2, faults.status(504))],
    "408 once": [faults.first(1, faults.status(408))],
    "503 except every fourth time": [faults.all_but_every(4, faults.status(503))],
    "429 with Retry-After": [faults.first(1, faults.status(429, retry_after=1))],
    "503 with a Retry-After of 0": [faults.first(2, faults.status(503, retry_after=0))],
    "connections closed each time": [faults.close_each],
    "a slow drip": [faults.drip(4 * MIB)],
    "late answers": [faults.delay(0.2)],
}

STEADY = {
    "HEAD forbidden": [faults.on_head(faults.status(403))],
    "HEAD not allowed": [faults.on_head(faults.status(405))],
    "HEAD not found": [faults.on_head(faults.status(404))],
    "HEAD that is dropped": [faults.on_head(faults.drop)],
    "ranges without Accept-Ranges": [faults.header("Accept-Ranges", None)],
    "ranges in chunks": [faults.on_206(faults.chunked)],
    "ranges until the connection closes": [faults.on_206(faults.until_close)],
    "ranges shorter than asked for": [faults.short_206(20000)],
    "no ranges": [faults.no_ranges(DATA)],
    "no ranges and Accept-Ranges: none": [
        faults.whole(DATA), faults.header("Accept-Ranges", "none")],
    "no ranges though Accept-Ranges says so": [faults.whole(DATA)],
    "no ranges and a cut in the middle": [
        faults.no_ranges(DATA), faults.on_get(faults.after(1, faults.first(2, faults.cut_half)))],
    "text/html as content type": [faults.header("Content-Type", "text/html")],
    "no Date": [faults.header("Date", None)],
}

WRONG = {
    "a Content-Range with another start": (faults.content_range(start=4096), FAILS),
    "a Content-Range with another end": (faults.content_range(end=-1), FAILS),
    "a Content-Range with another total": (faults.content_range(total=512), FAILS),
    "no Content-Range": (faults.on_range(faults.header("Content-Range", None)), FAILS),
    "nonsense as Content-Range": (
        faults.on_range(faults.header("Content-Range", "bytes banana")), FAILS),
    "another range than was asked for": (faults.shifted(DATA, 65536), FAILS),
    "compressed ranges": (faults.on_range(faults.gzip_encoded), FAILS),
    "a multipart answer": (faults.multipart, FAILS),
    "200 and the beginning": (faults.prefix_as_200(DATA), FAILS),
    "200 and another version": (faults.whole(OTHER, etag='"v2"'), FAILS),
    "bodies too short for their range": (faults.on_range(faults.short_body(10 * KIB)), SAFE),
    "empty bodies": (faults.on_range(faults.short_body(0)), FAILS),
    "extra bytes behind the range": (faults.long_206(999), SAFE),
    "a longer range than was asked for": (faults.overshoot(DATA, 1), SAFE),
    "an unknown total": (faults.unknown_total, SAFE),
    "another ETag on each answer": (
        lambda request, reply: reply.headers.__setitem__("ETag", f'"e{request.number}"'), FAILS),
    "another ETag": (faults.on_206(faults.header("ETag", '"v2"')), FAILS),
    "401": (faults.status(401), FAILS),
    "403": (faults.status(403), FAILS),
    "404": (faults.status(404), FAILS),
    "416": (faults.status(416), FAILS),
    "418": (faults.status(418), FAILS),
    "500": (faults.status(500), FAILS),
    "503": (faults.status(503), FAILS),
    "429 with a long Retry-After": (faults.status(429, retry_after=3600), FAILS),
    "304": (faults.status(304), FAILS),
    "204": (faults.status(204), FAILS),
    "a status that nobody knows": (faults.status(799), FAILS),
    "dropped connections": (faults.drop, FAILS),
    "reset connections": (faults.reset, FAILS),
    "connections dropped after the headers": (faults.drop_after_headers, FAILS),
    "bodies cut at the first byte": (faults.cut(1), SAFE),
    "answers that never come": (faults.delay(3600), FAILS),
    "bodies that stall": (faults.stall(1000, 3600), FAILS),
    "a redirect": (faults.redirect("/nowhere"), FAILS),
    "a redirect to itself": (faults.redirect("/disk.img"), FAILS),
    "a redirect to nowhere": (faults.redirect("http://127.0.0.1:1/"), FAILS),
    "a redirect to another scheme": (faults.redirect("file:///etc/passwd"), FAILS),
}

# as above, but from the first request on: what is said and which exit code
AT_OPEN = {
    "401": ([faults.status(401)], 3, "401|password|credential|--user"),
    "403": ([faults.status(403)], 3, "403|forbidden|refuse|denied"),
    "404": ([faults.status(404)], 3, "404|not found|no such"),
    "410": ([faults.status(410)], 3, "410|gone|no such|not found"),
    "500": ([faults.status(500)], 3, "500"),
    "503": ([faults.status(503)], 3, "503"),
    "429 with a long Retry-After": ([faults.status(429, retry_after=3600)], 3, "429"),
    "204": ([faults.status(204)], 3, "204"),
    "418": ([faults.status(418)], 3, "418"),
    "dropped connections": ([faults.drop], 3, ""),
    "reset connections": ([faults.reset], 3, ""),
    "answers that never come": ([faults.delay(3600)], 3, ""),
    "a redirect loop": ([faults.redirect("/disk.img")], 3, "redirect"),
    "a redirect without Location": ([faults.status(302)], 3, "redirect|Location|302"),
    "a redirect to a file": ([faults.redirect("file:///etc/passwd")], 3, "redirect|file:|scheme"),
    "compressed ranges": ([faults.gzip_encoded], 3, "gzip|Content-Encoding|encod|compress"),
    "a multipart answer": ([faults.multipart], 3, "multipart|Content-Range|range"),
}


def read_all(path, data, seed=1):
    """Reads at random, then everything; each read gives the right bytes, or the first error ends
    it and is returned."""
    rng = random.Random(seed)
    spots = [(rng.randrange(len(data)), rng.choice([512, 4096, 100000])) for _ in range(10)]
    spots += [(at, 128 * KIB) for at in range(0, len(data), 128 * KIB)]
    for at, length in spots:
        try:
            assert_bytes(pread(path, length, at), data[at:at + length], at)
        except OSError as e:
            assert e.errno in (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EACCES,
                               errno.ENOENT), f"a read failed with {e}"
            return e
    return None


def faulty(server, fault_list, **kwargs):
    return server.file("/disk.img", DATA, faults=fault_list, **kwargs)


def assert_reads_identically(lazydisk, url, *options):
    with lazydisk.mounted("--timeout", 20, *options, url) as mount:
        assert os.stat(mount.image()).st_size == SIZE
        assert not read_all(mount.image(), DATA)


@pytest.mark.parametrize("name", TRANSIENT)
def test_what_passes_is_survived(lazydisk, bad, name):
    assert_reads_identically(lazydisk, faulty(bad, TRANSIENT[name]))


@pytest.mark.parametrize("name", STEADY)
def test_what_is_odd_but_enough_is_worked_with(lazydisk, bad, name):
    assert_reads_identically(lazydisk, faulty(bad, STEADY[name]))


@pytest.mark.parametrize("validators", [
    {"etag": 'W/"weak"'},
    {"etag": None},
    {"etag": None, "last_modified": 1700000000},
    {"etag": 'W/"weak"', "last_modified": 1700000000},
    {"etag": '"strong"', "last_modified": 1700000000},
    {"etag": '""'},
], ids=["weak ETag", "nothing", "Last-Modified", "weak and Last-Modified", "both", "empty ETag"])
def test_every_kind_of_validator_is_enough_to_read(lazydisk, bad, validators):
    assert_reads_identically(lazydisk, faulty(bad, [], **validators))


@pytest.mark.parametrize("name", WRONG)
def test_what_goes_wrong_later_is_an_error_and_never_wrong_bytes(lazydisk, bad, name):
    fault, outcome = WRONG[name]
    switch = faults.Switch(fault)
    url = faulty(bad, [faults.on_get(switch)])
    with lazydisk.mounted("--timeout", TIMEOUT, "--readahead", 0, url) as mount:
        assert_bytes(pread(mount.image(), 4096, 0), DATA[:4096])
        switch.on = True
        seen = len(bad.requests())
        begun = time.monotonic()
        error = read_all(mount.image(), DATA)
        assert len(bad.requests()) > seen, "the fault was never met"
        took = time.monotonic() - begun
        if outcome == FAILS:
            assert error
            # The kernel asks once more for what its readahead did not get.
            assert took < (2 * TIMEOUT + 4) * slowness(), f"a failed read took {took:.1f} s"
        assert mount.alive()
        assert mount.status()["images"][0]["size"] == SIZE


@pytest.mark.parametrize("name", [
    "503", "500", "dropped connections", "reset connections", "bodies cut at the first byte",
    "connections dropped after the headers"])
def test_a_server_that_recovers_is_read_again(lazydisk, bad, name):
    switch = faults.Switch(WRONG[name][0])
    url = faulty(bad, [switch])
    with lazydisk.mounted("--timeout", 1, "--readahead", 0, url) as mount:
        switch.on = True
        read_all(mount.image(), DATA)
        switch.on = False
        assert not read_all(mount.image(), DATA, seed=2)


@pytest.mark.parametrize("name", AT_OPEN)
def test_what_goes_wrong_at_once_is_one_clear_line(lazydisk, bad, name):
    fault_list, code, says = AT_OPEN[name]
    url = faulty(bad, fault_list)
    begun = time.monotonic()
    done = lazydisk.run("mount", "--timeout", 2, url, lazydisk.point())
    assert done.returncode == code, done.stderr
    line = one_line(done.stderr)
    assert "/disk.img" in line
    if says:
        assert re.search(says, line, re.IGNORECASE), line
    assert time.monotonic() - begun < 5 * slowness()


@pytest.mark.parametrize("code", [401, 403, 404])
def test_what_no_retry_mends_is_not_asked_again(lazydisk, bad, code):
    url = faulty(bad, [faults.status(code)])
    begun = time.monotonic()
    assert lazydisk.run("mount", url, lazydisk.point()).returncode == 3
    assert time.monotonic() - begun < 3 * slowness()
    assert len(bad.requests()) <= 3


def test_retry_after_is_waited_for(lazydisk, bad):
    url = faulty(bad, [faults.first(1, faults.status(503, retry_after=2))])
    with lazydisk.mounted(url) as mount:
        first, second = bad.requests()[:2]
        assert second.when - first.when >= 1.9
        assert not read_all(mount.image(), DATA)


def test_retry_after_may_be_a_date(lazydisk, bad):
    fault = faults.first(1, lambda request, reply: faults.status(
        503, retry_after=http_date(time.time() + 2.5))(request, reply))
    url = faulty(bad, [fault])
    with lazydisk.mounted(url) as mount:
        first, second = bad.requests()[:2]
        assert 1 <= second.when - first.when < 10 * slowness()
        assert not read_all(mount.image(), DATA)


def test_a_cut_transfer_goes_on_where_it_ended(lazydisk, bad):
    url = faulty(bad, [faults.on_range(faults.first(6, faults.cut(150 * KIB)))])
    with lazydisk.mounted("--timeout", 20, url) as mount:
        assert not read_all(mount.image(), DATA)
    assert bad.bytes_sent() < SIZE * 1.3 + 512 * KIB


def test_retry_hard_waits_for_as_long_as_it_takes(lazydisk, bad):
    switch = faults.Switch(faults.drop)
    url = faulty(bad, [switch])
    with lazydisk.mounted("--timeout", 1, "--retry", "hard", "--readahead", 0, url) as mount:
        switch.on = True
        timer = threading.Timer(5, lambda: setattr(switch, "on", False))
        timer.start()
        begun = time.monotonic()
        at = 2 * MIB + 4096
        assert_bytes(pread(mount.image(), 4096, at), DATA[at:at + 4096])
        assert time.monotonic() - begun > 1
        timer.join()


def test_a_changed_image_fails_reads_and_is_never_mixed(lazydisk, bad):
    url = faulty(bad, [])
    with lazydisk.mounted("--timeout", TIMEOUT, "--readahead", 0, url) as mount:
        read = {at: pread(mount.image(), 4096, at) for at in (0, 8192)}
        assert all(part == DATA[at:at + 4096] for at, part in read.items())
        bad.change("/disk.img", data=OTHER, etag='"v2"')
        assert read_all(mount.image(), DATA)
        for at, part in read.items():
            assert pread(mount.image(), 4096, at) == part


@pytest.mark.parametrize("validators", [
    ({"etag": None, "last_modified": 1700000000}, {"last_modified": 1700009999}),
    ({"etag": 'W/"a"', "last_modified": 1700000000}, {"last_modified": 1700009999}),
    ({"etag": 'W/"a"'}, {"etag": 'W/"b"'}),
], ids=["Last-Modified", "weak ETag and Last-Modified", "weak ETag"])
def test_a_change_is_noticed_by_weaker_validators_too(lazydisk, bad, validators):
    before, then = validators
    url = faulty(bad, [], **before)
    with lazydisk.mounted("--timeout", TIMEOUT, "--readahead", 0, url) as mount:
        assert_bytes(pread(mount.image(), 4096, 0), DATA[:4096])
        bad.change("/disk.img", data=OTHER, **then)
        assert read_all(mount.image(), DATA)


def test_an_image_of_another_size_is_noticed_without_any_validator(lazydisk, bad):
    url = faulty(bad, [], etag=None)
    with lazydisk.mounted("--timeout", TIMEOUT, "--readahead", 0, url) as mount:
        assert_bytes(pread(mount.image(), 4096, 0), DATA[:4096])
        bad.change("/disk.img", data=OTHER + bytes(512))
        assert read_all(mount.image(), DATA)


# ending while a server stalls

@pytest.fixture(name="stalled")
def fixture_stalled(lazydisk, bad):
    """A mount, and a process that waits for bytes which never come."""
    url = faulty(bad, [faults.beyond(2 * MIB, faults.delay(3600))])
    mount = lazydisk.start("--timeout", 600, "--readahead", 0, url)
    assert_bytes(pread(mount.image(), 4096, 0), DATA[:4096])
    bad.forget()
    reader = subprocess.Popen(["dd", f"if={mount.image()}", "bs=4k", "skip=600", "count=1"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: any(r.ranged and r.start >= 2 * MIB for r in bad.requests()), 10,
             "the read to reach the server")
    yield mount, reader
    mount.destroy()
    reader.kill()
    reader.wait(20)


def test_a_reader_that_waits_can_be_killed(stalled):
    mount, reader = stalled
    reader.kill()
    reader.wait(5 * slowness())
    assert_bytes(pread(mount.image(), 4096, 0), DATA[:4096])


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_mount_while_a_reader_waits(stalled, sig):
    mount, reader = stalled
    mount.signal(sig)
    mount.wait_end(10)
    assert not mounts_at(mount.point)
    assert reader.wait(5 * slowness()) != 0


def test_other_reads_go_on_while_one_waits(stalled):
    mount, _ = stalled
    for at in range(0, MIB, 64 * KIB):
        assert_bytes(pread(mount.image(), 4096, at), DATA[at:at + 4096], at)


# redirects

@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_once_and_kept(lazydisk, bad, code):
    target = bad.file("/there.img", DATA)
    url = bad.file("/disk.img", b"", faults=[faults.redirect(target, code)])
    assert_reads_identically(lazydisk, url)
    assert len(bad.requests("/disk.img")) <= 2
    assert len(bad.requests("/there.img")) >= 3


def test_a_chain_of_redirects_is_followed(lazydisk, bad):
    bad.file("/4", DATA)
    for n in (1, 2, 3):
        bad.file(f"/{n}", b"", faults=[faults.redirect(f"/{n + 1}")])
    url = bad.file("/disk.img", b"", faults=[faults.redirect("1")])
    assert_reads_identically(lazydisk, url)


def test_an_endless_chain_of_redirects_is_refused(lazydisk, bad):
    url = bad.file("/hop", b"", faults=[
        faults.redirect(lambda request: f"/hop?{request.number}")])
    done = lazydisk.run("mount", "--timeout", 5, url, lazydisk.point())
    assert done.returncode == 3
    assert "redirect" in one_line(done.stderr)
    assert len(bad.requests()) < 60


@pytest.mark.parametrize("limits", [{"uses": 3}, {"seconds": 0.3}, {"uses": 2, "code": 401},
                                    {"uses": 2, "code": 410}, {"uses": 2, "code": 400}])
def test_signed_urls_that_expire_are_resolved_anew(lazydisk, bad, limits):
    signer = faults.Signer("/signed.img", **limits)
    url = bad.file("/disk.img", b"", faults=[signer.issue])
    bad.file("/signed.img", DATA, faults=[signer.check])
    with lazydisk.mounted("--readahead", 0, "--timeout", 20, url) as mount:
        for at in range(0, SIZE, 256 * KIB):
            if "seconds" in limits:
                time.sleep(0.1)
            assert_bytes(pread(mount.image(), 64 * KIB, at), DATA[at:at + 64 * KIB], at)
        assert len(signer.issued) >= 2
        assert not read_all(mount.image(), DATA)
        assert "sig" not in open(mount.path(".lazydisk/status"), encoding="utf-8").read()


def test_a_signature_that_is_never_accepted_ends_in_an_error(lazydisk, bad):
    signer = faults.Signer("/signed.img", uses=0, seconds=-1)
    url = bad.file("/disk.img", b"", faults=[signer.issue])
    bad.file("/signed.img", DATA, faults=[signer.check])
    done = lazydisk.run("mount", "--timeout", 3, url, lazydisk.point())
    assert done.returncode == 3
    assert "sig1" not in done.stderr
    assert len(bad.requests()) < 60


def test_another_version_behind_a_new_redirect_is_not_mixed_in(lazydisk, bad):
    signer = faults.Signer("/signed.img", uses=3)
    url = bad.file("/disk.img", b"", faults=[signer.issue])
    bad.file("/signed.img", DATA, faults=[signer.check])
    with lazydisk.mounted("--readahead", 0, "--timeout", TIMEOUT, url) as mount:
        assert_bytes(pread(mount.image(), 4096, 0), DATA[:4096])
        bad.change("/signed.img", data=OTHER, etag='"v2"')
        assert read_all(mount.image(), DATA)


def test_a_server_is_never_asked_past_the_end(lazydisk, bad):
    url = faulty(bad, [])
    assert_reads_identically(lazydisk, url)
    asked = [r for r in bad.requests() if r.ranged]
    assert asked
    for request in asked:
        assert request.start < SIZE
        assert request.status == 206
    assert all(r.end is None or r.end < SIZE for r in asked[1:])


def test_ranges_are_asked_for_under_the_version_that_was_opened(lazydisk, bad):
    url = faulty(bad, [])
    assert_reads_identically(lazydisk, url)
    later = [r for r in bad.requests() if r.ranged][2:]
    assert later
    for request in later:
        assert '"v1"' in (request.headers.get("if-match"), request.headers.get("if-range"))
        assert request.headers.get("accept-encoding", "identity") == "identity"


# images of no bytes, small images

@pytest.mark.parametrize("data", [b"x", bytes(512), DATA[:65536], DATA[:65537]],
                         ids=["1", "512", "65536", "65537"])
@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_small_images_are_read_whole(lazydisk, bad, data, ranges):
    url = bad.file("/small.img", data, faults=[] if ranges else [faults.no_ranges(data)])
    with lazydisk.mounted("--format", "raw", url) as mount:
        assert_bytes(pread(mount.image(), len(data) + 10, 0), data)


def test_an_empty_file_is_an_empty_disk_or_refused(lazydisk, bad):
    url = bad.file("/empty.img", b"")
    done = lazydisk.run("info", "--json", url)
    assert done.returncode in (0, 3, 4)
    if done.returncode:
        one_line(done.stderr)


@pytest.mark.parametrize("shape", [faults.chunked, faults.until_close], ids=["chunked", "close"])
def test_a_stream_without_a_length_is_read_or_refused(lazydisk, bad, shape):
    url = faulty(bad, [faults.no_ranges(DATA), shape])
    done = lazydisk.run("mount", "--timeout", 5, url, lazydisk.point("there"))
    if done.returncode:
        assert done.returncode in (3, 4)
        one_line(done.stderr)
        return
    mount = lazydisk.adopt(os.path.join(lazydisk.directory, "there"))
    assert not read_all(mount.image(), DATA)
    mount.umount()
