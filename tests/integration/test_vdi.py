# SPDX-License-Identifier: Apache-2.0
"""vdi: static and dynamic images read as QEMU reads them; what is broken is refused."""

import os
import shutil

import pytest

from disks import check_mounted, check_same, convert, create, damage, make_raw, peek, poke, qemu_io
from imgcat import imgcat, info, part, refusal
from test_mount import assert_holes_are_honest
from util import MIB, assert_same


@pytest.fixture(scope="module", name="lab")
def fixture_lab(workdir):
    path = os.path.join(workdir, "vdi-lab")
    os.mkdir(path)
    make_raw(f"{path}/base.raw", 8 * MIB - 512)
    convert(f"{path}/base.raw", f"{path}/a.vdi", "vdi")
    return path


@pytest.fixture(name="image")
def fixture_image(lab, tmp):
    return shutil.copy(f"{lab}/a.vdi", tmp)


@pytest.mark.parametrize("size", [8 * MIB, 8 * MIB - 512, MIB + 512, 512])
@pytest.mark.parametrize("static", ["on", "off"])
def test_kinds_and_sizes(tmp, static, size):
    path = convert(make_raw(f"{tmp}/a.raw", size), f"{tmp}/a.vdi", "vdi", f"static={static}")
    check_same(path, "vdi")
    assert info(path)["subformat"] == ("static" if static == "on" else "dynamic")


def test_writes_in_any_order(tmp):
    path = create(f"{tmp}/a.vdi", "vdi", "200M")
    qemu_io(path, "vdi", "write -P 1 100M 100k", "write -P 2 3M 64k", "write -P 3 99M 2M",
            "write -P 4 199M 1M")
    check_same(path, "vdi")


def test_an_odd_size_is_rounded_up(image):
    """VBoxManage makes such images."""
    poke(image, 368, "<Q", 8 * MIB - 1000)
    check_same(image, "vdi")
    assert info(image)["size"] == 8 * MIB - 512


def test_discarded_blocks_are_zeros(image):
    table = peek(image, 340, "<I")[0]
    poke(image, table, "<I", 0xFFFFFFFE)
    assert part(image, 0, 512) == bytes(512)
    check_same(image, "vdi")


@pytest.mark.parametrize("static", ["on", "off"])
def test_over_http_and_by_copy(lazydisk, nginx, images, static):
    path = convert(images.raw, images.path(f"{static}.vdi"), "vdi", f"static={static}")
    check_mounted(lazydisk, nginx.url(path), images.raw, assert_same, assert_holes_are_honest)


@pytest.mark.parametrize("at, fmt, value, says", [
    (68, "<I", 1, "version 0.1"), (68, "<I", 0x20000, "version 2.0"), (76, "<I", 3, "undo"),
    (76, "<I", 4, "differencing"), (76, "<I", 9, "type 9"), (424, "<B", 1, "differencing"),
    (440, "<B", 1, "differencing"), (360, "<I", 4096, "sectors of 4096"),
    (376, "<I", 0, "block size"), (376, "<I", 3 * MIB, "block size"),
    (376, "<I", 1 << 31, "block size"), (380, "<I", 512, "data of their own"),
    (384, "<I", 1, "too small"), (384, "<I", 0xFFFFFFFF, "beyond the end"),
    (368, "<Q", 1 << 63, "too big"), (368, "<Q", 1 << 60, "too small"),
    (340, "<I", 513, "odd place"), (340, "<I", 0, "odd place"), (344, "<I", 1, "odd place"),
    (340, "<I", 0xFFFFFE00, "beyond the end"),
])
def test_hostile_headers(image, at, fmt, value, says):
    poke(image, at, fmt, value)
    assert says in refusal(image)


def test_blocks_that_are_nowhere(image):
    table = peek(image, 340, "<I")[0]
    good = part(image, MIB, MIB)
    for value in (0xFFFFFFFD, 0x7FFFFFFF, 1000):
        poke(image, table, "<I", value)
        assert "beyond the end" in refusal("--read", 0, 1, image)
        assert part(image, MIB, MIB) == good
    poke(image, table, "<I", peek(image, table + 4, "<I")[0])
    assert part(image, 0, MIB) == good  # two entries, one block: nothing is wrong for a reader


def test_an_image_that_is_cut_in_its_last_block(image):
    size = os.path.getsize(image)
    os.truncate(image, size - MIB)
    assert imgcat(image).returncode == 4
    assert part(image, 0, 512) == part(image, 0, 512)


def test_damage(lab):
    damage(f"{lab}/a.vdi", "vdi", 20, 100)


@pytest.mark.slow
def test_much_damage(lab):
    damage(f"{lab}/a.vdi", "vdi", 100, 1000)
