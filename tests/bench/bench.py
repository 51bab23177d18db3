#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Measures lazydisk, qemu-storage-daemon and nbdkit in turn and prints a table: see README.md.

Needs a build (default ./build, else $LAZYDISK_BUILD), the packages of the group `bench` in
scripts/packages.txt, root and /dev/fuse. Everything stays on this machine.
"""

import argparse
import os
import pathlib
import shutil
import signal
import sys
import time

import data
from parts import PARTS
from rig import BUILD, LAZYDISK, LEAST, READER, RELAY, ROOT, Failed, Rig
from table import Table, machine

NEEDED = ["nginx", "curl", "qemu-img", "qemu-io", "qemu-storage-daemon", "qemu-system-x86_64",
          "nbdkit", "nbdfuse", "mmdebstrap"]

MARKS = ("<!-- tests/bench: the table begins -->", "<!-- tests/bench: the table ends -->")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--only", metavar="PART,...", default=",".join(PARTS),
                        help=f"of {', '.join(PARTS)}")
    parser.add_argument("--markdown", metavar="FILE", help="write the table there, too")
    parser.add_argument("--readme", action="store_true",
                        help="put the table into this tree's README.md, for the one before")
    parser.add_argument("--realtime", action="store_true",
                        help="go before all other work on the machine (SCHED_RR)")
    parser.add_argument("--work", metavar="DIR", type=pathlib.Path, default=BUILD / "bench",
                        help="where images and caches are (default %(default)s); about 12 GB")
    chosen = parser.parse_args()
    chosen.only = chosen.only.split(",")
    for part in chosen.only:
        if part not in PARTS:
            parser.error(f"no part is called {part}")
    return chosen


def check_tools():
    missing = [str(tool) for tool in (LAZYDISK, RELAY, READER, LEAST) if not tool.exists()]
    missing += [name for name in NEEDED if not shutil.which(name, path="/usr/sbin:/usr/bin:/bin")]
    if missing:
        sys.exit(f"bench: missing: {', '.join(missing)} (build first; scripts/packages install"
                 " build test bench)")


def into_readme(text):
    """Between the two marks, which stay."""
    readme = ROOT / "README.md"
    begin, rest = readme.read_text(encoding="utf-8").split(MARKS[0] + "\n")
    end = rest.split(MARKS[1])[1]
    readme.write_text(f"{begin}{MARKS[0]}\n{text}{MARKS[1]}{end}", encoding="utf-8")


def main():
    chosen = arguments()
    check_tools()
    # So that the with blocks clean up whoever ends us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if chosen.realtime:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(2))
    begun = time.monotonic()
    images = chosen.work / "images"
    print("images ...", flush=True)
    data.make(images)
    table = Table(", with real-time priority" if chosen.realtime else "")
    with Rig(images, chosen.work) as rig:
        for part in chosen.only:
            print(f"{part} ({time.monotonic() - begun:.0f} s)", flush=True)
            try:
                PARTS[part](rig, table, chosen.quick)
            except Failed as error:
                table.failed(part, error)
    print(f"\n{table.markdown()}")
    if chosen.markdown:
        pathlib.Path(chosen.markdown).write_text(table.markdown(), encoding="utf-8")
    if chosen.readme:
        into_readme(table.markdown())
    short = table.shortcomings()
    print(f"{len(table.rows)} figures, {len(short)} short of their target,"
          f" {time.monotonic() - begun:.0f} s, on {machine()}")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
