# SPDX-License-Identifier: Apache-2.0
"""qcow2 files to order, what qemu-img makes of them, and what the formats make of them (imgcat)."""

import json
import os
import resource
import struct
import subprocess

from command import BUILD, sanitized, slowness
from util import MIB, assert_bytes, one_line, run

IMGCAT = os.path.join(BUILD, "tests", "helpers", "imgcat")
DATA_LIMIT = 64 * MIB

COPIED = 1 << 63
COMPRESSED = 1 << 62
OFFSET_MASK = 0x00FFFFFFFFFFFE00


def _limit_memory():
    resource.setrlimit(resource.RLIMIT_DATA, (DATA_LIMIT, DATA_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def imgcat(*args, timeout=20, limited=True):
    """Runs imgcat with bounded memory; it must not crash, whatever the image."""
    preexec = _limit_memory if limited and not sanitized() else None
    done = subprocess.run(  # pylint: disable=subprocess-popen-preexec-fn
        [IMGCAT, *map(str, args)], capture_output=True, timeout=timeout * slowness(),
        preexec_fn=preexec, check=False)
    errors = done.stderr.decode(errors="replace")
    assert done.returncode in (0, 1, 4), f"{args} exited {done.returncode}: {errors}"
    assert "Sanitizer" not in errors and "runtime error" not in errors, errors
    assert "out of memory" not in errors, errors
    return done


def content(*args):
    """What imgcat prints; it must succeed."""
    done = imgcat(*args)
    assert done.returncode == 0, f"{args} exited {done.returncode}: {done.stderr.decode()}"
    return done.stdout


def part(path, offset, length, *options):
    return content(*options, "--read", offset, length, path)


def info(path, *options):
    return json.loads(content(*options, "--info", path))


def extents(path, *options):
    return json.loads(content(*options, "--map", path))


def refusal(*args):
    """Corrupt or unsupported: exit code 4 and one line, which is returned."""
    done = imgcat(*args)
    assert done.returncode == 4, f"{args} exited {done.returncode}: {done.stderr.decode()}"
    return one_line(done.stderr.decode())


def qemu_map(path):
    return json.loads(run("qemu-img", "map", "--output=json", path))


def qemu_raw(path):
    """The disk as qemu-img converts it: the path of a raw file."""
    raw = str(path) + ".qemu-raw"
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw)
    return raw


def check_same(path, *options, reads=150, raw=None, check_map=True):
    """Bytes in order and at random from several threads, and the map, are what QEMU says."""
    raw = raw or qemu_raw(path)
    with open(raw, "rb") as f:
        assert_bytes(content(*options, path), f.read())
    if os.path.getsize(raw):
        content(*options, "--random", 7, reads, 4, raw, path)
    if check_map:
        assert extents(path, *options) == qemu_map(path)


def poke(path, offset, data):
    with open(path, "r+b") as f:
        f.seek(offset)
        f.write(data)


def append(path, data, align=512):
    """Adds @data behind the end; returns where it lies."""
    with open(path, "r+b") as f:
        at = (f.seek(0, os.SEEK_END) + align - 1) // align * align
        f.seek(at)
        f.write(data)
    return at


class Qcow2:
    """The tables of a qcow2 file, to be looked at and to be broken."""

    def __init__(self, path):
        self.path = str(path)
        head = self.read(0, 112)
        self.cluster_bits, self.size = struct.unpack_from(">IQ", head, 20)
        self.l1_size, self.l1 = struct.unpack_from(">IQ", head, 36)
        incompatible = struct.unpack_from(">Q", head, 72)[0] if head[7] > 2 else 0
        self.entry = 16 if incompatible & 16 else 8
        self.cluster = 1 << self.cluster_bits
        self.width = 62 - (self.cluster_bits - 8)

    def read(self, offset, length):
        with open(self.path, "rb") as f:
            f.seek(offset)
            return f.read(length)

    def l2_table(self, guest=0):
        index = guest // (self.cluster * (self.cluster // self.entry))
        return self.word(self.l1 + 8 * index) & OFFSET_MASK

    def word(self, offset):
        return struct.unpack(">Q", self.read(offset, 8))[0]

    def place(self, guest):
        """Where the L2 entry of @guest lies in the file."""
        index = guest // self.cluster % (self.cluster // self.entry)
        return self.l2_table(guest) + index * self.entry

    def get(self, guest):
        return self.word(self.place(guest))

    def set(self, guest, word, bitmap=None):
        at = self.place(guest)
        poke(self.path, at, struct.pack(">Q", word))
        if bitmap is not None:
            poke(self.path, at + 8, struct.pack(">Q", bitmap))

    def set_l1(self, guest, word):
        index = guest // (self.cluster * (self.cluster // self.entry))
        poke(self.path, self.l1 + 8 * index, struct.pack(">Q", word))

    def compressed(self):
        """(guest, host, bytes up to the end of the last sector) of all compressed clusters."""
        found = []
        for guest in range(0, self.size, self.cluster):
            entry = self.get(guest) if self.l2_table(guest) else 0
            if entry & COMPRESSED:
                host = entry & ((1 << self.width) - 1)
                sectors = ((entry & (COMPRESSED - 1)) >> self.width) + 1
                found.append((guest, host, sectors * 512 - host % 512))
        return found

    def set_compressed(self, guest, host, sectors):
        self.set(guest, COMPRESSED | sectors - 1 << self.width | host)
