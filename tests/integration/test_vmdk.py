# SPDX-License-Identifier: Apache-2.0
"""vmdk: every subformat reads as QEMU reads it; what is broken or unsupported is refused."""

import os
import shutil
import struct

import pytest

from disks import (check_mounted, check_same, convert, create, damage, make_raw, peek, poke, qemu_io,
                   qemu_raw, stream_optimized)
from imgcat import content, extents, imgcat, info, part, refusal
from test_mount import assert_holes_are_honest
from util import GIB, KIB, MIB, assert_same, seeded_bytes

SUBFORMATS = ["monolithicSparse", "streamOptimized", "monolithicFlat", "twoGbMaxExtentSparse",
              "twoGbMaxExtentFlat"]
SIZES = [8 * MIB - 512, 64 * KIB, 512]


@pytest.fixture(scope="module", name="lab")
def fixture_lab(workdir):
    path = os.path.join(workdir, "vmdk-lab")
    os.mkdir(path)
    make_raw(f"{path}/base.raw", 8 * MIB - 512)
    convert(f"{path}/base.raw", f"{path}/sparse.vmdk", "vmdk")
    stream_optimized(f"{path}/base.raw", f"{path}/ova.vmdk")
    return path


@pytest.fixture(name="sparse")
def fixture_sparse(lab, tmp):
    return shutil.copy(f"{lab}/sparse.vmdk", tmp)


@pytest.fixture(name="ova")
def fixture_ova(lab, tmp):
    return shutil.copy(f"{lab}/ova.vmdk", tmp)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("subformat", SUBFORMATS)
def test_subformats_and_sizes(tmp, subformat, size):
    raw = make_raw(f"{tmp}/a.raw", size)
    path = convert(raw, f"{tmp}/a.vmdk", "vmdk", f"subformat={subformat}")
    check_same(path, "vmdk", "--allow-backing")
    assert info(path, "--allow-backing")["subformat"] == subformat


@pytest.mark.parametrize("options", ["compat6", "zeroed_grain=on", "hwversion=13,adapter_type=lsilogic"])
def test_options_of_qemu_img(lab, tmp, options):
    check_same(convert(f"{lab}/base.raw", f"{tmp}/a.vmdk", "vmdk", options), "vmdk")


def test_zeroed_grains(tmp):
    path = create(f"{tmp}/a.vmdk", "vmdk", "8M", "zeroed_grain=on")
    qemu_io(path, "vmdk", "write -P 5 0 256k", "write -z 64k 64k", "write -z 1M 128k")
    assert {"start": 65536, "length": 65536, "depth": 0, "present": True, "zero": True,
            "data": False} in extents(path)
    check_same(path, "vmdk")
    without = shutil.copy(path, f"{tmp}/b.vmdk")
    poke(without, 8, "<I", peek(path, 8, "<I")[0] & ~4)
    assert part(without, 0, 512) == b"\5" * 512


def test_writes_in_any_order(tmp):
    path = create(f"{tmp}/a.vmdk", "vmdk", "200M")
    qemu_io(path, "vmdk", "write -P 1 100M 100k", "write -P 2 3M 64k", "write -P 3 99M 2M",
            "write -P 4 199M 1M", "write -P 5 64k 512")
    check_same(path, "vmdk")


@pytest.mark.parametrize("grain, short_tail", [(1, True), (8, False), (128, True), (4096, True),
                                               (128, False)])
def test_streams_with_a_footer(lab, tmp, grain, short_tail):
    """The directory stands at the end, and a last grain may end where the disk does."""
    path = stream_optimized(f"{lab}/base.raw", f"{tmp}/a.vmdk", grain, short_tail)
    check_same(path, "vmdk", raw=f"{lab}/base.raw", check_map=not short_tail)
    if not short_tail:
        assert_same(qemu_raw(path, "vmdk"), f"{lab}/base.raw")


def test_stream_longer_than_its_grain(tmp):
    """What does not compress takes more than it is long."""
    with open(f"{tmp}/a.raw", "wb") as f:
        f.write(seeded_bytes(2 * MIB, "noise"))
    path = stream_optimized(f"{tmp}/a.raw", f"{tmp}/a.vmdk")
    check_same(path, "vmdk")


@pytest.mark.parametrize("subformat", ["twoGbMaxExtentSparse", "twoGbMaxExtentFlat"])
def test_more_extents_than_one(lazydisk, tmp, subformat):
    path = create(f"{tmp}/a.vmdk", "vmdk", "5G", f"subformat={subformat}")
    edge = 2 * GIB
    qemu_io(path, "vmdk", f"write -P 1 {edge - MIB} 2M", f"write -P 2 {2 * edge - 512} 512",
            f"write -P 3 {5 * GIB - 512} 512")
    assert part(path, edge - MIB - 512, 2 * MIB + 1024, "--allow-backing") == \
        bytes(512) + b"\1" * 2 * MIB + bytes(512)
    assert part(path, 2 * edge - 1024, 1024, "--allow-backing") == bytes(512) + b"\2" * 512
    assert info(path, "--allow-backing")["extents"] == 3
    data = sum(x["length"] for x in extents(path, "--allow-backing") if not x["zero"])
    assert 2 * MIB + 1024 <= data <= 3 * MIB
    with lazydisk.mounted("--allow-backing", path) as mount:
        with open(mount.image(), "rb") as f:
            assert os.lseek(f.fileno(), 0, os.SEEK_DATA) <= edge - MIB
            f.seek(5 * GIB - 1024)
            assert f.read() == bytes(512) + b"\3" * 512


def test_other_files_are_opened_only_when_allowed(lazydisk, lab, tmp):
    path = convert(f"{lab}/base.raw", f"{tmp}/a.vmdk", "vmdk", "subformat=monolithicFlat")
    for verb in ("info", "map"):
        done = lazydisk.run(verb, path)
        assert done.returncode == 4 and "--allow-backing" in done.stderr
        assert "a-flat.vmdk" in done.stderr
    assert "monolithicFlat" in lazydisk.ok("info", "--allow-backing", path)
    os.rename(f"{tmp}/a-flat.vmdk", f"{tmp}/b-flat.vmdk")
    done = lazydisk.run("info", "--allow-backing", path)
    assert done.returncode == 3 and 'extent file "a-flat.vmdk"' in done.stderr


@pytest.mark.parametrize("name", ["/etc/passwd", "../a.raw", "x/../../a", "http://127.0.0.1/a",
                                  "file:///etc/passwd"])
def test_names_that_lead_elsewhere_are_refused(lazydisk, tmp, name):
    path = f"{tmp}/a.vmdk"
    with open(path, "w", encoding="utf-8") as f:
        f.write('# Disk DescriptorFile\nversion=1\ncreateType="monolithicFlat"\n'
                f'RW 8 FLAT "{name}" 0\n')
    done = lazydisk.run("info", "--allow-backing", path)
    assert done.returncode == 4 and "beside the image" in done.stderr


@pytest.mark.parametrize("subformat", ["streamOptimized", "monolithicSparse", "twoGbMaxExtentFlat"])
def test_over_http_and_by_copy(lazydisk, nginx, images, subformat):
    path = images.path(f"{subformat}.vmdk")
    convert(images.raw, path, "vmdk", f"subformat={subformat}")
    check_mounted(lazydisk, nginx.url(path), images.raw, assert_same, assert_holes_are_honest)


def descriptor(tmp, *lines, kind="twoGbMaxExtentFlat"):
    path = f"{tmp}/d.vmdk"
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join(["# Disk DescriptorFile", "version=1", "CID=1", "parentCID=ffffffff",
                           f'createType="{kind}"', *lines, ""]))
    return path


def test_descriptors_by_hand(lab, tmp):
    shutil.copy(f"{lab}/base.raw", tmp)
    path = descriptor(tmp, 'RW 100 FLAT "base.raw" 4', 'RW 7 ZERO', 'RDONLY 3 FLAT "base.raw"')
    with open(f"{lab}/base.raw", "rb") as f:
        disk = f.read()
    assert content("--allow-backing", path) == \
        disk[2048:2048 + 51200] + bytes(7 * 512) + disk[:3 * 512]
    with open(path, "r+", encoding="utf-8") as f:
        text = f.read()
        f.seek(0)
        f.write("#x\n\n" + text.replace("\n", "\r\n"))
    assert len(content("--allow-backing", path)) == 110 * 512


@pytest.mark.parametrize("lines, says", [
    ([], "no extents"), (['RW 0 FLAT "base.raw" 0'], "line 6: invalid extent"),
    (['RW 99999999999999999999 FLAT "base.raw" 0'], "invalid extent"),
    (['RW 36028797018963967 FLAT "base.raw" 0'] * 2, "too big"),
    (['RW 8 FLAT "base.raw" -1'], "invalid offset"), (['RW 8 FLAT base.raw 0'], "names no file"),
    (['RW 8 FLAT "base.raw'], "names no file"), (['RW 8 SESPARSE "base.raw"'], "SESPARSE"),
    (['RW 8 VMFSSPARSE "base.raw"'], "VMFSSPARSE"), (['NOACCESS 8 ZERO'], "must not be accessed"),
    (['RW 99999 FLAT "base.raw" 0'], "but it has"), (['RW 8 FLAT "base.raw" 99999'], "but it has"),
    (['RW 1 ZERO'] * 1025, "more than 1024 extents"), (['RW 8 SPARSE "base.raw"'], "not a vmdk"),
    (['RW 8 SPARSE "d.vmdk"'], "cannot be part of another"),
    (['parentCID=12345678', 'parentFileNameHint="mother.vmdk"', "RW 1 ZERO"], "mother.vmdk"),
])
def test_hostile_descriptors(lab, tmp, lines, says):
    shutil.copy(f"{lab}/base.raw", tmp)
    assert says in refusal("--allow-backing", descriptor(tmp, *lines))


@pytest.mark.parametrize("kind", ["fullDevice", "vmfsSparse", "seSparse", "custom"])
def test_other_types_are_refused_by_name(tmp, kind):
    assert kind in refusal("--allow-backing", descriptor(tmp, "RW 1 ZERO", kind=kind))


def test_an_image_over_a_parent_is_refused_by_name(lab, tmp):
    shutil.copy(f"{lab}/sparse.vmdk", f"{tmp}/base.vmdk")
    create(f"{tmp}/top.vmdk", "vmdk", str(8 * MIB - 512), f"backing_file={tmp}/base.vmdk,backing_fmt=vmdk")
    says = refusal(f"{tmp}/top.vmdk")
    assert "parentCID" in says and "base.vmdk" in says


@pytest.mark.parametrize("at, fmt, value, says", [
    (4, "<I", 4, "version 4"), (4, "<I", 0, "version 0"), (12, "<Q", 1 << 60, "too big"),
    (12, "<Q", 1 << 50, "directory lies beyond"), (20, "<Q", 0, "grain size"),
    (20, "<Q", 3, "grain size"), (20, "<Q", 1 << 40, "grain size"), (44, "<I", 0, "grain table"),
    (44, "<I", 0xFFFFFFFF, "grain table"), (56, "<Q", 0, "no grain directory"),
    (56, "<Q", 1 << 40, "directory lies beyond"), (56, "<Q", 1 << 62, "directory lies beyond"),
    (28, "<Q", 1 << 40, "descriptor lies beyond"), (36, "<Q", 1 << 60, "descriptor lies beyond"),
    (77, "<H", 2, "algorithm 2"), (73, "<B", 13, "text mode"), (56, "<q", -1, "footer"),
])
def test_hostile_headers(sparse, at, fmt, value, says):
    poke(sparse, at, fmt, value)
    assert says in refusal(sparse)


def test_esx_extents_are_refused_by_name(sparse):
    poke(sparse, 0, "<4s", b"COWD")
    assert "ESX" in refusal(sparse)


def test_tables_that_lead_nowhere(sparse):
    """Where the tables are right the disk can be read; an entry that is wrong is an error."""
    directory = peek(sparse, 56, "<Q")[0] * 512
    table = peek(sparse, directory, "<I")[0] * 512
    good = part(sparse, 0, 64 * KIB)
    poke(sparse, table + 4, "<I", 0x7FFFFFFF)
    assert part(sparse, 0, 64 * KIB) == good
    assert "beyond the end" in refusal("--read", 64 * KIB, 1, sparse)
    poke(sparse, directory, "<I", 0xFFFFFFFF)
    assert "beyond the end" in refusal("--read", 0, 1, sparse)
    poke(sparse, directory, "<I", directory // 512)
    assert imgcat("--read", 0, 1, sparse).returncode in (0, 4)


def test_streams_that_lie(ova):
    with open(ova, "rb") as f:
        first = f.read().index(struct.pack("<Q", 0) + b"", 128 * 512)
    good = part(ova, 64 * KIB, 512)
    for at, fmt, value, says in [(0, "<Q", 5, "not this grain"), (8, "<I", 0, "length of 0"),
                                 (8, "<I", 0xFFFFFFFF, "impossible length"),
                                 (8, "<I", 20, "do not decompress"), (40, "<B", 0xEE, "decompress")]:
        saved = peek(ova, first + at, fmt)[0]
        poke(ova, first + at, fmt, value)
        assert says in refusal("--read", 0, 1, ova)
        assert part(ova, 64 * KIB, 512) == good
        poke(ova, first + at, fmt, saved)


def test_footers_that_are_none(ova):
    size = os.path.getsize(ova)
    poke(ova, size - 1024 + 20, "<Q", 256)
    assert "contradict" in refusal(ova)
    poke(ova, size - 1536 + 12, "<I", 2)
    assert "footer" in refusal(ova)
    os.truncate(ova, size - 512)
    assert "footer" in refusal(ova)


@pytest.mark.parametrize("name", ["sparse", "ova"])
def test_damage(lab, name):
    damage(f"{lab}/{name}.vmdk", "vmdk", 20, 100)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sparse", "ova"])
def test_much_damage(lab, name):
    found = damage(f"{lab}/{name}.vmdk", "vmdk", 100, 1000)
    assert name == "sparse" or found["flipped"]["different"] == 0
