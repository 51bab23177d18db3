# SPDX-License-Identifier: Apache-2.0
"""vhd: fixed and dynamic disks read as QEMU reads them; what is broken is refused."""

import os
import shutil
import struct

import pytest

from disks import check_mounted, check_same, convert, create, damage, make_raw, peek, qemu_io
from imgcat import imgcat, info, part, refusal
from test_mount import assert_holes_are_honest
from util import GIB, KIB, MIB, assert_same


def checksum(path, offset, length, at):
    """Makes the checksum of the structure right, whatever it holds."""
    with open(path, "r+b") as f:
        f.seek(offset)
        data = bytearray(f.read(length))
        data[at:at + 4] = bytes(4)
        data[at:at + 4] = struct.pack(">I", ~sum(data) & 0xFFFFFFFF)
        f.seek(offset)
        f.write(data)


def poke_footer(path, at, fmt, *values, offset=0):
    with open(path, "r+b") as f:
        f.seek(offset + at)
        f.write(struct.pack(fmt, *values))
    checksum(path, offset, 512, 64)


def poke_dynamic(path, at, fmt, *values):
    with open(path, "r+b") as f:
        f.seek(512 + at)
        f.write(struct.pack(fmt, *values))
    checksum(path, 512, 1024, 36)


@pytest.fixture(scope="module", name="lab")
def fixture_lab(workdir):
    path = os.path.join(workdir, "vhd-lab")
    os.mkdir(path)
    make_raw(f"{path}/base.raw", 8 * MIB)
    convert(f"{path}/base.raw", f"{path}/dynamic.vhd", "vhd", "force_size=on")
    convert(f"{path}/base.raw", f"{path}/fixed.vhd", "vhd", "subformat=fixed,force_size=on")
    return path


@pytest.fixture(name="dynamic")
def fixture_dynamic(lab, tmp):
    return shutil.copy(f"{lab}/dynamic.vhd", tmp)


@pytest.fixture(name="fixed")
def fixture_fixed(lab, tmp):
    return shutil.copy(f"{lab}/fixed.vhd", tmp)


@pytest.mark.parametrize("size", [8 * MIB, 8 * MIB - 512, 3 * MIB + 512, 64 * KIB])
@pytest.mark.parametrize("subformat", ["fixed", "dynamic"])
@pytest.mark.parametrize("force", ["on", "off"])
def test_kinds_and_sizes(tmp, subformat, size, force):
    """Without force_size the disk is as large as a geometry can say."""
    options = f"subformat={subformat},force_size={force}"
    path = convert(make_raw(f"{tmp}/a.raw", size), f"{tmp}/a.vhd", "vhd", options)
    check_same(path, "vhd")
    assert info(path)["subformat"] == subformat, "recognised by its content"
    assert info(path)["creator"] == ("qem2" if force == "on" else "qemu")


def test_writes_in_any_order(tmp):
    path = create(f"{tmp}/a.vhd", "vhd", "200M")
    qemu_io(path, "vhd", "write -P 1 100M 100k", "write -P 2 3M 64k", "write -P 3 99M 2M",
            "write -P 4 199M 1M")
    check_same(path, "vhd")


@pytest.mark.parametrize("creator, by_geometry", [
    (b"win ", False), (b"qem2", False), (b"d2v ", False), (b"CTXS", False), (b"tap\0", False),
    (b"vpc ", True), (b"qemu", True), (b"vbox", True)])
def test_whose_size_counts(dynamic, creator, by_geometry):
    poke_footer(dynamic, 28, ">4s", creator)
    poke_footer(dynamic, 56, ">HBB", 100, 4, 17)
    check_same(dynamic, "vhd")
    assert info(dynamic)["size"] == (100 * 4 * 17 * 512 if by_geometry else 8 * MIB)


def test_azure_goes_by_the_current_size(dynamic):
    """QEMU 7.2 does not know it yet."""
    poke_footer(dynamic, 28, ">4s", b"wa\0\0")
    poke_footer(dynamic, 56, ">HBB", 100, 4, 17)
    assert info(dynamic)["size"] == 8 * MIB


def test_the_largest_geometry_says_nothing(dynamic):
    poke_footer(dynamic, 28, ">4s", b"vpc ")
    poke_footer(dynamic, 56, ">HBB", 65535, 16, 255)
    check_same(dynamic, "vhd")
    assert info(dynamic)["size"] == 8 * MIB


def test_bitmaps_of_sectors_do_not_matter(dynamic):
    """QEMU does not look at them either: what was never written is zeros in the file."""
    table = peek(dynamic, 512 + 16, ">Q")[0]
    block = peek(dynamic, table, ">I")[0] * 512
    good = part(dynamic, 0, 2 * MIB)
    with open(dynamic, "r+b") as f:
        f.seek(block)
        f.write(bytes(512))
    check_same(dynamic, "vhd")
    assert part(dynamic, 0, 2 * MIB) == good


@pytest.mark.parametrize("subformat", ["fixed", "dynamic"])
def test_over_http_and_by_copy(lazydisk, nginx, images, subformat):
    path = convert(images.raw, images.path(f"{subformat}.vhd"), "vhd",
                   f"subformat={subformat},force_size=on")
    check_mounted(lazydisk, nginx.url(path), images.raw, assert_same, assert_holes_are_honest)


@pytest.mark.parametrize("at, fmt, value, says", [
    (60, ">I", 4, "differencing"), (60, ">I", 5, "type 5"), (60, ">I", 2, "fixed disk at the beg"),
    (12, ">I", 0x20000, "version 2"), (16, ">Q", 1 << 63, "dynamic header lies beyond"),
    (16, ">Q", 0xFFFFFFFFFFFFFFFF, "dynamic header lies beyond"), (16, ">Q", 0, "no dynamic header"),
    (48, ">Q", 4096 * GIB, "too big"), (48, ">Q", 1000 * GIB, "too small"),
])
def test_hostile_footers(dynamic, at, fmt, value, says):
    poke_footer(dynamic, at, fmt, value)
    assert says in refusal(dynamic)


@pytest.mark.parametrize("at, fmt, value, says", [
    (16, ">Q", 1 << 62, "beyond the end"), (16, ">Q", 1537, "beyond the end"),
    (28, ">I", 0xFFFFFFFF, "beyond the end"), (28, ">I", 1, "too small"),
    (32, ">I", 0, "block size"), (32, ">I", 3 * MIB, "block size"), (32, ">I", 256, "block size"),
    (32, ">I", 1 << 31, "block size"), (0, ">8s", b"cxspars ", "no dynamic header"),
])
def test_hostile_dynamic_headers(dynamic, at, fmt, value, says):
    poke_dynamic(dynamic, at, fmt, value)
    assert says in refusal(dynamic)


def test_wrong_checksums(dynamic, fixed):
    for path, at in ((dynamic, 100), (dynamic, 512 + 100), (fixed, 8 * MIB + 100)):
        with open(path, "r+b") as f:
            f.seek(at)
            saved = f.read(1)
            f.seek(at)
            f.write(bytes([saved[0] ^ 1]))
            f.flush()
            assert "checksum" in refusal(path)
            f.seek(at)
            f.write(saved)
    assert part(dynamic, 0, 512) == part(fixed, 0, 512)


def test_blocks_that_are_nowhere(dynamic):
    table = peek(dynamic, 512 + 16, ">Q")[0]
    good = part(dynamic, 2 * MIB, MIB)
    for value in (0xFFFFFFFE, 0x7FFFFFFF, os.path.getsize(dynamic) // 512):
        with open(dynamic, "r+b") as f:
            f.seek(table)
            f.write(struct.pack(">I", value))
        assert "beyond the end" in refusal("--read", 0, 1, dynamic)
        assert part(dynamic, 2 * MIB, MIB) == good


def test_a_fixed_disk_that_lacks_bytes(fixed):
    poke_footer(fixed, 48, ">Q", 8 * MIB + 512, offset=8 * MIB)
    assert "truncated" in refusal(fixed)


def test_a_dynamic_disk_that_is_cut(dynamic):
    os.truncate(dynamic, os.path.getsize(dynamic) - 512)  # the second footer
    assert part(dynamic, 0, 512) == part(dynamic, 0, 512)
    os.truncate(dynamic, os.path.getsize(dynamic) - 2 * MIB)
    assert imgcat(dynamic).returncode == 4


@pytest.mark.parametrize("name", ["dynamic", "fixed"])
def test_damage(lab, name):
    damage(f"{lab}/{name}.vhd", "vhd", 20, 100)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dynamic", "fixed"])
def test_much_damage(lab, name):
    damage(f"{lab}/{name}.vhd", "vhd", 100, 1000)
