# SPDX-License-Identifier: Apache-2.0
"""vmdk, vhd, vhdx and vdi files: made by qemu-img or by hand, and compared with what QEMU reads."""

import json
import os
import struct
import subprocess
import zlib

from command import BUILD, sanitized, slowness
from imgcat import content, extents
from util import KIB, MIB, assert_bytes, offset_words, run, seeded_bytes

DAMAGE = os.path.join(BUILD, "tests", "helpers", "damage")
QEMU_NAMES = {"vhd": "vpc"}


def qemu(kind):
    return QEMU_NAMES.get(kind, kind)


def make_raw(path, size):
    """Data of several kinds and holes, up to the last byte."""
    with open(path, "wb") as f:
        f.write(offset_words(0, 200 * KIB)[:size])
        for at, data in [(MIB + 512, seeded_bytes(70 * KIB, "a")), (3 * MIB, b"\x22" * MIB),
                         (5 * MIB + 64 * KIB, seeded_bytes(30 * KIB, "b").hex().encode())]:
            if at + len(data) < size:
                f.seek(at)
                f.write(data)
        f.truncate(size)
        f.seek(size - 512)
        f.write(b"\x5a" * 512)
    return path


def convert(raw, target, kind, options=""):
    run("qemu-img", "convert", "-f", "raw", "-O", qemu(kind), *(["-o", options] if options else []),
        raw, target)
    return str(target)


def create(target, kind, size, options=""):
    run("qemu-img", "create", "-q", "-f", qemu(kind), *(["-o", options] if options else []), target,
        size)
    return str(target)


def qemu_io(path, kind, *commands):
    run("qemu-io", "-f", qemu(kind), *[a for c in commands for a in ("-c", c)], path)


def qemu_raw(path, kind):
    raw = str(path) + ".qemu-raw"
    run("qemu-img", "convert", "-f", qemu(kind), "-O", "raw", path, raw)
    return raw


def plain(mapped):
    """Extents without what only a hole of the file below says, as long as they can be."""
    found = []
    for x in mapped:
        x = {**x, "zero": x["zero"] and not x["data"]}
        last = found[-1] if found else None
        moved = {"start": 0, "length": 0, "offset": 0}
        if (last and {**last, **moved} == {**x, **moved} and ("offset" in last) == ("offset" in x)
                and last.get("offset", 0) + last["length"] * ("offset" in x) == x.get("offset", 0)):
            last["length"] += x["length"]
        else:
            found.append(x)
    return found


def check_same(path, kind, *options, raw=None, check_map=True):
    """All bytes in order, and at random from several threads, and the map, are what QEMU says."""
    options = ["--format", kind, *options]
    raw = raw or qemu_raw(path, kind)
    with open(raw, "rb") as f:
        expected = f.read()
    assert_bytes(content(*options, path), expected)
    if expected:
        content(*options, "--random", 7, 100, 4, raw, path)
    ours = extents(path, *options)
    if check_map:
        theirs = json.loads(run("qemu-img", "map", "-f", qemu(kind), "--output=json", path))
        assert plain(ours) == plain(theirs)
    at = 0
    for x in ours:
        assert x["start"] == at
        at += x["length"]
        if x["zero"]:
            part = expected[x["start"]:at]
            assert part.count(0) == len(part), f"an extent hides data: {x}"
    assert at == len(expected)


def check_mounted(lazydisk, url, reference, same, honest):
    """Over HTTP through the cache, twice, the second time from what is kept; and by copy."""
    for _ in range(2):
        with lazydisk.mounted("--allow-backing", url) as mount:
            same(mount.image(), reference)
            honest(mount.image(), reference)
    target = os.path.join(lazydisk.directory, "copy.img")
    lazydisk.ok("copy", "--allow-backing", url, target)
    same(target, reference)
    os.unlink(target)


def damage(path, kind, cuts, flips):
    """What came of so many cuts and flipped bits; asserts that none was a crash or a lie."""
    prefix = [] if sanitized() else ["prlimit", f"--data={128 * MIB}"]
    done = subprocess.run([*prefix, DAMAGE, kind, str(path), "1", str(cuts), str(flips)],
                          capture_output=True, text=True, timeout=50 * slowness(), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert sum(found["cut"].values()) == cuts and sum(found["flipped"].values()) == flips
    assert found["cut"]["different"] == 0
    return found


def poke(path, offset, fmt, *values):
    with open(path, "r+b") as f:
        f.seek(offset)
        f.write(struct.pack(fmt, *values))


def peek(path, offset, fmt):
    with open(path, "rb") as f:
        f.seek(offset)
        return struct.unpack(fmt, f.read(struct.calcsize(fmt)))


# vmdk

def _sector(data):
    return data + bytes(-len(data) % 512)


def _marker(count, kind):
    return _sector(struct.pack("<QII", count, 0, kind))


def _sparse_header(sectors, grain, gd):
    return _sector(struct.pack("<4sIIQQQQIQQQB4sH", b"KDMV", 3, 0x30001, sectors, grain, 1, 1, 512, 0,
                               gd, 128, 0, b"\n \r\n", 1))


def stream_optimized(raw, target, grain=128, short_tail=True):
    """As tools that write OVA files do: in one pass, the directory behind the grains, a footer."""
    with open(raw, "rb") as f:
        disk = f.read()
    sectors = len(disk) // 512
    step = grain * 512
    out = bytearray(_sparse_header(sectors, grain, 0xFFFFFFFFFFFFFFFF))
    out += _sector(b'# Disk DescriptorFile\nversion=1\nCID=00000001\nparentCID=ffffffff\n'
                   b'createType="streamOptimized"\n')
    out += bytes(128 * 512 - len(out))
    directory = []
    for first in range(0, len(disk), 512 * step):
        table = []
        for at in range(first, min(first + 512 * step, len(disk)), step):
            data = disk[at:at + step]
            if data.count(0) == len(data):
                table.append(0)
                continue
            if not short_tail:
                data += bytes(step - len(data))
            stream = zlib.compress(data)
            table.append(len(out) // 512)
            out += _sector(struct.pack("<QI", at // 512, len(stream)) + stream)
        if not any(table):
            directory.append(0)
            continue
        out += _marker(4, 1)
        directory.append(len(out) // 512)
        out += struct.pack("<512I", *table, *[0] * (512 - len(table)))
    out += _marker((len(directory) * 4 + 511) // 512, 2)
    gd = len(out) // 512
    out += _sector(struct.pack(f"<{len(directory)}I", *directory))
    out += _marker(1, 3) + _sparse_header(sectors, grain, gd) + bytes(512)
    with open(target, "wb") as f:
        f.write(out)
    return str(target)
