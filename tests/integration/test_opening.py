# SPDX-License-Identifier: Apache-2.0
"""What opening costs on the wire, and how much memory the daemon takes."""

import os
import threading
import time

import pytest

import faults
from command import sanitized, slowness
from util import GIB, KIB, MIB, assert_bytes, offset_words, pread


def load(path):
    with open(path, "rb") as f:
        return f.read()


def opening(lazydisk, server, url, *options):
    """The requests that stood on the server's log when the mount answered, and the mount."""
    server.forget()
    mount = lazydisk.start(*options, url)
    return server.requests(), mount


def test_a_raw_image_opens_with_two_requests(lazydisk, bad, images):
    url = bad.file("/sample.raw", load(images.raw))
    requests, mount = opening(lazydisk, bad, url)
    assert 1 <= len(requests) <= 2, [(r.method, r.headers.get("range")) for r in requests]
    mount.umount()


@pytest.mark.parametrize("variant", ["plain", "zlib", "cluster-2m", "ext-l2"])
def test_a_qcow2_opens_with_three_requests(lazydisk, bad, images, variant):
    """Without readahead, which goes on by the side and costs the opening no time."""
    url = bad.file("/sample.qcow2", load(images.variant(variant)))
    requests, mount = opening(lazydisk, bad, url, "--readahead", 0)
    assert 1 <= len(requests) <= 3, [(r.method, r.headers.get("range")) for r in requests]
    mount.umount()


def test_an_8_tib_qcow2_opens_with_few_requests_and_bytes(lazydisk, bad, images):
    url = bad.file("/huge.qcow2", load(images.huge()))
    requests, mount = opening(lazydisk, bad, url)
    assert len(requests) <= 4, [(r.method, r.headers.get("range")) for r in requests]
    assert sum(r.sent for r in requests) <= MIB
    path = mount.image()
    assert os.stat(path).st_size == 8 << 40
    assert_bytes(pread(path, 65536, 4 << 40), b"\2" * 65536)
    assert_bytes(pread(path, 2 * 65536, (8 << 40) - 65536), b"\3" * 65536)
    assert pread(path, 4096, 1 << 40) == bytes(4096)
    assert bad.bytes_sent() <= 2 * MIB
    mount.umount()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["raw", "plain", "zlib", "cluster-512", "cluster-2m", "huge"])
def test_opening_takes_at_most_five_round_trips(lazydisk, bad, images, name):
    """The server answers each request late; one round trip is left for the connection. What the
    machine itself delays is no round trip: one of five tries must do."""
    data = load(images.huge() if name == "huge" else images.variant(name))
    url = bad.file("/image", data, faults=[faults.delay(0.4)])
    limit = 4 * 0.4 + 0.39 * slowness()
    took = []
    while not took or (min(took) >= limit and len(took) < 5):
        begun = time.monotonic()
        mount = lazydisk.start("--no-cache", url)
        took.append(time.monotonic() - begun)
        mount.umount()
    assert min(took) < limit


def test_a_second_opening_is_no_dearer_than_the_first(lazydisk, bad, images):
    url = bad.file("/sample.qcow2", load(images.variant("plain")))
    first, mount = opening(lazydisk, bad, url)
    mount.umount()
    second, mount = opening(lazydisk, bad, url)
    assert len(second) <= len(first)
    assert sum(r.sent for r in second) < 64 * KIB
    mount.umount()


def test_a_redirected_image_opens_with_one_request_more(lazydisk, bad, images):
    target = bad.file("/there.raw", load(images.raw))
    url = bad.file("/sample.raw", b"", faults=[faults.redirect(target)])
    requests, mount = opening(lazydisk, bad, url)
    assert len(requests) <= 4, [(r.method, r.path) for r in requests]
    mount.umount()


# memory

class Words:
    """1 GiB that is not in memory: a repetition of one MiB, each tagged with its number."""

    def __init__(self, size):
        self.size = size
        self.base = offset_words(8, 8 + MIB)

    def __len__(self):
        return self.size

    def __bool__(self):
        return True

    def __getitem__(self, key):
        start, end, _ = key.indices(self.size)
        parts = []
        at = start
        while at < end:
            block, inside = divmod(at, MIB)
            step = min(MIB - inside, end - at)
            if inside < 8:
                tag = block.to_bytes(8, "little")
                content = tag + self.base[8:]
                parts.append(content[inside:inside + step])
            else:
                parts.append(self.base[inside:inside + step])
            at += step
        return b"".join(parts)


def peak_memory(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        for line in f:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * KIB
    raise AssertionError("no VmHWM")


@pytest.mark.slow
@pytest.mark.limit(150)
@pytest.mark.parametrize("options", [[], ["--no-cache"]], ids=["cache", "no cache"])
def test_memory_stays_below_128_mib_while_1_gib_streams_to_eight_readers(lazydisk, bad, options):
    words = Words(1 * GIB)
    url = bad.file("/big.img", words)
    with lazydisk.mounted(*options, url) as mount:
        path = mount.image()
        wrong = []

        def stream(part):
            fd = os.open(path, os.O_RDONLY)
            try:
                for at in range(part * 128 * MIB, (part + 1) * 128 * MIB, 4 * MIB):
                    got = os.pread(fd, 4 * MIB, at)
                    if got != words[at:at + 4 * MIB]:
                        wrong.append(at)
            finally:
                os.close(fd)

        threads = [threading.Thread(target=stream, args=(part,)) for part in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        if not sanitized():
            peak = peak_memory(mount.pid)
            assert peak < 128 * MIB, f"{peak // MIB} MiB"
