# SPDX-License-Identifier: Apache-2.0
"""The measurements. A part takes the rig, the table and whether to be quick, and adds its rows."""

import contextlib
import sys
import time

from ahead import complete, trace
from copies import copy
from data import RANDOM_BYTES, STREAM_BYTES
from packed import packed
from rig import (GIB, GIGABIT, LAZYDISK, MIB, ROOT, Failed, drop_caches, median, run, sent_again,
                 wait_for)
from table import at_least, at_most, below

sys.path.insert(0, str(ROOT / "tests" / "guest"))
import guest as debian  # noqa: E402  pylint: disable=wrong-import-position

SHORT_BYTES = 32 * MIB  # what the peers stream at 50 ms: all of it would take minutes
SMALL_READS = 150


@contextlib.contextmanager
def row(table, what):
    """A measurement that fails is a row that says so, and the next one is made."""
    try:
        yield
    except (Failed, OSError, debian.BootFailed, RuntimeError) as error:
        table.failed(what, error)


def peer(measure, figures=1):
    """As measured, or "failed" for each figure: a peer that does not work stops nothing."""
    try:
        return measure()
    except (Failed, OSError, debian.BootFailed) as error:
        print(f"  ({error})", flush=True)
        return "failed" if figures == 1 else ("failed",) * figures


def scaled(value, factor):
    return value if isinstance(value, str) else value * factor


# streams

def stream_peer(rig, mount, right, size):
    """(MB/s, MB/s again, bytes sent for a byte read)"""
    with mount as disk:
        with rig.traffic() as seen:
            first = rig.stream(disk.path, size, "--compare", right)[0]
        second = rig.stream(disk.path, size, "--compare", right)[0]
    return size / first / 1e6, size / second / 1e6, seen["bytes"] / size


def curl_rate(url, size, parallel):
    """MB/s of plain curl: one GET, or as many ranges at once."""
    step = size // parallel
    argv = ["curl", "-sS", "-Z"]
    for i in range(parallel):
        argv += ["-r", f"{i * step}-{(i + 1) * step - 1}", "-o", "/dev/null", url, "--next"]
    begin = time.monotonic()
    run(*argv[:-1])
    return size / (time.monotonic() - begin) / 1e6


def stream(rig, table, quick):
    for rtt, target in ((10, 0.90), (50, 0.85)):
        with rig.link(rtt, GIGABIT) as origin:
            single = curl_rate(f"{origin}/stream.raw", STREAM_BYTES, 1)
            many = curl_rate(f"{origin}/stream.raw", STREAM_BYTES, 4)
            for fmt in ("raw", "qcow2"):
                what = f"cold stream of 256 MiB {fmt}, {rtt} ms, 1 Gbit/s"
                with row(table, what):
                    stream_row(rig, table, what, f"{origin}/stream.{fmt}", rtt, target, quick)
            table.add(f"  the same by plain curl, 1 GET, {rtt} ms", single, "MB/s")
            table.add(f"  the same by plain curl, 4 ranges at once, {rtt} ms", many, "MB/s")


def stream_row(rig, table, what, url, rtt, target, quick):
    right = rig.data / "stream.raw"
    rates = []
    for _ in range(1 if quick else 3):
        with rig.traffic() as seen, rig.lazydisk(url) as disk:
            seconds = rig.stream(disk.path, STREAM_BYTES, "--compare", right)[0]
            rates.append(STREAM_BYTES / seconds)
    rate = median(rates)
    fmt = url.rsplit(".", 1)[1]
    qsd = nbdkit = ("", "", "")
    if not (quick and rtt > 10):
        size = STREAM_BYTES if rtt == 10 and not quick else SHORT_BYTES
        qsd = peer(lambda: stream_peer(rig, rig.qsd(url, fmt), right, size), 3)
        if fmt == "raw":
            nbdkit = peer(lambda: stream_peer(rig, rig.nbdkit(url), right, size), 3)
    table.add(what, rate / 1e6, "MB/s", qsd=qsd[0], nbdkit=nbdkit[0])
    table.add("  of the link", rate / GIGABIT, "", at_least(target),
              scaled(qsd[0], 1e6 / GIGABIT),
              scaled(nbdkit[0], 1e6 / GIGABIT))
    table.add("  sent by the server, for each byte", seen["bytes"] / STREAM_BYTES, "", at_most(1.05),
              qsd[2], nbdkit[2])
    if rtt == 10:
        with rig.lazydisk(url) as disk:
            rig.stream(disk.path, STREAM_BYTES)
            again = rig.stream(disk.path, STREAM_BYTES, "--compare", right)[0]
        table.add("  read a second time", STREAM_BYTES / again / 1e6, "MB/s", None,
                  qsd[1], nbdkit[1])


def zlib(rig, table, quick):
    what = "cold stream of a zlib qcow2, no link limit"
    right = rig.data / "programs.raw"
    ours, theirs = [], []
    with row(table, what):
        for _ in range(2 if quick else 4):
            with rig.qsd(rig.data / "programs.qcow2", "qcow2") as disk:
                theirs += rig.stream(disk.path, STREAM_BYTES, "--compare", right)
            with rig.lazydisk(f"{rig.near()}/programs.qcow2") as disk:
                ours += rig.stream(disk.path, STREAM_BYTES, "--compare", right)
        table.add(what, STREAM_BYTES / min(ours) / 1e6, "MB/s", None,
                  f"{STREAM_BYTES / min(theirs) / 1e6:.0f} (local file)")
        table.add("  of qemu-storage-daemon on the local file", min(theirs) / min(ours), "×",
                  at_least(1.8))


# random reads

def random(rig, table, quick):
    with rig.link(10, GIGABIT) as origin:
        for fmt, target in (("raw", 1.3), ("qcow2", 1.5)):
            what = f"cold random 4 KiB, {fmt}, 10 ms, 1 Gbit/s"
            with row(table, what):
                random_rows(rig, table, what, f"{origin}/random.{fmt}", target, quick)


def random_peer(rig, mount, right):
    """(RTTs, MB, reads a second at depth 1, at depth 32, the ratio of these)"""
    with rig.traffic() as seen, mount() as disk:
        seconds, each = rig.random(disk.path, RANDOM_BYTES, SMALL_READS, 1, right)
    with mount() as disk:
        deep = SMALL_READS / rig.random(disk.path, RANDOM_BYTES, SMALL_READS, 32, right, 2)[0]
    shallow = SMALL_READS / seconds
    return median(each) / 10000, seen["bytes"] / 1e6, shallow, deep, deep / shallow


def random_rows(rig, table, what, url, target, quick):
    right = rig.data / "random.raw"
    fmt = url.rsplit(".", 1)[1]
    deep_reads = 1000 if quick else 2000
    with rig.traffic() as seen, rig.lazydisk(url) as disk:
        seconds, each = rig.random(disk.path, RANDOM_BYTES, SMALL_READS, 1, right)
    shallow = SMALL_READS / seconds
    with rig.lazydisk(url) as disk:
        deep = deep_reads / rig.random(disk.path, RANDOM_BYTES, deep_reads, 32, right, 2)[0]
    qsd = peer(lambda: random_peer(rig, lambda: rig.qsd(url, fmt), right), 5)
    nbdkit = ("",) * 5
    if fmt == "raw":
        nbdkit = peer(lambda: random_peer(rig, lambda: rig.nbdkit(url), right), 5)
    table.add(f"{what}: median", median(each) / 10000, "RTT", at_most(target), qsd[0], nbdkit[0])
    table.add(f"  fetched by {SMALL_READS} reads", seen["bytes"] / 1e6, "MB", at_most(64),
              qsd[1], nbdkit[1])
    table.add("  at depth 1", shallow, "reads/s", None, qsd[2], nbdkit[2])
    table.add("  at depth 32", deep, "reads/s", None, qsd[3], nbdkit[3])
    table.add("  depth 32 against depth 1", deep / shallow, "×", at_least(12),
              qsd[4], nbdkit[4])


# hits

def hits(rig, table, quick):
    """What was read before: from memory, from the daemon, and from the cache on disk."""
    url = f"{rig.near()}/random.raw"
    right = rig.data / "random.raw"
    cache = rig.new_dir("cache")
    rounds = 2 if quick else 5
    with row(table, "second reads"), rig.lazydisk(url, cache) as disk:
        # As long as somebody has it open, no read goes past the daemon.
        with open(disk.path, "rb"):
            rig.stream(disk.path, RANDOM_BYTES, "--compare", right)
            rig.heat(4 * GIB)
            second_reads(rig, table, disk, right, rounds)
            daemon_hits(rig, table, disk, right, rounds)
        hits_past_the_daemon(rig, table, disk, right, rounds)
    with row(table, "reads after a remount"):
        remount_reads(rig, table, url, cache, rounds)


def second_reads(rig, table, disk, right, rounds):
    ours, native = [], []
    rig.stream(disk.path, RANDOM_BYTES)
    for _ in range(rounds):
        native += rig.stream(right, RANDOM_BYTES, "--passes", 2)
        ours += rig.stream(disk.path, RANDOM_BYTES, "--passes", 2)
    table.add("second read, from memory", RANDOM_BYTES / min(ours) / 1e9, "GB/s")
    table.add(f"  of a native read ({RANDOM_BYTES / min(native) / 1e9:.1f} GB/s)",
              min(native) / min(ours), "", at_least(0.45))


def server_cost(rig, mounted, how, passes):
    """(seconds of the fastest pass, the server's CPU seconds for a GiB)"""
    before = mounted.process.cpu_seconds()
    seconds = rig.stream(mounted.path, RANDOM_BYTES, how, "--passes", passes)
    cpu = mounted.process.cpu_seconds() - before
    return min(seconds), cpu / (passes * RANDOM_BYTES / GIB)


def daemon_hits(rig, table, disk, right, rounds):
    """Direct reads are what loop devices and cache=none do; they spare the kernel new pages."""
    with rig.least(right) as least, rig.least(right, "--mapped") as mapped:
        for how, what in (("--forget", "hits served by the daemon"),
                          ("--direct", "hits served by the daemon, direct")):
            ours, theirs, once = [], [], []
            for _ in range(rounds):
                ours.append(server_cost(rig, disk, how, 2))
                theirs.append(server_cost(rig, least, how, 2))
                once.append(server_cost(rig, mapped, how, 2))
            cpu = median([c for _, c in ours])
            floor = median([c for _, c in theirs])
            table.add(what, RANDOM_BYTES / min(s for s, _ in ours) / 1e9, "GB/s")
            table.add("  the daemon's CPU time", cpu, "s/GiB", at_most(0.2))
            table.add(f"  of the least a FUSE server needs here ({floor:.2f} s/GiB)", cpu / floor,
                      "×", at_most(1.2))
            table.add("  of a server that copies nothing itself", median([c for _, c in once]),
                      "s/GiB")


def hits_past_the_daemon(rig, table, disk, right, rounds):
    """Opened anew when nobody has it open, a raw image that is here as a whole is passed through."""
    def passed():
        with open(disk.path, "rb"):
            text = (disk.path.parent / ".lazydisk" / "status").read_text()
        return '"lent":1' in "".join(text.split())

    wait_for(passed, 60, "the cache's file to be lent")
    seconds, cpu = server_cost(rig, disk, "--forget", 2 * rounds)
    native = min(rig.stream(right, RANDOM_BYTES, "--passes", 2 * rounds))
    rig.stream(disk.path, RANDOM_BYTES, "--compare", right)
    table.add("hits of a whole raw image, past the daemon", RANDOM_BYTES / seconds / 1e9, "GB/s")
    table.add(f"  of a native read ({RANDOM_BYTES / native / 1e9:.1f} GB/s)", native / seconds, "",
              at_least(0.45))
    table.add("  the daemon's CPU time", cpu, "s/GiB", at_most(0.2))


def remount_reads(rig, table, url, cache, rounds):
    right = rig.data / "random.raw"
    ours, native, fetched = [], [], 0
    for _ in range(rounds):
        with rig.traffic() as seen, rig.lazydisk(url, cache) as disk:
            drop_caches()
            rig.heat(4 * GIB)
            ours += rig.stream(disk.path, RANDOM_BYTES)
        fetched += seen["bytes"]
        drop_caches()
        rig.heat(4 * GIB)
        native += rig.stream(right, RANDOM_BYTES)
    with rig.lazydisk(url, cache) as disk:
        rig.stream(disk.path, RANDOM_BYTES, "--compare", right)
    table.add("after a remount, from the cache on disk", RANDOM_BYTES / min(ours) / 1e9, "GB/s")
    table.add(f"  of a cold native read ({RANDOM_BYTES / min(native) / 1e9:.2g} GB/s)",
              min(native) / min(ours), "", at_least(0.7))
    table.add("  fetched again", 100 * fetched / rounds / RANDOM_BYTES, "%", at_most(1))


# opening

def opening(rig, table, quick):
    del quick
    for name, what in (("random.raw", "raw"), ("random.qcow2", "qcow2"),
                       ("huge.qcow2", "qcow2 of 8 TiB")):
        with row(table, f"opening a {what}"):
            opening_rows(rig, table, what, lambda origin, name=name: f"{origin}/{name}", 5)
    what = "containerDisk in a plain layer"
    with row(table, f"opening a {what}"):
        opening_rows(rig, table, what,
                     lambda origin: origin.replace("http", "docker", 1) + "/bench/disk", 8)


def opening_rows(rig, table, what, source_at, most):
    """How long `lazydisk mount` takes longer when the server is 100 ms away."""
    seconds = {}
    for rtt in (0, 100):
        with rig.link(rtt, GIGABIT) as origin:
            with rig.traffic() as seen:
                seconds[rtt] = min(open_once(rig, source_at(origin)) for _ in range(2))
    rtts = (seconds[100] - seconds[0]) / 0.1
    table.add(f"opening a {what}", rtts, "RTT", at_most(most))
    table.add("  requests", seen["requests"] / 2)


def open_once(rig, url):
    point = rig.new_dir("mnt")
    cache = rig.new_dir("cache")
    begin = time.monotonic()
    run(LAZYDISK, "mount", "--cache-dir", cache, url, point, timeout=60)
    took = time.monotonic() - begin
    run(LAZYDISK, "umount", point, timeout=60)
    return took


# memory

def memory(rig, table, quick):
    """The most that any daemon of this run took, of which one read all of these."""
    del quick
    with row(table, "peak memory"):
        with rig.lazydisk(f"{rig.near()}/huge.qcow2") as disk:
            rig.stream(disk.path, RANDOM_BYTES)
        with rig.lazydisk(f"{rig.near()}/programs.qcow2") as disk:
            rig.stream(disk.path, STREAM_BYTES)
            rig.random(disk.path, STREAM_BYTES, 2000, 32, rig.data / "programs.raw")
        with rig.link(50, GIGABIT) as origin, rig.lazydisk(f"{origin}/random.raw") as disk:
            rig.stream(disk.path, STREAM_BYTES)
            rig.random(disk.path, RANDOM_BYTES, 1000, 64, rig.data / "random.raw")
        table.add("peak memory of all daemons in this run", rig.peak, "MiB", at_most(128))


# a guest

def boot(rig, table, quick):
    """Seconds until multi-user, at 30 ms and 100 Mbit/s. Local boots stand between the others; of
    several the fastest counts, because other work on the machine only ever adds to it."""
    del quick
    what = "boot from the remote qcow2, 30 ms, 100 Mbit/s"
    with row(table, what):
        guest = debian.build()
        served = rig.data / "guest.qcow2"
        served.unlink(missing_ok=True)
        served.symlink_to(guest / "disk.qcow2")
        boot_rows(rig, table, what, guest, served)


def boot_rows(rig, table, what, guest, served):
    def once(drive):
        return debian.boot(guest, drive, 300)

    cache = rig.new_dir("cache")
    local = [once(f"file={served},format=qcow2")]
    with rig.link(30, GIGABIT / 10) as origin:
        url = f"{origin}/guest.qcow2"
        with rig.traffic() as seen, rig.lazydisk(url, cache) as disk:
            first = once(f"file={disk.path},format=raw")
        second = []
        for _ in range(2):
            with rig.traffic() as again, rig.lazydisk(url, cache) as disk:
                second.append(once(f"file={disk.path},format=raw"))
            local.append(once(f"file={served},format=qcow2"))
        record = rig.new_dir("trace") / "trace"
        run(LAZYDISK, "trace", "export", "--cache-dir", cache, url, record)
        traced = []
        for _ in range(2):
            with rig.traffic() as replayed, rig.lazydisk(url, None, "--trace", record) as disk:
                traced.append(once(f"file={disk.path},format=raw"))
            local.append(once(f"file={served},format=qcow2"))
        download = fetch(rig, url)
        qemu = peer(lambda: once(f"file.driver=http,file.url={url},format=qcow2"))
    native = min(local)
    size = served.stat().st_size
    table.add("boot from the local qcow2", native, "s")
    table.add(what, first, "s", below(download + native, "download, then boot:"))
    table.add("  against qemu's own http driver", first, "s",
              below(qemu if not isinstance(qemu, str) else float("inf"), "qemu:"))
    table.add("  of the local one", first / native, "×", at_most(1.9))
    table.add(f"  fetched, of {size / 1e6:.0f} MB", seen["bytes"] / 1e6, "MB")
    table.add("  the same with the trace of another cache", min(traced), "s")
    table.add("  of the local one", min(traced) / native, "×", at_most(1.35))
    table.add("  fetched, of all bytes", 100 * replayed["bytes"] / size, "%", at_most(40))
    table.add("  second boot, after a remount", min(second), "s")
    table.add("  of the local one", min(second) / native, "×", at_most(1.15))
    table.add("  fetched again by it", 100 * sent_again(seen["ranges"], again["ranges"])
              / max(1, seen["bytes"]), "%", at_most(1))


def fetch(rig, url):
    """Seconds of a download."""
    to = rig.new_dir("download") / "guest.qcow2"
    begin = time.monotonic()
    run("curl", "-sS", "-o", to, url)
    took = time.monotonic() - begin
    to.unlink()
    return took


PARTS = {
    "stream": stream, "zlib": zlib, "random": random, "hits": hits, "opening": opening,
    "copy": copy, "packed": packed, "boot": boot, "trace": trace, "complete": complete,
    "memory": memory,
}
