# SPDX-License-Identifier: Apache-2.0
"""qcow2 files that break the rules: refused, or an error where they are broken and bytes elsewhere.

Never a crash, a hang, much memory, or zeros in place of what is missing. Numbers in brackets count
the cases; those up to 25 are in test_qcow2_cases.py."""

import json
import os
import random
import shutil
import struct

import pytest

from disks import damage
from imgcat import (COPIED, OFFSET_MASK, Qcow2, append, check_same, content, imgcat, part,
                    poke, refusal)
from util import KIB, MIB, assert_bytes, one_line, run, seeded_bytes

K64 = 64 * KIB


@pytest.fixture(scope="module", name="lab")
def fixture_lab(workdir):
    """base.raw, its conversions v3.qcow2 and zlib.qcow2 (all compressed)."""
    path = os.path.join(workdir, "qcow2-hostile")
    os.mkdir(path)
    with open(f"{path}/base.raw", "wb") as f:
        f.truncate(8 * MIB)
        f.write(b"\x11" * MIB)
        f.seek(3 * MIB)
        f.write(b"\x22" * MIB)
        f.write(seeded_bytes(3000000, "base"))
    with open(f"{path}/hex.raw", "wb") as f:
        f.write(seeded_bytes(MIB, "hex").hex().encode())
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", f"{path}/base.raw", f"{path}/v3.qcow2")
    for kind in ("zlib", "zstd"):
        run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", f"compression_type={kind}",
            f"{path}/hex.raw", f"{path}/{kind}.qcow2")
    return path


@pytest.fixture(name="v3")
def fixture_v3(lab, tmp):
    return shutil.copy(os.path.join(lab, "v3.qcow2"), tmp)


@pytest.fixture(name="zlib_image")
def fixture_zlib_image(lab, tmp):
    return shutil.copy(os.path.join(lab, "zlib.qcow2"), tmp)


def subclusters(tmp):
    path = f"{tmp}/x.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "extended_l2=on", path, "8M")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 5 2k 2k", "-c", "write -P 6 64k 64k", path)
    return path


def test_unknown_incompatible_feature(v3):
    """[26] Named as the image names it."""
    poke(v3, 72, b"\x80")
    assert "incompatible feature bit 63" in refusal(v3)
    table = Qcow2(v3).read(0, 4096).index(struct.pack(">I", 0x6803F857)) + 8
    poke(v3, table, b"\x00\x3f" + b"time travel".ljust(46, b"\0"))
    assert "incompatible feature bit 63, time travel" in refusal(v3)


def test_compression_type_and_its_feature_bit(v3):
    """[27]"""
    poke(v3, 104, b"\1")
    assert "must be set" in refusal(v3)
    poke(v3, 72, struct.pack(">Q", 8))
    assert content("--read", 0, 512, v3) == b"\x11" * 512
    poke(v3, 104, b"\0")
    assert "must not be set" in refusal(v3)
    poke(v3, 104, b"\2")
    assert "unknown qcow2 compression type 2" in refusal(v3)


def test_data_file_bit_without_a_name(v3):
    """[28]"""
    poke(v3, 72, struct.pack(">Q", 4))
    assert "external data file and names none" in refusal(v3)


def test_extended_l2_bit_on_a_normal_image(v3):
    """[28] Cannot be noticed but by its consequences: entries that happen to be impossible."""
    poke(v3, 72, struct.pack(">Q", 16))
    assert imgcat("--info", v3).returncode in (0, 4)
    Qcow2(v3).set(0, COPIED | 0x50000, 1 << 32 | 1)
    assert "both allocated and zero" in refusal(v3)


def test_extended_l2_with_small_clusters(v3):
    """[28]"""
    poke(v3, 72, struct.pack(">Q", 16))
    poke(v3, 20, struct.pack(">I", 13))
    assert "extended L2" in refusal(v3)


@pytest.mark.parametrize("value, says", [(3, "encryption method 3"), (1, "encrypted (AES)"),
                                         (2, "encrypted (LUKS)"), (0xFFFFFFFF, "encryption method")])
def test_encryption_methods(v3, value, says):
    """[29]"""
    poke(v3, 32, struct.pack(">I", value))
    assert says in refusal(v3)


@pytest.mark.parametrize("length, says", [(96, "too short"), (0, "too short"), (109, "multiple of 8"),
                                          (65544, "exceeds the cluster"), (0xFFFFFFF8, "exceeds")])
def test_header_lengths(v3, length, says):
    """[29]"""
    poke(v3, 100, struct.pack(">I", length))
    assert says in refusal(v3)


@pytest.mark.parametrize("offset, size, says", [
    (256, 1024, "name too long"), (256, 0xFFFFFFFF, "name too long"),
    (65536, 8, "invalid backing file offset"), (65530, 8, "invalid backing file offset"),
    (1 << 63, 8, "invalid backing file offset"), (0xFFFFFFFFFFFFFFFF, 1023, "invalid backing"),
    (8, 8, "invalid backing file offset"), (200, 16, "NUL"),
])
def test_backing_file_names(v3, offset, size, says):
    """[30]"""
    poke(v3, 112, bytes(200))
    poke(v3, 8, struct.pack(">QI", offset, size))
    assert says in refusal(v3)


@pytest.mark.parametrize("kind, length, says", [
    (0x12345678, 0x7FFFFFFF, "header extension too large"),
    (0x12345678, 0xFFFFFFFF, "header extension too large"),
    (0x12345678, 65536 - 119, "header extension too large"),
    (0xE2792ACA, 16, "backing format name too long"),
    (0x0537BE77, 16, "without LUKS"),
])
def test_header_extensions(v3, kind, length, says):
    """[30]"""
    poke(v3, 112, struct.pack(">II", kind, length))
    assert says in refusal(v3)


def test_bitmap_extension_with_reserved_field(v3):
    """[30]"""
    run("qemu-img", "bitmap", "--add", v3, "b0")
    at = Qcow2(v3).read(0, 4096).index(struct.pack(">I", 0x23852875))
    poke(v3, at + 12, b"\1")
    assert "bitmaps extension" in refusal(v3)


@pytest.mark.parametrize("at, value, says", [
    (36, struct.pack(">I", 0x400001), "L1 table too large"),
    (36, struct.pack(">I", 0x7FFFFFFF), "L1 table too large"),
    (36, struct.pack(">I", 0xFFFFFFFF), "L1 table too large"),
    (36, struct.pack(">I", 0), "L1 table is too small"),
    (40, struct.pack(">Q", 0x30200), "L1 table offset invalid"),
    (40, struct.pack(">Q", 0), "L1 table offset lies in the header"),
    (40, struct.pack(">Q", 0x7FFFFFFF0000), "beyond the end of the file"),
    (40, struct.pack(">Q", 0xFFFFFFFFFFFF0000), "beyond the end of the file"),
])
def test_l1_tables_in_the_header(v3, at, value, says):
    """[31]"""
    poke(v3, at, value)
    assert says in refusal(v3)


@pytest.mark.parametrize("size, says", [
    (0x7FFFFFFFFFFFFFFF, "too big"), (0xFFFFFFFFFFFFFFFF, "too big"),
    (0x7FFFFFFFFFFF0000, "too big"), (0x7FFFFFFFFFFE0000, "too small"), (1 << 40, "too small")])
def test_virtual_sizes(v3, size, says):
    """[32]"""
    poke(v3, 24, struct.pack(">Q", size))
    assert says in refusal(v3)


@pytest.mark.parametrize("at, value", [
    (48, struct.pack(">Q", 0x10200)), (48, struct.pack(">Q", 0)), (56, struct.pack(">I", 0xFFFFFFFF)),
    (60, struct.pack(">I", 65537)), (60, struct.pack(">IQ", 1, 0x7FFFFFFF0000))])
def test_refcounts_and_snapshots_do_not_matter(lab, v3, at, value):
    """[33]"""
    poke(v3, at, value)
    check_same(v3, raw=f"{lab}/base.raw", check_map=False)


def test_l1_entry_with_reserved_bits(lab, v3):
    """[34]"""
    Qcow2(v3).set_l1(0, 0x7F00000000000000 | 0x1FF | COPIED | Qcow2(v3).l2_table())
    check_same(v3, raw=f"{lab}/base.raw", check_map=False)


@pytest.mark.parametrize("entry, says", [
    (0x40200, "L2 table at unaligned offset 262656"), (0x7FFFFFFF0000, "beyond the end of the file"),
    (0x00FFFFFFFFFF0000, "beyond the end of the file"), (0x30000, "overlaps the L1 table")])
def test_l1_entries(v3, entry, says):
    """[34]"""
    Qcow2(v3).set_l1(0, COPIED | entry)
    text = refusal(v3)
    assert says in text and "guest offset 0" in text
    assert refusal("--map", v3)


@pytest.mark.parametrize("bit", [1, 4, 8, 56, 61])
def test_l2_entry_with_reserved_bits(lab, v3, bit):
    """[35] Ignored, and said once."""
    image = Qcow2(v3)
    for guest in (0, K64, 3 * MIB):
        image.set(guest, image.get(guest) | 1 << bit)
    done = imgcat(v3)
    assert done.returncode == 0
    assert done.stderr.count(b"reserved bits are set in the L2 entry of guest offset 0") == 1
    assert done.stderr.count(b"\n") == 1
    with open(f"{lab}/base.raw", "rb") as f:
        assert_bytes(done.stdout, f.read())


@pytest.mark.parametrize("entry, says", [
    (COPIED | 0x50200, "unaligned offset 328192"), (COPIED | 0x7FFFFFFF0000, "beyond the end"),
    (COPIED | OFFSET_MASK & ~0xFFFF, "beyond the end")])
def test_l2_entries(lab, v3, entry, says):
    """[35] An error there, and bytes before and behind."""
    Qcow2(v3).set(K64, entry)
    text = refusal(v3)
    assert says in text and "guest offset 65536" in text
    assert part(v3, 0, K64) == b"\x11" * K64
    assert part(v3, 2 * K64, K64) == b"\x11" * K64
    assert refusal("--read", 2 * K64 - 1, 1, v3)
    assert refusal("--read", 0, 8 * MIB, v3)


def test_copied_entry_without_offset_is_unallocated(v3):
    """[35]"""
    Qcow2(v3).set(0, COPIED)
    assert part(v3, 0, 2 * K64) == bytes(K64) + b"\x11" * K64


def test_zero_flag_in_version_2(lab, tmp):
    """[35]"""
    path = f"{tmp}/a.qcow2"
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", "compat=0.10", f"{lab}/base.raw", path)
    Qcow2(path).set(K64, 1)
    assert "zero cluster in an image of version 2" in refusal(path)
    assert part(path, 0, K64) == b"\x11" * K64


def test_zero_flag_in_an_extended_entry(tmp):
    """[35] Means nothing there."""
    path = subclusters(tmp)
    image = Qcow2(path)
    image.set(0, image.get(0) | 1)
    assert part(path, 0, 6 * KIB) == bytes(2 * KIB) + b"\5" * 2 * KIB + bytes(2 * KIB)


def test_shared_and_overlapping_clusters(v3):
    """[35] Two guest clusters in one place, and data where the L1 table is: both can be read."""
    image = Qcow2(v3)
    image.set(K64, image.get(3 * MIB))
    image.set(0, COPIED | 0x30000)
    assert part(v3, K64, K64) == b"\x22" * K64
    assert_bytes(part(v3, 0, K64), image.read(0x30000, K64))


@pytest.mark.parametrize("entry, bitmap, says", [
    (None, 1 << 32 | 1, "both allocated and zero"), (None, 1 << 63 | 1 << 31, "both allocated"),
    (COPIED, 1, "allocated in a cluster that is not"), (0, 1 << 31, "allocated in a cluster")])
def test_subcluster_bitmaps(tmp, entry, bitmap, says):
    """[36]"""
    path = subclusters(tmp)
    image = Qcow2(path)
    image.set(0, image.get(0) if entry is None else entry, bitmap)
    assert says in refusal(path)
    assert part(path, K64, K64) == b"\6" * K64


def test_compressed_sector_count_too_small(tmp):
    """[37]"""
    path = f"{tmp}/a.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=2M", path, "8M")
    run("qemu-io", "-f", "qcow2", "-c", "write -c -P 0x11 0 2M", "-c", "write -c -P 0x11 2M 2M", path)
    image = Qcow2(path)
    guest, host, length = image.compressed()[0]
    assert length > 1024
    image.set_compressed(guest, host, 1)
    text = refusal(path)
    assert f"at offset {host}" in text and "do not decompress" in text
    assert part(path, 2 * MIB, 2 * MIB) == b"\x11" * 2 * MIB


@pytest.mark.parametrize("kind", ["zlib", "zstd"])
def test_compressed_sector_count_too_large(lab, tmp, kind):
    """[37] Up to the end of the file, and beyond."""
    path = shutil.copy(f"{lab}/{kind}.qcow2", tmp)
    image = Qcow2(path)
    for guest, host, _ in image.compressed():
        image.set_compressed(guest, host, 256)
    check_same(path, raw=f"{lab}/hex.raw", check_map=False)


def test_compressed_with_copied_bit(lab, zlib_image):
    """[37]"""
    image = Qcow2(zlib_image)
    image.set(0, image.get(0) | COPIED)
    check_same(zlib_image, raw=f"{lab}/hex.raw", check_map=False)


@pytest.mark.parametrize("host, says", [
    (0, "within the header"), (4096, "within the header"), (1 << 40, "beyond the end"),
    (0x30000, "within the L1 table"), (0x20000, "do not decompress")])
def test_compressed_elsewhere(zlib_image, host, says):
    """[37]"""
    Qcow2(zlib_image).set_compressed(K64, host, 4)
    assert says in refusal(zlib_image)
    assert len(part(zlib_image, 0, K64)) == K64


@pytest.mark.parametrize("kind", ["zlib", "zstd"])
def test_compressed_stream_of_another_length(lab, tmp, kind):
    """[37] A longer one is cut at the cluster, a shorter one is an error."""
    path = f"{tmp}/big.qcow2"
    run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o",
        f"compression_type={kind},cluster_size=128k", f"{lab}/hex.raw", path)
    _, host, length = Qcow2(path).compressed()[0]
    stream = Qcow2(path).read(host, length)
    with open(f"{lab}/hex.raw", "rb") as f:
        want = f.read(K64)
    normal = shutil.copy(f"{lab}/{kind}.qcow2", tmp)
    Qcow2(normal).set_compressed(K64, append(normal, stream), length // 512 + 1)
    assert_bytes(part(normal, K64, K64), want)
    assert_bytes(part(normal, K64 + 5, 100), want[5:105])
    _, host, length = Qcow2(normal).compressed()[0]
    stream = Qcow2(normal).read(host, length)
    Qcow2(path).set_compressed(0, append(path, stream), length // 512 + 1)
    assert "do not decompress" in refusal("--read", 0, 1, path)
    assert "do not decompress" in refusal("--read", 0, 128 * KIB, path)


@pytest.mark.parametrize("kind", ["zlib", "zstd"])
def test_compressed_garbage(lab, tmp, kind):
    """[37] One broken cluster; its neighbours, read in the same span, are served."""
    path = shutil.copy(f"{lab}/{kind}.qcow2", tmp)
    guest, host, length = Qcow2(path).compressed()[3]
    poke(path, host + 8, seeded_bytes(length // 2, "garbage"))
    with open(f"{lab}/hex.raw", "rb") as f:
        want = f.read()
    done = imgcat("--read", guest, K64, path)
    assert done.returncode == 4 or done.stdout != want[guest:guest + K64]
    assert_bytes(part(path, 0, guest), want[:guest])
    assert_bytes(part(path, guest + K64, K64), want[guest + K64:guest + 2 * K64])


@pytest.mark.parametrize("name, cut", [("v3", 100000), ("v3", 512), ("zlib", 100000)])
def test_truncated_file(lab, tmp, name, cut):
    """[38] What is there is served; what is not is an error; no zeros."""
    path = shutil.copy(f"{lab}/{name}.qcow2", tmp)
    os.truncate(path, os.path.getsize(path) - cut)
    with open(f"{lab}/{'base' if name == 'v3' else 'hex'}.raw", "rb") as f:
        want = f.read()
    text = refusal(path)
    assert "the end of the file" in text or "the file ends" in text
    failed = 0
    for at in range(0, len(want), K64):
        done = imgcat("--read", at, K64, path)
        if done.returncode:
            failed += 1
        else:
            assert_bytes(done.stdout, want[at:at + K64], at)
    assert 1 <= failed <= 2 * cut // K64 + 2


@pytest.mark.parametrize("name", ["v3", "zlib"])
def test_info_tells_that_the_end_of_the_file_is_missing(lab, lazydisk, tmp, name):
    """[38] In one line, and how much there should be; the rest is there."""
    path = shutil.copy(f"{lab}/{name}.qcow2", tmp)
    whole = os.path.getsize(path)
    done = lazydisk.run("info", "--json", path)
    assert done.returncode == 0 and not done.stderr and "reaches_bytes" not in done.stdout
    for cut in (100000, 200000):
        os.truncate(path, whole - cut)
        done = lazydisk.run("info", "--json", path)
        assert done.returncode == 0
        layer = json.loads(done.stdout)["layers"][0]
        reach = layer["reaches_bytes"]
        # The last stream is shorter than its last cluster.
        assert layer["name"] == "qcow2" and whole <= reach <= (whole + 511) // 512 * 512
        assert one_line(done.stderr) == (
            f"lazydisk: warning: {path}: the file is {whole - cut} bytes, but the image's "
            f"clusters reach to {reach}: truncated download?")
        assert "reaches" in lazydisk.ok("info", path)


@pytest.mark.parametrize("size", [0, 3, 4, 8, 71, 72, 103, 111, 512, 65536, 200000])
def test_truncated_in_the_metadata(lab, tmp, size):
    """[38]"""
    path = shutil.copy(f"{lab}/v3.qcow2", tmp)
    os.truncate(path, size)
    assert refusal(path)
    assert refusal("--format", "qcow2", path)


def test_l2_table_cut_by_the_end_of_the_file(lab, tmp):
    """[38] Entries that are there count."""
    path = shutil.copy(f"{lab}/v3.qcow2", tmp)
    image = Qcow2(path)
    table = image.read(image.l2_table(), K64)
    image.set_l1(0, append(path, table[:256], align=K64))
    assert part(path, 0, 4 * K64) == b"\x11" * 4 * K64
    assert part(path, MIB, K64) == bytes(K64)
    assert "beyond the end of the file" in refusal("--read", 4 * MIB, 1, path)


@pytest.mark.parametrize("name", ["v3", "zlib", "zstd", "subclusters"])
def test_flipped_bits_in_header_and_tables(lab, tmp, name):
    """Whatever a bit says: no crash, no hang, no more than 64 MiB of memory."""
    source = subclusters(tmp) if name == "subclusters" else f"{lab}/{name}.qcow2"
    path = f"{tmp}/mutant.qcow2"
    image = Qcow2(source)
    areas = [(0, 120), (112, 500), (image.l1, 16), (image.l2_table(), 1200)]
    rng = random.Random(name)
    for _ in range(60):
        shutil.copyfile(source, path)
        for _ in range(rng.choice([1, 1, 2, 8])):
            start, length = rng.choice(areas)
            at = start + rng.randrange(length)
            poke(path, at, bytes([image.read(at, 1)[0] ^ 1 << rng.randrange(8)]))
        imgcat("--read", rng.randrange(3 * MIB // 2), 500000, path)
        imgcat("--info", path)


def test_feature_table_of_odd_size(v3):
    """Cut in the middle of a name."""
    at = Qcow2(v3).read(0, 4096).index(struct.pack(">I", 0x6803F857))
    poke(v3, at + 4, struct.pack(">I", 50))
    poke(v3, at + 64, bytes(8))
    poke(v3, 72, b"\x40")
    assert "incompatible feature bit 62" in refusal(v3)


def test_guest_cannot_make_a_raw_disk_name_host_files(tmp):
    """A raw disk whose guest wrote a qcow2 header into it (CVE-2008-2004)."""
    with open(f"{tmp}/secret", "wb") as f:
        f.write(b"secret" * 1000)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", f"{tmp}/secret", "-F", "raw",
        f"{tmp}/disk.raw", "8M")
    for options in ([], ["--allow-backing"]):
        assert "backing file" in refusal(*options, f"{tmp}/disk.raw")
    assert content("--format", "raw", "--read", 0, 4, f"{tmp}/disk.raw") == b"QFI\xfb"


def test_data_file_name_that_is_json(v3):
    """Names are never interpreted, not even to refuse them (CVE-2024-4467, CVE-2024-32498)."""
    name = b'json:{"driver":"file","filename":"/etc/shadow","password":"hunter2"}'
    name = name.ljust((len(name) + 7) // 8 * 8, b" ")
    poke(v3, 72, struct.pack(">Q", 4))
    poke(v3, 112, struct.pack(">II", 0x44415441, len(name)) + name + bytes(8))
    text = refusal(v3)
    assert "external data file" in text and "hunter2" not in text


def test_overflowing_tables(v3):
    """Sizes whose products wrap around (CVE-2014-0143, CVE-2014-0144)."""
    for bits in (9, 21):
        for size in (1 << 62, (1 << 63) - (1 << 21) - 1, 1 << 31):
            for entries in (0, 1, 0x400000, 0x20000000, 0x80000000):
                poke(v3, 20, struct.pack(">IQ", bits, size))
                poke(v3, 36, struct.pack(">I", entries))
                assert refusal(v3)


@pytest.mark.parametrize("name", ["v3", "zlib", "zstd"])
def test_damage(lab, name):
    """Cut anywhere, any bit flipped: refused, an error, or right where it is right."""
    damage(f"{lab}/{name}.qcow2", "qcow2", 20, 100)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["v3", "zlib", "zstd"])
def test_much_damage(lab, name):
    damage(f"{lab}/{name}.qcow2", "qcow2", 100, 1000)
