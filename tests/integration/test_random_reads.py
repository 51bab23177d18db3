# SPDX-License-Identifier: Apache-2.0
"""Random reads by several threads, against the raw disk; a failure names its seed."""

import os
import random
import threading

import pytest

import faults
from util import KIB, MIB, first_difference, read_exactly

SEED = int(os.environ.get("LAZYDISK_TEST_SEED", "0")) or int.from_bytes(os.urandom(4), "little")
READS = 250
THREADS = 6


def random_reads(path, reference, seed, wrong):
    """Mixes small and large, aligned and odd, scattered and sequential reads."""
    rng = random.Random(seed)
    size = os.stat(reference).st_size
    ours = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    theirs = os.open(reference, os.O_RDONLY | os.O_CLOEXEC)
    at = 0
    try:
        for _ in range(READS):
            length = rng.choice([1, 511, 512, 4096, 4097, 64 * KIB, 65537, 300 * KIB, MIB])
            if rng.random() < 0.6:
                at = rng.randrange(size)
            if rng.random() < 0.1:
                os.posix_fadvise(ours, 0, 0, os.POSIX_FADV_DONTNEED)
            got, want = read_exactly(ours, length, at), read_exactly(theirs, length, at)
            if got != want:
                wrong.append((seed, at, length, at + first_difference(got, want)))
                return
            at = min(at + length, size - 1)
    except OSError as e:
        wrong.append((seed, at, length, str(e)))
    finally:
        os.close(ours)
        os.close(theirs)


def read_with_threads(paths, reference, seed=SEED):
    wrong = []
    threads = [threading.Thread(target=random_reads,
                                args=(paths[n % len(paths)], reference, f"{seed}/{n}", wrong))
               for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, f"LAZYDISK_TEST_SEED={seed}: (seed, offset, length, where) {wrong}"


@pytest.mark.parametrize("variant", ["raw", "plain", "zlib", "zstd-2m", "ext-l2-zlib", "cluster-512",
                                     "scrambled"])
def test_threads_that_read_at_random_find_the_right_bytes(lazydisk, nginx, images, variant):
    with lazydisk.mounted(nginx.url(images.variant(variant))) as mount:
        read_with_threads([mount.image()], images.raw)


def test_several_images_read_at_random_do_not_mix(lazydisk, nginx, images):
    urls = [nginx.url(images.variant(v)) for v in ("raw", "zlib", "plain")]
    with lazydisk.mounted(*urls) as mount:
        read_with_threads([mount.path(name) for name in mount.images()], images.raw)


def test_random_reads_without_a_cache_directory_are_right(lazydisk, nginx, images):
    with lazydisk.mounted("--no-cache", nginx.url(images.variant("zlib"))) as mount:
        read_with_threads([mount.image()], images.raw)


def test_random_reads_with_a_tiny_cache_are_right(lazydisk, nginx, images):
    with lazydisk.mounted("--cache-size", "3Mi", nginx.url(images.variant("plain"))) as mount:
        read_with_threads([mount.image()], images.raw)


def test_random_reads_while_connections_break_are_right(lazydisk, bad, images):
    with open(images.variant("zlib"), "rb") as f:
        url = bad.file("/sample.qcow2", f.read(), faults=[
            faults.on_get(faults.every(4, faults.cut(90 * KIB))),
            faults.on_get(faults.every(7, faults.status(503))),
            faults.on_get(faults.every(9, faults.reset))])
    with lazydisk.mounted("--timeout", 30, url) as mount:
        read_with_threads([mount.image()], images.raw)
        assert mount.layer("http")["retries"] > 0


@pytest.mark.slow
def test_random_reads_over_a_slow_server_are_right(lazydisk, nginx, images):
    with lazydisk.mounted(nginx.url(images.variant("zlib"), "limited")) as mount:
        read_with_threads([mount.image()], images.raw)
