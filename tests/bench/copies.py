# SPDX-License-Identifier: Apache-2.0
"""The copier against what people do today: qemu-img over http, and downloading first."""

import contextlib
import subprocess
import time

from data import RANDOM_BYTES, SYSTEM_BYTES
from rig import GIGABIT, LAZYDISK, READER, Failed, Process, run
from table import at_least, at_most


class Timed:
    """A program that was run: its seconds, and the most memory that it took (what wait4() says of
    that counts the memory of whoever forked, too)."""

    def __init__(self, rig, *argv):
        begin = time.monotonic()
        self.peak_mib = 0.0
        with Process(argv[0], argv, rig.dir / "timed.log", stdout=subprocess.DEVNULL) as done:
            while done.child.poll() is None:
                with contextlib.suppress(Failed, OSError):
                    self.peak_mib = max(self.peak_mib, done.peak_mib())
                with contextlib.suppress(subprocess.TimeoutExpired):
                    done.child.wait(0.05)
            self.seconds = time.monotonic() - begin
        if done.child.returncode != 0:
            words = (rig.dir / "timed.log").read_text(errors="replace").strip()[-200:]
            raise Failed(f"{argv[0]} exited {done.child.returncode}: {words}")


@contextlib.contextmanager
def loop_device(rig, size):
    """Over a sparse file of the rig's; nobody has written to it."""
    backing = rig.new_dir("loop") / "backing"
    with open(backing, "wb") as f:
        f.truncate(size)
    device = run("losetup", "--find", "--show", "--direct-io=on", backing).strip()
    try:
        yield device
    finally:
        run("losetup", "--detach", device)
        backing.unlink()


def onto_device(rig, right, how):
    """Runs how(device), which returns a Timed, and compares what is on the device then."""
    with loop_device(rig, right.stat().st_size) as device:
        done = how(device)
        run(READER, "stream", device, "--bytes", right.stat().st_size, "--compare", right)
    return done


def lazydisk_copy(rig, source, target):
    return Timed(rig, LAZYDISK, "copy", "--progress", "none", source, target)


def convert(rig, source, target):
    """As fast as qemu-img goes; the target is a device that is known to be zero."""
    return Timed(rig, "qemu-img", "convert", "-n", "--target-is-zero", "-W", "-m", 16, "-f", "qcow2",
                 "-O", "raw", source, target)


def download_and_convert(rig, url, target):
    scratch = rig.new_dir("scratch") / "image.qcow2"
    first = Timed(rig, "curl", "-sS", "-o", scratch, url)
    second = convert(rig, scratch, target)
    scratch.unlink()
    first.seconds += second.seconds
    return first


def best(rounds, *measures):
    """The fastest of each, measured in turn: other work on the machine only ever adds time, and a
    machine that is slow for a minute is so for all."""
    done = [[measure() for measure in measures] for _ in range(rounds)]
    fastest = [min(column, key=lambda d: d.seconds) for column in zip(*done)]
    for first, column in zip(fastest, zip(*done)):
        first.peak_mib = max(d.peak_mib for d in column)
    return fastest


def copy(rig, table, quick):
    rounds = 2 if quick else 3
    peaks = []
    with rig.link(10, GIGABIT) as origin:
        peaks.append(compressed_rows(rig, table, f"{origin}/system.qcow2", rounds))
        peaks.append(raw_rows(rig, table, f"{origin}/random.raw", rounds))
    peaks.append(local_rows(rig, table, rounds))
    table.add("peak memory of copying", max(peaks), "MiB", at_most(128))


def compressed_rows(rig, table, url, rounds):
    right = rig.data / "system.raw"
    size = (rig.data / "system.qcow2").stat().st_size / 1e6
    ours, first, wire = best(
        rounds,
        lambda: onto_device(rig, right, lambda to: lazydisk_copy(rig, url, to)),
        lambda: onto_device(rig, right, lambda to: download_and_convert(rig, url, to)),
        lambda: Timed(rig, "curl", "-sS", "-o", "/dev/null", url))
    qemu = onto_device(rig, right, lambda to: convert(rig, url, to))
    table.add(f"copy of a zlib qcow2 of {size:.0f} MB ({SYSTEM_BYTES >> 30} GiB) onto a loop device,"
              " 10 ms, 1 Gbit/s", ours.seconds, "s")
    table.add("  the wire alone (curl to nowhere)", wire.seconds, "s")
    table.add(f"  of qemu-img convert -W -m 16 over http ({qemu.seconds:.1f} s)",
              qemu.seconds / ours.seconds, "×", at_least(6))
    table.add(f"  of download, then convert ({first.seconds:.2f} s)",
              first.seconds / ours.seconds, "×", at_least(1.6))
    return ours.peak_mib


def raw_rows(rig, table, url, rounds):
    right = rig.data / "random.raw"
    [ours] = best(rounds, lambda: onto_device(rig, right, lambda to: lazydisk_copy(rig, url, to)))
    rate = RANDOM_BYTES / ours.seconds
    table.add("copy of 1 GiB raw onto a loop device, 10 ms, 1 Gbit/s", rate / 1e6, "MB/s")
    table.add("  of the link", rate / GIGABIT, "", at_least(0.95))
    return ours.peak_mib


def local_rows(rig, table, rounds):
    right = rig.data / "system.raw"
    image = rig.data / "system.qcow2"
    theirs, ours = best(
        rounds + 1,
        lambda: onto_device(rig, right, lambda to: convert(rig, image, to)),
        lambda: onto_device(rig, right, lambda to: lazydisk_copy(rig, image, to)))
    table.add("copy of the same zlib qcow2 from a local file", ours.seconds, "s")
    table.add(f"  of qemu-img convert -W -m 16 ({theirs.seconds:.2f} s)",
              theirs.seconds / ours.seconds, "×", at_least(1.5))
    return ours.peak_mib
