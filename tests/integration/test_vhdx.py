# SPDX-License-Identifier: Apache-2.0
"""vhdx: fixed and dynamic disks read as QEMU reads them, also when their log was not replayed; what
is broken is refused."""

import json
import os
import shutil
import struct

import pytest

from disks import (check_mounted, check_same, convert, create, damage, make_raw, poke, qemu_io,
                   qemu_raw)
from imgcat import content, imgcat, info, part, refusal
from test_mount import assert_holes_are_honest
from util import KIB, MIB, assert_bytes, assert_same, run

HEADERS = (64 * KIB, 128 * KIB)
REGIONS = (192 * KIB, 256 * KIB)
BAT = bytes.fromhex("6677c22d23f600429d64115e9bfd4a08")
METADATA = bytes.fromhex("06a27c8b90479a4bb8fe575f050f886e")
PARAMETERS = bytes.fromhex("3767a1ca36fa434db3b633f0aa44e76b")
SIZE = bytes.fromhex("2442a52f1bcd7648b2115dbed83bf4b8")
LOGICAL = bytes.fromhex("1dbf41816fa90947ba47f233a8faab5f")
GUID = bytes(range(16))

CRC = []
for n in range(256):
    for _ in range(8):
        n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
    CRC.append(n)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def summed(data):
    """@data with its checksum at 4 made right."""
    data = bytes(data)
    data = data[:4] + bytes(4) + data[8:]
    return data[:4] + struct.pack("<I", crc32c(data)) + data[8:]


class Vhdx:
    """The structures of a file, to be looked at and to be broken."""

    def __init__(self, path):
        self.path = str(path)

    def read(self, offset, length):
        with open(self.path, "rb") as f:
            f.seek(offset)
            return f.read(length)

    def write(self, offset, data):
        with open(self.path, "r+b") as f:
            f.seek(offset)
            f.write(data)

    def active(self):
        """Where the newer header is."""
        return max(HEADERS, key=lambda at: struct.unpack("<Q", self.read(at + 8, 8)))

    def change(self, at, length, offset, fmt, *values):
        """Changes a structure and makes its checksum right."""
        data = bytearray(self.read(at, length))
        struct.pack_into(fmt, data, offset, *values)
        self.write(at, summed(data))

    def change_header(self, offset, fmt, *values):
        self.change(self.active(), 4096, offset, fmt, *values)

    def region_entry(self, guid):
        return self.read(REGIONS[0], 64 * KIB).index(guid)

    def change_region(self, guid, offset, fmt, *values):
        at = self.region_entry(guid) + offset
        for table in REGIONS:
            self.change(table, 64 * KIB, at, fmt, *values)

    def region(self, guid):
        at = REGIONS[0] + self.region_entry(guid)
        return struct.unpack("<Q", self.read(at + 16, 8))[0]

    def item(self, guid):
        """Where an item of metadata is in the file."""
        table = self.region(METADATA)
        at = self.read(table, 64 * KIB).index(guid)
        return table + struct.unpack("<I", self.read(table + at + 16, 4))[0]

    def log(self):
        """(offset, length)"""
        length, offset = struct.unpack("<IQ", self.read(self.active() + 68, 12))
        return offset, length

    def set_log(self, entries, start=0):
        """Writes log @entries from @start on and marks the file as one that was not closed."""
        offset, length = self.log()
        at = start
        for entry in entries:
            for i in range(0, len(entry), 4096):
                self.write(offset + at, entry[i:i + 4096])
                at = (at + 4096) % length
        self.change_header(48, "<16sH", GUID, 0)


def log_entry(sequence, tail, file_size, changes, last=None, guid=GUID):
    """@changes: (offset, 4096 bytes), or (offset, length) of zeros."""
    head = bytearray(64)
    descriptors = b""
    data = b""
    for offset, what in changes:
        if isinstance(what, int):
            descriptors += struct.pack("<4sIQQQ", b"zero", 0, what, offset, sequence)
        else:
            descriptors += struct.pack("<4s4s8sQQ", b"desc", what[-4:], what[:8], offset, sequence)
            data += (struct.pack("<4sI", b"data", sequence >> 32) + what[8:-4] +
                     struct.pack("<I", sequence & 0xFFFFFFFF))
    sectors = (64 + len(descriptors) + 4095) // 4096 * 4096
    struct.pack_into("<4sIIIQII16sQQ", head, 0, b"loge", 0, sectors + len(data), tail, sequence,
                     len(changes), 0, guid, file_size, last or file_size)
    return summed((bytes(head) + descriptors).ljust(sectors, b"\0") + data)


@pytest.fixture(scope="module", name="lab")
def fixture_lab(workdir):
    path = os.path.join(workdir, "vhdx-lab")
    os.mkdir(path)
    make_raw(f"{path}/base.raw", 8 * MIB - 512)
    convert(f"{path}/base.raw", f"{path}/a.vhdx", "vhdx", "block_size=1M")
    return path


@pytest.fixture(name="image")
def fixture_image(lab, tmp):
    return Vhdx(shutil.copy(f"{lab}/a.vhdx", tmp))


@pytest.mark.parametrize("size", [8 * MIB, 8 * MIB - 512, 512])
@pytest.mark.parametrize("options", [
    "subformat=dynamic", "subformat=fixed", "subformat=dynamic,block_size=1M",
    "subformat=fixed,block_size=2M", "block_size=256M,log_size=4M"])
def test_kinds_and_sizes(tmp, options, size):
    path = convert(make_raw(f"{tmp}/a.raw", size), f"{tmp}/a.vhdx", "vhdx", options)
    check_same(path, "vhdx", check_map=False)
    assert info(path)["subformat"] == ("fixed" if "fixed" in options else "dynamic")
    assert not info(path)["log_replayed"]


def test_writes_in_any_order(tmp):
    path = create(f"{tmp}/a.vhdx", "vhdx", "200M", "block_size=1M")
    qemu_io(path, "vhdx", "write -P 1 100M 100k", "write -P 2 3M 64k", "write -P 3 99M 2M",
            "write -P 4 199M 1M")
    check_same(path, "vhdx", check_map=False)


def test_entries_of_bitmaps_among_those_of_blocks(tmp):
    """With blocks of 256 MiB there is one of a bitmap behind each 16."""
    path = create(f"{tmp}/a.vhdx", "vhdx", "20G", "block_size=256M")
    qemu_io(path, "vhdx", "write -P 1 0 512", "write -P 2 4G 4k", "write -P 3 8588886016 4k",
            "write -P 4 12G 512", "write -P 5 21474836480 0", "write -P 6 21474831872 4608")
    for at, length, byte in [(0, 512, 1), (4 << 30, 4096, 2), (8588886016, 4096, 3),
                             (12 << 30, 512, 4), (21474831872, 4608, 6)]:
        assert part(path, at, length) == bytes([byte]) * length


def test_sectors_of_4096_bytes(tmp):
    """QEMU makes none; but for the chunks they change nothing."""
    raw = make_raw(f"{tmp}/a.raw", 8 * MIB)
    image = Vhdx(convert(raw, f"{tmp}/a.vhdx", "vhdx", "block_size=1M"))
    image.write(image.item(LOGICAL), struct.pack("<I", 4096))
    with open(raw, "rb") as f:
        assert_bytes(content(image.path), f.read())
    assert info(image.path)["sector_size"] == 4096


@pytest.mark.parametrize("subformat", ["fixed", "dynamic"])
def test_over_http_and_by_copy(lazydisk, nginx, images, subformat):
    path = convert(images.raw, images.path(f"{subformat}.vhdx"), "vhdx", f"subformat={subformat}")
    check_mounted(lazydisk, nginx.url(path), images.raw, assert_same, assert_holes_are_honest)


# the log

def replayed_by_qemu(path):
    """What QEMU reads once it has replayed the log of a copy."""
    copy = shutil.copy(path, path + ".copy")
    run("qemu-img", "check", "-r", "all", copy)
    return qemu_raw(copy, "vhdx")


def log_layer(lazydisk, path):
    layers = json.loads(lazydisk.ok("info", "--json", path))["layers"]
    return [x for x in layers if x["name"] == "vhdx-log"][0]


def interrupted(lab, tmp, start=0, extra=()):
    """A disk whose last write got into the log but not into the table: (Vhdx, entries)."""
    before = Vhdx(shutil.copy(f"{lab}/a.vhdx", f"{tmp}/before.vhdx"))
    after = Vhdx(shutil.copy(f"{lab}/a.vhdx", f"{tmp}/after.vhdx"))
    qemu_io(after.path, "vhdx", "write -P 0x77 2M 100k")
    bat = after.region(BAT)
    size = os.path.getsize(after.path)
    new = after.read(bat, 4096)
    assert new != before.read(bat, 4096)
    after.write(bat, before.read(bat, 4096))
    assert part(after.path, 2 * MIB, 512) != b"\x77" * 512
    entries = [log_entry(7, start, size, [(bat, before.read(bat, 4096))]),
               log_entry(8, start, size, [(bat, new), *extra])]
    return after, entries


@pytest.mark.parametrize("start", [0, 40 * KIB, MIB - 4 * KIB, MIB - 12 * KIB])
def test_a_log_is_replayed(lazydisk, lab, tmp, start):
    """Wherever in the ring it begins, and over its end."""
    image, entries = interrupted(lab, tmp, start)
    image.set_log(entries, start)
    want = replayed_by_qemu(image.path)
    check_same(image.path, "vhdx", raw=want, check_map=False)
    assert part(image.path, 2 * MIB, 512) == b"\x77" * 512
    assert info(image.path)["log_replayed"]
    layer = log_layer(lazydisk, image.path)
    assert layer["log_entries"] == 2 and layer["log_changes"] == 2


def test_a_log_is_replayed_over_http(lazydisk, lab, tmp, nginx, images):
    image, entries = interrupted(lab, tmp)
    image.set_log(entries)
    want = replayed_by_qemu(image.path)
    path = shutil.copy(image.path, images.path("dirty.vhdx"))
    check_mounted(lazydisk, nginx.url(path), want, assert_same, assert_holes_are_honest)


def test_a_log_that_zeroes_and_overwrites(lab, tmp):
    image = Vhdx(shutil.copy(f"{lab}/a.vhdx", f"{tmp}/b.vhdx"))
    block = struct.unpack("<Q", image.read(image.region(BAT), 8))[0] & ~0xFFFFF
    image, entries = interrupted(lab, tmp, 0, [
        (block, 64 * KIB), (block + 8192, b"x" * 4096), (block + 12288, bytes(range(256)) * 16),
        (block + 16384, b"y" * 4096), (block + 16384, 4096)])
    image.set_log(entries)
    check_same(image.path, "vhdx", raw=replayed_by_qemu(image.path), check_map=False)
    assert part(image.path, 0, 4) == bytes(4) and part(image.path, 8192, 4) == b"xxxx"
    assert part(image.path, 16384, 4096) == bytes(4096)


def test_only_what_follows_the_tail_is_replayed(lab, tmp):
    """Older entries before it were written out already."""
    image, _ = interrupted(lab, tmp)
    size = os.path.getsize(image.path)
    block = struct.unpack("<Q", image.read(image.region(BAT), 8))[0] & ~0xFFFFF
    image.set_log([log_entry(5, 0, size, [(block, b"1" * 4096)]),
                   log_entry(6, 8192, size, [(block + 4096, b"2" * 4096)])])
    assert part(image.path, 0, 4) != b"1111" and part(image.path, 4096, 4) == b"2222"


def test_the_newest_sequence_counts(lab, tmp):
    image, entries = interrupted(lab, tmp)
    size = os.path.getsize(image.path)
    image.set_log([log_entry(3, 512 * KIB, size, [(image.region(BAT), bytes(4096))])], 512 * KIB)
    image.set_log(entries)
    check_same(image.path, "vhdx", raw=replayed_by_qemu(image.path), check_map=False)


def test_a_torn_last_entry_is_not_replayed(lazydisk, lab, tmp):
    image, entries = interrupted(lab, tmp)
    size = os.path.getsize(image.path)
    torn = log_entry(9, 0, size, [(image.region(BAT), bytes(4096))])
    image.set_log([*entries, torn[:-4096] + b"?" + torn[-4095:]])
    assert part(image.path, 2 * MIB, 512) == b"\x77" * 512
    assert log_layer(lazydisk, image.path)["log_entries"] == 2


def test_a_log_makes_the_file_longer(lab, tmp):
    """A block that the file does not have yet is zeros."""
    image = Vhdx(shutil.copy(f"{lab}/a.vhdx", tmp))
    size = os.path.getsize(image.path)
    bat = image.region(BAT)
    table = bytearray(image.read(bat, 4096))
    struct.pack_into("<Q", table, 16, size | 6)
    image.set_log([log_entry(1, 0, size, [(bat, bytes(table))], last=size + MIB)])
    with open(f"{lab}/base.raw", "rb") as f:
        disk = f.read()
    assert_bytes(content(image.path), disk[:2 * MIB] + bytes(MIB) + disk[3 * MIB:])


def test_logs_that_cannot_be_replayed(lab, tmp):
    def broken(entries, says, change=None):
        image, _ = interrupted(lab, tmp)
        image.set_log(entries)
        if change:
            image.change_header(*change)
        assert says in refusal(image.path)

    size = os.path.getsize(f"{lab}/a.vhdx") + MIB
    good = log_entry(1, 0, size, [(MIB, bytes(4096))])
    broken([], "no valid entry")
    broken([good[:100] + b"x" + good[101:]], "no valid entry")
    broken([log_entry(1, 0, size, [(MIB, bytes(4096))], guid=bytes(16))], "no valid entry")
    broken([log_entry(0, 0, size, [])], "no valid entry")
    broken([log_entry(1, 4096, size, [(MIB, bytes(4096))])], "no valid entry")
    broken([log_entry(1, 0, size, [(MIB + 512, bytes(4096))])], "no valid entry")
    broken([log_entry(1, 0, size + 64 * MIB, [(MIB, bytes(4096))])], "truncated")
    broken([log_entry(1, 0, size, [((1 << 63) - 4096, 8192)])], "beyond what a file")
    broken([good], "log version 1", (64, "<H", 1))
    broken([good], "too large", (68, "<I", 1 << 30))
    broken([good], "beyond the end", (68, "<I", 0))
    broken([good], "beyond the end", (72, "<Q", 1 << 50))
    broken([good], "beyond the end", (72, "<Q", 4096))


def test_a_log_of_entries_that_overlap(lab, tmp):
    """Each sector claims to begin an entry as long as the log: found out before that takes long."""
    image, _ = interrupted(lab, tmp)
    sector = bytearray(log_entry(1, 0, 0, []))
    struct.pack_into("<I", sector, 8, MIB)
    image.set_log([bytes(sector) * 256])
    assert "overlap" in refusal(image.path)


# what is broken

def test_the_newer_valid_header_counts(image):
    good = content(image.path)
    image.write(image.active() + 100, b"x")
    assert content(image.path) == good
    image.write(min(HEADERS) + 100, b"x")
    image.write(max(HEADERS) + 100, b"x")
    assert "neither of the two headers" in refusal(image.path)


def test_headers_of_the_same_age(image):
    first = image.read(HEADERS[0], 4096)
    image.write(HEADERS[1], first)
    good = content(image.path)
    assert len(good) == 8 * MIB - 512
    image.change(HEADERS[1], 4096, 16, "<B", first[16] ^ 1)
    assert "claim to be the newest" in refusal(image.path)


def test_the_second_region_table_is_for_when_the_first_is_broken(image):
    good = content(image.path)
    image.write(REGIONS[0] + 5000, b"x")
    assert content(image.path) == good
    image.write(REGIONS[1] + 5000, b"x")
    assert "checksum of the region table" in refusal(image.path)


@pytest.mark.parametrize("guid, offset, fmt, value, says", [
    (BAT, 16, "<Q", 1 << 50, "beyond the end"), (BAT, 16, "<Q", 0, "in the header"),
    (BAT, 16, "<Q", 0xFFFFFFFFFFF00000, "beyond the end"), (BAT, 24, "<I", 0, "beyond the end"),
    (BAT, 24, "<I", 8, "too small"), (BAT, 0, "<16s", METADATA, "twice"),
    (BAT, 0, "<16s", GUID, "region is missing"), (METADATA, 24, "<I", 4096, "too small"),
    (METADATA, 0, "<I", 7, "region is missing"),
])
def test_hostile_regions(image, guid, offset, fmt, value, says):
    image.change_region(guid, offset, fmt, value)
    assert says in refusal(image.path)


def test_a_required_region_that_nobody_knows(image):
    image.change_region(BAT, 28, "<I", 1)
    assert len(content(image.path)) == 8 * MIB - 512
    at = image.region_entry(BAT)
    for table in REGIONS:
        image.change(table, 64 * KIB, at, "<16s", GUID)
    assert "region that is not known" in refusal(image.path)


def test_too_many_regions(image):
    for table in REGIONS:
        image.change(table, 64 * KIB, 8, "<I", 2048)
    assert "too many regions" in refusal(image.path)


@pytest.mark.parametrize("guid, offset, fmt, value, says", [
    (PARAMETERS, 4, "<I", 2, "differencing"), (PARAMETERS, 0, "<I", 0, "block size"),
    (PARAMETERS, 0, "<I", 3 * MIB, "block size"), (PARAMETERS, 0, "<I", 512 * KIB, "block size"),
    (PARAMETERS, 0, "<I", 512 * MIB, "block size"), (LOGICAL, 0, "<I", 1024, "sector size"),
    (LOGICAL, 0, "<I", 0, "sector size"), (LOGICAL, 0, "<I", 4096, "size of the disk"),
    (SIZE, 0, "<Q", 100, "size of the disk"), (SIZE, 0, "<Q", 1 << 62, "size of the disk"),
    (SIZE, 0, "<Q", 1 << 45, "too small"),
])
def test_hostile_metadata(image, guid, offset, fmt, value, says):
    poke(image.path, image.item(guid) + offset, fmt, value)
    assert says in refusal(image.path)


def test_hostile_metadata_tables(image):
    table = image.region(METADATA)
    data = image.read(table, 4096)
    at = data.index(SIZE)
    for offset, fmt, value, says in [
            (0, "<B", 1, "no metadata"), (10, "<H", 2048, "too many pieces"),
            (10, "<H", 0, "missing"), (at, "<16s", PARAMETERS, "twice"),
            (at, "<16s", GUID, "metadata that is not known"), (at + 16, "<I", 100, "outside"),
            (at + 16, "<I", 0xFFFFFFFF, "outside"), (at + 20, "<I", 4, "outside")]:
        poke(image.path, table + offset, fmt, value)
        assert says in refusal(image.path)
        image.write(table, data)


def test_blocks_that_are_nowhere(image):
    bat = image.region(BAT)
    good = part(image.path, MIB, MIB)
    for value, says in [(1 << 50 | 6, "beyond the end"), (0xFFFFFFFFFFF00006, "beyond the end"),
                        (6, "within the header"), (7, "impossible state"), (4, "impossible state")]:
        poke(image.path, bat, "<Q", value)
        assert says in refusal("--read", 0, 1, image.path)
        assert part(image.path, MIB, MIB) == good
    for state in (0, 1, 2, 3, 5):
        poke(image.path, bat, "<Q", 5 << 20 | state)
        assert part(image.path, 0, MIB) == bytes(MIB)


def test_a_disk_that_is_cut(image):
    os.truncate(image.path, os.path.getsize(image.path) - MIB)
    assert imgcat(image.path).returncode == 4
    for size in (MIB - 1, 100000, 8):
        os.truncate(image.path, size)
        assert refusal(image.path)


def test_damage(lab):
    damage(f"{lab}/a.vhdx", "vhdx", 20, 100)


def test_damage_of_a_dirty_disk(lab, tmp):
    image, entries = interrupted(lab, tmp)
    image.set_log(entries)
    damage(image.path, "vhdx", 20, 100)


@pytest.mark.slow
def test_much_damage(lab):
    damage(f"{lab}/a.vhdx", "vhdx", 100, 1000)
