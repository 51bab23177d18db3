# SPDX-License-Identifier: Apache-2.0
"""What is fetched before anybody asks: boot traces, and images that complete themselves."""

import json
import os
import random
import time

from rig import BUILD, GIGABIT, ROOT, Failed, median, run
from table import at_most

REPLAY = BUILD / "tests" / "bench" / "replay_trace"
RECORDED = ROOT / "tests" / "data" / "boot-debian12.csv"

# (ms, Mbit/s): seconds that the network takes of the recorded boot, computed as reads that wait x
# round trip + bytes / rate: with the best of all constant sizes of a fetch, and with its trace
# replayed in 259 requests, 16 at once.
COMPUTED = {(5, 100): (13.3, 8.2), (5, 1000): (3.0, 0.9), (30, 100): (25.0, 8.6),
            (30, 1000): (5.6, 1.3), (100, 100): (39.6, 9.8), (100, 1000): (9.7, 2.4)}
# What came out in practice may be so much more.
SLACK = 1.25


def trace(rig, table, quick):
    """The reads of a recorded boot, one after the other without a pause, through the cache, over
    links that are simulated in one process."""
    del rig, quick
    for line in run(REPLAY, "--boots", RECORDED, timeout=600).splitlines():
        rtt, rate, how, *numbers = line.split()
        seconds, waits, _, fetched, requests, _ = map(float, numbers)
        best, replayed = COMPUTED[int(rtt), int(rate)]
        link = f"{rtt} ms, {rate} Mbit/s"
        if how == "cold":
            table.add(f"recorded boot of 2 267 reads, {link}", seconds, "s",
                      at_most(best, "best constant size, computed:"))
        else:
            table.add(f"  with its trace, {link}", seconds, "s",
                      at_most(SLACK * replayed, f"computed {replayed:g}, and a quarter:"))
        table.add("  reads that waited", waits)
        table.add("  fetched", fetched, "MB")
        table.add("  in requests", requests)


def complete(rig, table, quick):
    """How much longer readers wait while the image completes itself."""
    count = 40 if quick else 100
    url = "/random.raw"
    for pause, what in ((0.1, "with pauses of 100 ms"), (0, "one after the other")):
        with rig.link(30, GIGABIT / 10) as origin:
            alone = _latencies(rig, origin + url, count, pause, "--no-complete")[0]
            busy, done = _latencies(rig, origin + url, count, pause, "--complete",
                                    "--complete-delay", 0)
        table.add(f"random 4 KiB {what}, 30 ms, 100 Mbit/s: median", median(alone) * 1000, "ms")
        table.add("  while the image completes itself", median(busy) * 1000, "ms")
        table.add("  of that without", median(busy) / median(alone), "×", at_most(1.3))
        table.add("  fetched for completion meanwhile", done / 1e6, "MB")


def _latencies(rig, url, count, pause, *options):
    """([seconds of each read], bytes that completion fetched)"""
    right = rig.data / "random.raw"
    places = random.Random(7).sample(range(right.stat().st_size // 4096), count)
    seconds = []
    with rig.lazydisk(url, None, *options) as disk, open(right, "rb") as local:
        fd = os.open(disk.path, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
            time.sleep(2)  # the link is measured, and completion under way
            begun = _completed(disk)
            for place in places:
                begin = time.monotonic()
                got = os.pread(fd, 4096, place * 4096)
                seconds.append(time.monotonic() - begin)
                if got != os.pread(local.fileno(), 4096, place * 4096):
                    raise Failed(f"wrong bytes at {place * 4096}")
                time.sleep(pause)
            return seconds, _completed(disk) - begun
        finally:
            os.close(fd)


def _completed(disk):
    status = json.loads((disk.path.parent / ".lazydisk" / "status").read_text())
    layers = status["images"][0]["layers"]
    return next(layer for layer in layers if layer["name"] == "cache")["bytes_completed"]
