# SPDX-License-Identifier: Apache-2.0
"""qcow2 variants that are legal: each reads as QEMU reads it, byte for byte and extent for extent.

Numbers in brackets count the cases; those from 26 on are in test_qcow2_hostile.py."""

import json
import os
import random
import shutil
import struct
import subprocess
import zlib

import pytest

from imgcat import (COMPRESSED, Qcow2, append, check_same, content, extents, imgcat, info, part, poke,
                    qemu_map, refusal)
from util import KIB, MIB, assert_bytes, run, seeded_bytes

SIZES = ["512", "1k", "2k", "4k", "8k", "16k", "32k", "64k", "128k", "256k", "512k", "1M", "2M"]


@pytest.fixture(scope="module", name="lab")
def fixture_lab(workdir):
    """base.raw, its conversion v3.qcow2, hex.raw, which compresses to half."""
    path = os.path.join(workdir, "qcow2-lab")
    os.mkdir(path)
    base = os.path.join(path, "base.raw")
    with open(base, "wb") as f:
        f.truncate(8 * MIB)
        f.write(b"\x11" * MIB)
        f.seek(3 * MIB)
        f.write(b"\x22" * MIB)
        f.write(seeded_bytes(3000000, "base"))
    with open(os.path.join(path, "hex.raw"), "wb") as f:
        f.write(seeded_bytes(2 * MIB, "hex").hex().encode())
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", base, os.path.join(path, "v3.qcow2"))
    return path


@pytest.fixture(name="base")
def fixture_base(lab):
    return os.path.join(lab, "base.raw")


@pytest.fixture(name="v3")
def fixture_v3(lab, tmp):
    """A copy of v3.qcow2 to be changed."""
    return shutil.copy(os.path.join(lab, "v3.qcow2"), tmp)


def convert(raw, target, *options):
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, raw, target)
    return target


def create(target, *args):
    run("qemu-img", "create", "-q", "-f", "qcow2", *args[:-1], target, args[-1])
    return target


def qemu_io(path, *commands):
    args = [a for c in commands for a in ("-c", c)]
    run("qemu-io", "-f", "qcow2", *args, path)


@pytest.mark.parametrize("compat", ["0.10", "1.1"])
def test_versions_2_and_3(base, tmp, compat):
    """[1]"""
    check_same(convert(base, f"{tmp}/a.qcow2", "-o", f"compat={compat}"))
    check_same(convert(base, f"{tmp}/b.qcow2", "-c", "-o", f"compat={compat}"))


def test_other_versions_are_refused_by_number(base, v3, tmp):
    """[1]"""
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow", base, f"{tmp}/old.qcow")
    assert "qcow (version 1)" in refusal(f"{tmp}/old.qcow")
    assert "version 1" in refusal("--format", "qcow2", f"{tmp}/old.qcow")
    poke(v3, 4, struct.pack(">I", 4))
    assert "version 4" in refusal(v3)


@pytest.mark.parametrize("size", SIZES)
def test_cluster_sizes(base, tmp, size):
    """[2]"""
    check_same(convert(base, f"{tmp}/a.qcow2", "-o", f"cluster_size={size}"))
    check_same(convert(base, f"{tmp}/b.qcow2", "-c", "-o", f"cluster_size={size}"))


@pytest.mark.parametrize("bits", [0, 8, 22, 64, 0xFFFFFFFF])
def test_other_cluster_sizes_are_refused(v3, bits):
    """[2]"""
    poke(v3, 20, struct.pack(">I", bits))
    assert "unsupported cluster size" in refusal(v3)


def test_incompressible_clusters_among_compressed_ones(base, tmp):
    """[3]"""
    path = convert(base, f"{tmp}/a.qcow2", "-c")
    kinds = {bool(Qcow2(path).get(at) & COMPRESSED) for at in range(0, 7 * MIB, 64 * KIB)}
    assert kinds == {True, False}
    check_same(path)


def test_deflate_with_the_largest_window(v3):
    """[3] QEMU itself never reaches back further than 4 KiB."""
    data = seeded_bytes(32000, "far") * 2
    data += bytes(64 * KIB - len(data))
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    stream = deflate.compress(data) + deflate.flush()
    assert len(stream) < 40000
    host = append(v3, stream)
    Qcow2(v3).set_compressed(0, host, len(stream) // 512 + 1)
    assert_bytes(part(v3, 0, 64 * KIB), data)
    assert_bytes(part(v3, 31000, 3000), data[31000:34000])
    assert part(v3, 64 * KIB, 512) == b"\x11" * 512


@pytest.mark.parametrize("size", ["4k", "64k", "2M"])
@pytest.mark.parametrize("kind", ["zlib", "zstd"])
def test_compressed_clusters_that_cross_and_share(lab, tmp, size, kind):
    """[4] [6]"""
    options = ["-c", "-o", f"cluster_size={size},compression_type={kind}"]
    path = convert(f"{lab}/hex.raw", f"{tmp}/a.qcow2", *options)
    image = Qcow2(path)
    streams = image.compressed()
    assert len(streams) * image.cluster == 4 * MIB
    if size == "64k":
        cross = [s for s in streams if s[1] // image.cluster != (s[1] + s[2] - 1) // image.cluster]
        shared = [a for a, b in zip(streams, streams[1:]) if a[1] + a[2] > b[1]]
        assert len(cross) > 20 and len(shared) > 40
    check_same(path, reads=400)


def test_compressed_stream_that_ends_with_the_file(lab, tmp):
    """[5] The last sector of the file may be cut behind the last byte of the stream."""
    path = convert(f"{lab}/hex.raw", f"{tmp}/a.qcow2", "-c")
    guest, host, length = max(Qcow2(path).compressed(), key=lambda s: s[1])
    stream = zlib.decompressobj(-15)
    cluster = stream.decompress(Qcow2(path).read(host, length))
    used = length - len(stream.unused_data)
    os.truncate(path, host + used)
    assert os.path.getsize(path) % 512
    assert_bytes(part(path, guest, 64 * KIB), cluster)
    check_same(path, raw=f"{lab}/hex.raw")
    os.truncate(path, host + used - 2)
    assert "the file ends there" in refusal("--read", guest, 1, path)


@pytest.mark.parametrize("compressed", [[], ["-c"]])
@pytest.mark.parametrize("size", ["16k", "64k", "2M"])
def test_extended_l2(base, tmp, size, compressed):
    """[7]"""
    options = [*compressed, "-o", f"extended_l2=on,cluster_size={size}"]
    check_same(convert(base, f"{tmp}/a.qcow2", *options))


def test_subclusters_of_all_kinds_in_one_cluster(lab, tmp):
    """[7]"""
    path = create(f"{tmp}/x.qcow2", "-o", "extended_l2=on", "-b", f"{lab}/base.raw", "-F", "raw",
                  "8M")
    qemu_io(path, "write -P 5 2k 2k", "write -z 4k 2k", "write -z 64k 64k", "write -P 6 190k 8k",
            "write -P 7 300k 40k", "discard 310k 4k", "write -P 8 62k 4k")
    shutil.copy(f"{lab}/base.raw", tmp)
    run("qemu-img", "rebase", "-u", "-b", "base.raw", "-F", "raw", path)
    kinds = {(x["depth"], x["zero"]) for x in extents(path, "--allow-backing")}
    assert kinds >= {(0, False), (0, True), (1, False)}
    check_same(path, "--allow-backing", reads=600)


def test_zero_clusters(lab, tmp):
    """[8] A zero cluster that keeps its space reads zeros and never what is stored there."""
    shutil.copy(f"{lab}/base.raw", tmp)
    path = create(f"{tmp}/z.qcow2", "-b", "base.raw", "-F", "raw", "8M")
    qemu_io(path, "write -z 0 64k", "write -z -u 64k 64k", "write -P 5 128k 64k",
            "write -z 128k 64k", "discard 192k 64k")
    image = Qcow2(path)
    assert image.get(128 * KIB) & 1 and image.get(128 * KIB) & ~1
    poke(path, image.get(128 * KIB) & 0x00FFFFFFFFFFFE00, b"\x05" * 4096)
    assert content("--allow-backing", "--read", 0, 256 * KIB, path) == bytes(256 * KIB)
    check_same(path, "--allow-backing")


def test_zeros_in_version_2(tmp):
    """[8]"""
    path = create(f"{tmp}/a.qcow2", "-o", "compat=0.10", "8M")
    qemu_io(path, "write -P 3 0 1M", "write -z 64k 64k", "discard 512k 64k")
    check_same(path)


@pytest.mark.parametrize("mode", ["metadata", "falloc", "full"])
def test_preallocation(base, tmp, mode):
    """[9]"""
    empty = create(f"{tmp}/a.qcow2", "-o", f"preallocation={mode}", "8M")
    check_same(empty)
    qemu_io(empty, "write -P 9 1M 1M")
    check_same(empty)
    check_same(convert(base, f"{tmp}/b.qcow2", "-o", f"preallocation={mode}"))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16, 32, 64])
def test_refcount_widths(base, tmp, bits):
    """[10]"""
    check_same(convert(base, f"{tmp}/a.qcow2", "-o", f"refcount_bits={bits}"))


def test_refcounts_are_not_needed(lab, v3):
    """[10]"""
    poke(v3, 2 * 64 * KIB, bytes(64 * KIB))
    check_same(v3, raw=f"{lab}/base.raw", check_map=False)


def test_too_wide_refcounts_are_refused(v3):
    """[10]"""
    poke(v3, 96, struct.pack(">I", 7))
    assert "refcount width too large" in refusal(v3)


def test_dirty_image(tmp):
    """[11]"""
    path = create(f"{tmp}/d.qcow2", "-o", "lazy_refcounts=on", "8M")
    subprocess.run(["qemu-io", "-c", "write -P 6 0 64k", "-c", "flush", "-c", "abort", path],
                   capture_output=True, check=False, timeout=60)
    assert Qcow2(path).word(72) == 1
    assert part(path, 0, 64 * KIB) == b"\x06" * 64 * KIB
    assert part(path, 64 * KIB, 1000) == bytes(1000)
    assert Qcow2(path).word(72) == 1


def test_corrupt_bit_warns(lab, v3):
    """[12]"""
    poke(v3, 72, struct.pack(">Q", 2))
    done = imgcat(v3)
    assert done.returncode == 0
    assert b"marked corrupt" in done.stderr
    with open(f"{lab}/base.raw", "rb") as f:
        assert_bytes(done.stdout, f.read())


def test_bitmaps_are_ignored(v3):
    """[13]"""
    run("qemu-img", "bitmap", "--add", v3, "b0")
    assert Qcow2(v3).word(88) == 1
    check_same(v3)


def test_internal_snapshots_are_ignored(lab, v3):
    """[14]"""
    run("qemu-img", "snapshot", "-c", "s1", v3)
    run("qemu-img", "resize", "-q", v3, "12M")
    qemu_io(v3, "write -P 0x55 0 64k", "write -P 0x66 9M 64k")
    run("qemu-img", "snapshot", "-c", "s2", v3)
    qemu_io(v3, "write -P 0x77 9M 4k")
    assert part(v3, 0, 64 * KIB) == b"\x55" * 64 * KIB
    check_same(v3)


def test_external_data_file_is_refused_by_name(tmp):
    """[15]"""
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file=ext.dat", "e.qcow2", "8M",
        cwd=tmp)
    text = refusal(f"{tmp}/e.qcow2")
    assert "external data file" in text and '"ext.dat"' in text


def test_backing_file_is_refused_by_default(lab, tmp):
    """[16]"""
    shutil.copy(f"{lab}/base.raw", tmp)
    path = create(f"{tmp}/o.qcow2", "-b", "base.raw", "-F", "raw", "8M")
    text = refusal(path)
    assert '"base.raw"' in text and "--allow-backing" in text
    check_same(path, "--allow-backing")
    assert info(path, "--allow-backing")["backing"] == "base.raw"


@pytest.mark.parametrize("name, shown", [
    ("/etc/passwd", "/etc/passwd"),
    ('json:{"driver":"raw","file":{"driver":"file","filename":"/etc/passwd"}}', "json:{...}"),
    ("http://user:secret@127.0.0.1:1/x.raw?sig=secret", "http://127.0.0.1:1/x.raw"),
    ("../base.raw", "../base.raw"),
])
def test_backing_files_elsewhere(tmp, name, shown):
    """[16] The opener decides; what is told to people holds no secrets."""
    run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", name, "-F", "raw", f"{tmp}/o.qcow2",
        "8M")
    for options in ([], ["--allow-backing"]):
        text = refusal(*options, f"{tmp}/o.qcow2")
        assert f'"{shown}"' in text and "secret" not in text


def test_backing_without_a_format_is_not_probed(lab, v3, tmp):
    """[16] A raw one is read; what looks like qcow2 is neither opened as that nor shown raw."""
    path = create(f"{tmp}/o.qcow2", "-b", os.path.basename(v3), "-F", "qcow2", "8M")
    check_same(path, "--allow-backing", raw=f"{lab}/base.raw", check_map=False)
    at = Qcow2(path).read(0, 4096).index(struct.pack(">I", 0xE2792ACA))
    poke(path, at, b"\x12\x34\x56\x78")
    assert "looks like qcow2" in refusal("--allow-backing", path)
    shutil.copy(f"{lab}/base.raw", v3)
    assert_bytes(content("--allow-backing", path), content(f"{lab}/base.raw"))


def test_backing_shorter_than_the_image(tmp):
    """[17]"""
    with open(f"{tmp}/bk.raw", "wb") as f:
        f.write(b"B" * 100000)
    path = create(f"{tmp}/o.qcow2", "-b", "bk.raw", "-F", "raw", "1M")
    qemu_io(path, "write -P 1 0 512", "write -P 2 96k 1k")
    check_same(path, "--allow-backing", check_map=False)
    assert part(path, 512, 16, "--allow-backing") == b"B" * 16
    assert part(path, 500000, 16, "--allow-backing") == bytes(16)


def test_backing_longer_than_the_image(lab, tmp):
    """[17]"""
    shutil.copy(f"{lab}/base.raw", tmp)
    path = create(f"{tmp}/o.qcow2", "-b", "base.raw", "-F", "raw", "4M")
    check_same(path, "--allow-backing")
    assert len(content("--allow-backing", path)) == 4 * MIB


def test_shrunk_and_grown_again(lab, tmp):
    """[18] What was cut off does not reappear from the backing file."""
    shutil.copy(f"{lab}/base.raw", tmp)
    path = create(f"{tmp}/o.qcow2", "-b", "base.raw", "-F", "raw", "8M")
    run("qemu-img", "resize", "-q", "--shrink", path, "1M")
    run("qemu-img", "resize", "-q", path, "8M")
    assert part(path, MIB, 7 * MIB, "--allow-backing") == bytes(7 * MIB)
    check_same(path, "--allow-backing")


def test_chain_of_backing_files(lab, tmp):
    """[16] Depths and bytes of a chain of three."""
    shutil.copy(f"{lab}/base.raw", tmp)
    create(f"{tmp}/m.qcow2", "-b", "base.raw", "-F", "raw", "8M")
    qemu_io(f"{tmp}/m.qcow2", "write -P 5 1M 128k", "write -z 3M 128k")
    path = create(f"{tmp}/t.qcow2", "-o", "cluster_size=4k", "-b", "m.qcow2", "-F", "qcow2", "8M")
    qemu_io(path, "write -P 6 1088k 128k", "write -c -P 7 5M 4k")
    assert {x["depth"] for x in extents(path, "--allow-backing")} == {0, 1, 2}
    check_same(path, "--allow-backing")


def test_loop_of_backing_files(tmp):
    """[19]"""
    for one, other in (("la", "lb"), ("lb", "la")):
        run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", f"{other}.qcow2", "-F", "qcow2",
            f"{tmp}/{one}.qcow2", "8M")
    assert "loop" in refusal("--allow-backing", f"{tmp}/la.qcow2")


def test_sizes_that_are_no_multiple_of_sectors(v3):
    """[20] The header counts bytes; QEMU rounds down and loses the end."""
    poke(v3, 24, struct.pack(">Q", 1000001))
    assert content(v3) == b"\x11" * 1000001
    assert info(v3)["size"] == 1000001
    assert extents(v3)[-1]["start"] + extents(v3)[-1]["length"] == 1000001


@pytest.mark.parametrize("options", [[], ["-c"], ["-o", "cluster_size=2M"],
                                     ["-c", "-o", "cluster_size=2M,compression_type=zstd"]])
def test_disk_that_ends_within_a_cluster(tmp, options):
    """[20] Data up to its last sector."""
    with open(f"{tmp}/odd.raw", "wb") as f:
        f.write(seeded_bytes(MIB, "odd").hex().encode() + b"end" * 512)
    check_same(convert(f"{tmp}/odd.raw", f"{tmp}/a.qcow2", *options), raw=f"{tmp}/odd.raw")


def test_empty_disk(tmp):
    """[20]"""
    path = create(f"{tmp}/a.qcow2", "0")
    assert content(path) == b""
    assert extents(path) == [] and info(path)["allocated"] == 0


def test_unknown_header_extensions_are_skipped(v3, lab):
    """[21] Also a longer header, and one that fills all of the first cluster."""
    poke(v3, 112, b"\x12\x34\x56\x78")
    check_same(v3, raw=f"{lab}/base.raw")
    poke(v3, 112, struct.pack(">II", 0x12345678, 65536 - 120))
    check_same(v3, raw=f"{lab}/base.raw")
    poke(v3, 100, struct.pack(">I", 65536))
    check_same(v3, raw=f"{lab}/base.raw", check_map=False)
    poke(v3, 100, struct.pack(">I", 104))
    poke(v3, 104, bytes(8))
    check_same(v3, raw=f"{lab}/base.raw", check_map=False)


def test_header_extensions_of_large_clusters(lab, tmp):
    """[21] The end of the header may lie behind what a first read brings."""
    shutil.copy(f"{lab}/base.raw", tmp)
    path = create(f"{tmp}/o.qcow2", "-o", "cluster_size=2M", "-b", "base.raw", "-F", "raw", "8M")
    want = content("--allow-backing", path)
    extension = struct.pack(">II", 0x12345678, 1500000)
    poke(path, 112, extension + bytes(1500000) + struct.pack(">II3s", 0xE2792ACA, 3, b"raw"))
    poke(path, 8, struct.pack(">QI", 2 * MIB - 8, 8))
    poke(path, 2 * MIB - 8, b"base.raw")
    assert_bytes(content("--allow-backing", path), want)


@pytest.mark.parametrize("at", [80, 88])
def test_unknown_compatible_features_are_ignored(lab, v3, at):
    """[22]"""
    poke(v3, at, b"\x80")
    check_same(v3, raw=f"{lab}/base.raw")


@pytest.mark.parametrize("size, disk", [("512", "128G"), ("4k", "8T"), ("2M", "2E")])
def test_largest_disks(tmp, size, disk):
    """[23] [40] An L1 table of 32 MiB is not read to read a sector, nor to say that all is empty."""
    path = create(f"{tmp}/h.qcow2", "-o", f"cluster_size={size}", disk)
    qemu_io(path, "write -P 1 0 512", "write -P 2 100G 512")
    assert part(path, 0, 512) == b"\1" * 512
    assert part(path, 100 << 30, 512) == b"\2" * 512
    assert part(path, info(path)["size"] - 512, 512) == bytes(512)
    assert info(path)["l2_tables_read"] < 80
    found = [x for x in extents(path) if not x["zero"]]
    assert [x["start"] for x in found] == [0, 100 << 30]


def test_forced_format(lab, v3, tmp):
    """[24]"""
    with open(v3, "rb") as f:
        head = f.read(64 * KIB)
    with open(f"{tmp}/m.raw", "wb") as f:
        f.write(head.ljust(MIB, b"\0"))
    assert_bytes(content("--format", "raw", f"{tmp}/m.raw"), head.ljust(MIB, b"\0"))
    assert_bytes(content(f"{tmp}/m.raw"), bytes(8 * MIB))
    assert "not a qcow2 image" in refusal("--format", "qcow2", f"{lab}/base.raw")


def create_encrypted(path, kind):
    """qemu-img times its key derivation, and gives up where a busy machine's clock did not move."""
    options = f"encrypt.format={kind},encrypt.key-secret=s"
    if kind == "luks":
        options += ",encrypt.iter-time=10"
    argv = ("qemu-img", "create", "-q", "-f", "qcow2", "--object", "secret,id=s,data=abc", "-o", options,
            path, "4M")
    for _ in range(30):
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
        if "Unable to get accurate CPU usage" not in done.stderr:
            break
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", ["luks", "aes"])
def test_encrypted_images_are_refused(tmp, kind):
    """[25]"""
    create_encrypted(f"{tmp}/l.qcow2", kind)
    assert f"encrypted ({kind.upper()})" in refusal(f"{tmp}/l.qcow2")


def test_allocated_counts_data(base, tmp):
    """Exact while all tables are small: zeros, holes and reserved space are no data."""
    path = convert(base, f"{tmp}/a.qcow2", "-c")
    data = sum(x["length"] for x in qemu_map(path) if x["data"])
    assert info(path)["allocated"] == data
    qemu_io(path, "write -z 3M 512k", "write -P 1 7M 1")
    data = sum(x["length"] for x in qemu_map(path) if x["data"])
    assert info(path)["allocated"] == data


def test_allocated_is_estimated_where_tables_are_large(tmp):
    """512-byte clusters, 600 MiB of data, more tables than are looked at all."""
    raw = f"{tmp}/big.raw"
    with open(raw, "wb") as f:
        f.write(seeded_bytes(MIB, "big") * 600)
    path = convert(raw, f"{tmp}/a.qcow2", "-o", "cluster_size=512")
    os.unlink(raw)
    assert 0.9 < info(path)["allocated"] / (600 * MIB) < 1.1


@pytest.mark.parametrize("seed", range(6))
def test_random_histories(lab, tmp, seed):
    """Writes, zeros, discards and compressed writes in random order, over a backing file."""
    rng = random.Random(seed)
    shutil.copy(f"{lab}/base.raw", tmp)
    size = rng.choice(["4k", "16k", "64k", "256k"])
    extended = "on" if size != "4k" and rng.random() < 0.6 else "off"
    path = create(f"{tmp}/a.qcow2", "-o", f"cluster_size={size},extended_l2={extended}",
                  "-b", "base.raw", "-F", "raw", "8M")
    cluster = int(size[:-1]) * KIB
    commands = []
    for _ in range(60):
        kind = rng.choice(["write -P 0x%02x", "write -z", "write -z -u", "discard", "write -c -P 7"])
        if "%" in kind:
            kind %= rng.randrange(1, 256)
        unit = cluster if "-c" in kind else 512
        at = rng.randrange(0, 8 * MIB - cluster, unit)
        length = cluster if "-c" in kind else rng.randrange(512, 300 * KIB, 512)
        commands.append(f"{kind} {at} {min(length, 8 * MIB - at)}")
    # Compressed writes to what is allocated already fail; the others count.
    subprocess.run(["qemu-io", "-f", "qcow2", *(a for c in commands for a in ("-c", c)), path],
                   capture_output=True, check=False, timeout=60)
    check_same(path, "--allow-backing", reads=400)


def test_report(base, tmp):
    path = convert(base, f"{tmp}/a.qcow2", "-o",
                   "extended_l2=on,compression_type=zstd,cluster_size=32k")
    facts = info(path)
    assert {k: facts[k] for k in ("layer", "version", "cluster_size", "compression", "subclusters")} == {
        "layer": "qcow2", "version": 3, "cluster_size": 32768, "compression": "zstd",
        "subclusters": 1}
    assert "backing" not in facts


def test_map_of_a_raw_disk(base):
    assert extents(base) == json.loads(run("qemu-img", "map", "-f", "raw", "--output=json", base))
