# SPDX-License-Identifier: Apache-2.0
"""The rows that were measured, what they have to be, and how they are shown."""

import dataclasses
import os
import pathlib
import platform
import time


@dataclasses.dataclass
class Row:
    what: str
    ours: object = None  # a number, or the text of what went wrong
    unit: str = ""
    target: str = ""
    passed: object = None  # None: there is no target
    qsd: str = ""
    nbdkit: str = ""


def at_least(limit):
    return f"≥ {limit:g}", lambda value: value >= limit


def at_most(limit, name=""):
    return f"≤ {name} {limit:g}".replace("  ", " "), lambda value: value <= limit


def below(limit, name):
    return f"< {name} {number(limit)}", lambda value: value < limit


def number(value):
    if isinstance(value, str):
        return value
    if value >= 100:
        return f"{value:.0f}"
    if 0 < value < 0.001:
        return "< 0.001"
    return f"{value:.3g}"


class Table:
    def __init__(self, how=""):
        self.rows = []
        self.how = how
        self.begun = time.localtime()

    def add(self, what, ours, unit="", target=None, qsd="", nbdkit=""):
        """@target: of at_least() and its like; @qsd, @nbdkit: a number in the same unit, or text."""
        row = Row(what, ours, unit, qsd=self._peer(qsd), nbdkit=self._peer(nbdkit))
        if target:
            row.target = target[0]
            row.passed = target[1](ours)
        self._put(row)

    def failed(self, what, why):
        self._put(Row(what, " ".join(str(why).split())[:160], passed=False))

    @staticmethod
    def _peer(value):
        return number(value) if value != "" else ""

    def _put(self, row):
        self.rows.append(row)
        cells = self.cells(row)
        print(f"  {cells[0]:52} {cells[1]:>16} {cells[2]:>22}  {cells[5]:5}"
              f" {'qsd ' + row.qsd if row.qsd else '':16}"
              f" {'nbdkit ' + row.nbdkit if row.nbdkit else ''}", flush=True)

    @staticmethod
    def cells(row):
        verdict = {None: "", True: "PASS", False: "short"}[row.passed]
        if isinstance(row.ours, str):
            verdict = "FAILED"
        ours = f"{number(row.ours)} {row.unit}".strip()
        return [row.what, ours, row.target, row.qsd, row.nbdkit, verdict]

    def markdown(self):
        lines = [f"Measured {time.strftime('%Y-%m-%d', self.begun)} on {machine()}{self.how}.", "",
                 "| | lazydisk | target | qemu-storage-daemon | nbdkit + nbdfuse | |",
                 "|---|---|---|---|---|---|"]
        for row in self.rows:
            lines.append("| " + " | ".join(self.cells(row)) + " |")
        return "\n".join(lines) + "\n"

    def shortcomings(self):
        return [row for row in self.rows if row.passed is False]


def machine():
    model = "unknown processor"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return (f"{os.cpu_count()} × {model}, {memory:.0f} GiB of memory, Linux {platform.release()}, "
            f"load {os.getloadavg()[0]:.1f} at the end")
