# SPDX-License-Identifier: Apache-2.0
"""Compressed disks: copied, streamed and read here and there."""

import glob
import os
import pathlib
import subprocess
import tempfile
import time

from copies import Timed, best, lazydisk_copy, onto_device
from data import STREAM_BYTES, SYSTEM_BYTES, XZ_BLOCK
from rig import GIB, GIGABIT, LAZYDISK, MIB, Failed, median, run
from table import at_least, at_most


def packed(rig, table, quick):
    rounds = 2 if quick else 3
    gzip_copy_rows(rig, table, rounds)
    xz_rows(rig, table, rounds)
    stream_rows(rig, table, rounds)
    far_row(rig, table)
    second_rows(rig, table, rounds)


def pipeline(rig, url, device):
    """As people do it today."""
    words = f"set -o pipefail; curl -sS {url} | gzip -dc | dd of={device} bs=1M conv=sparse,fsync"
    return Timed(rig, "bash", "-c", words)


def gzip_copy_rows(rig, table, rounds):
    right = rig.data / "system.raw"
    size = (rig.data / "system.raw.gz").stat().st_size / 1e6
    with rig.link(10, GIGABIT) as origin:
        url = f"{origin}/system.raw.gz"
        ours, theirs = best(
            rounds,
            lambda: onto_device(rig, right, lambda to: lazydisk_copy(rig, url, to)),
            lambda: onto_device(rig, right, lambda to: pipeline(rig, url, to)))
    table.add(f"copy of a raw.gz of {size:.0f} MB ({SYSTEM_BYTES >> 30} GiB) onto a loop device,"
              " 10 ms, 1 Gbit/s", ours.seconds, "s")
    table.add(f"  of curl | gzip -dc | dd conv=sparse ({theirs.seconds:.2f} s)",
              theirs.seconds / ours.seconds, "×", at_least(2.5))


def xz_rows(rig, table, rounds):
    """Into memory where there is such a place: what is compared is decoding, and not a disk."""
    image = rig.data / "programs.raw.xz"
    near = "/dev/shm" if os.path.isdir("/dev/shm") else rig.dir
    with tempfile.TemporaryDirectory(prefix="lazydisk-bench-", dir=near) as directory:
        target = pathlib.Path(directory) / "disk.img"

        def copy(*prefix):
            target.unlink(missing_ok=True)
            done = Timed(rig, *prefix, LAZYDISK, "copy", "--progress", "none", image, target)
            run_cmp(rig, target, rig.data / "programs.raw")
            return done

        two, one = best(rounds + 1, copy, lambda: copy("taskset", "-c", "0"))
    table.add("copy of a raw.xz of many blocks, local, into memory",
              STREAM_BYTES / two.seconds / 1e6, "MB/s")
    table.add(f"  {os.cpu_count()} processors against one", one.seconds / two.seconds, "×",
              at_least(1.8))


def run_cmp(rig, have, want):
    if subprocess.run(["cmp", have, want], check=False).returncode != 0:
        raise Failed(f"{rig.dir}: the copy has wrong bytes")


def stream_rows(rig, table, rounds):
    right = rig.data / "programs.raw"
    packed_file = rig.data / "programs.raw.gz"
    ours, theirs = [], []
    for _ in range(rounds):
        with rig.lazydisk(f"{rig.near()}/programs.raw.gz") as disk:
            ours += rig.stream(disk.path, STREAM_BYTES, "--compare", right)
        theirs.append(Timed(rig, "gzip", "-dc", packed_file).seconds)
    table.add("first pass over a raw.gz through the mount", STREAM_BYTES / min(ours) / 1e6, "MB/s")
    table.add(f"  of gzip -dc on the local file ({STREAM_BYTES / min(theirs) / 1e6:.0f} MB/s)",
              min(theirs) / min(ours), "×", at_least(0.9))


def block_sizes(path):
    """Of an .xz file, as they are stored."""
    lines = run("xz", "--robot", "-lvv", path).splitlines()
    return [int(line.split("\t")[6]) for line in lines if line.startswith("block")]


def far_row(rig, table):
    """The first block shows what is in there, the other one holds what is read."""
    name = "programs.raw.xz"
    sizes = block_sizes(rig.data / name)
    two = sizes[0] + sizes[50 * MIB // XZ_BLOCK]
    with rig.traffic() as seen, rig.lazydisk(f"{rig.near()}/{name}") as disk:
        begin = time.monotonic()
        fd = os.open(disk.path, os.O_RDONLY)
        got = os.pread(fd, 4096, 50 * MIB)
        os.close(fd)
        took = time.monotonic() - begin
    with open(rig.data / "programs.raw", "rb") as f:
        f.seek(50 * MIB)
        if got != f.read(4096):
            raise Failed("wrong bytes")
    table.add(f"4 KiB at 50 MiB of a raw.xz in blocks of {XZ_BLOCK >> 20} MiB", took * 1000, "ms")
    table.add("  fetched, opening included, of two blocks and 512 KiB",
              seen["bytes"] / (two + 512 * 1024), "×", at_most(1))


MAP_HEADER = 4096  # of cache/map.h
FAR = 2 * GIB
RTT_MS = 10


def forget_granules(cache):
    """Leaves in the cache what was learned of the images, and none of their bytes."""
    for path in glob.glob(f"{cache}/**/map", recursive=True):
        with open(path, "r+b") as f:
            size = os.fstat(f.fileno()).st_size
            f.seek(MAP_HEADER)
            f.write(bytes(size - MAP_HEADER))


def read_far(rig, disk, right, at):
    """Milliseconds that a read of 4 KiB took, and what of the server it cost."""
    with rig.traffic() as seen:
        fd = os.open(disk.path, os.O_RDONLY)
        begin = time.monotonic()
        got = os.pread(fd, 4096, at)
        took = time.monotonic() - begin
        os.close(fd)
    with open(right, "rb") as f:
        f.seek(at)
        if got != f.read(4096):
            raise Failed("wrong bytes")
    return took * 1000, seen["bytes"]


def second_rows(rig, table, rounds):
    """Mounted again, with nothing but the index; and a single block, whose bytes are kept."""
    cache = rig.new_dir("cache")
    quick = ["--no-trace", "--no-complete"]
    with rig.link(RTT_MS, GIGABIT) as origin:
        url = f"{origin}/system.raw.gz"
        with rig.lazydisk(url, cache) as disk:
            rig.stream(disk.path, SYSTEM_BYTES)
        figures = []
        for i in range(2 * rounds):
            forget_granules(cache)
            with rig.lazydisk(url, cache, *quick) as disk:
                figures.append(read_far(rig, disk, rig.data / "system.raw",
                                        FAR + i * 47 * MIB + 4321))
        table.add(f"4 KiB at 2 GiB of a raw.gz that is mounted again with the index alone,"
                  f" {RTT_MS} ms, 1 Gbit/s", median([ms for ms, _ in figures]), "ms",
                  at_most(50 + 2 * RTT_MS))
        table.add("  fetched for it, at most", max(sent for _, sent in figures) / 1e6, "MB",
                  at_most(8))
        url = f"{origin}/programs.one.raw.xz"
        with rig.lazydisk(url, cache) as disk:
            rig.stream(disk.path, STREAM_BYTES)
        with rig.lazydisk(url, cache, *quick) as disk:
            ms, sent = read_far(rig, disk, rig.data / "programs.raw", STREAM_BYTES - 30 * MIB)
        table.add("4 KiB far into a raw.xz of one block that is mounted again", ms, "ms",
                  at_most(50 + 2 * RTT_MS))
        table.add("  fetched for it", sent / 1e6, "MB", at_most(8))
