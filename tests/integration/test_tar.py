# SPDX-License-Identifier: Apache-2.0
"""Disks in tar archives, as GNU tar, bsdtar and Python write them."""

import io
import os
import tarfile

import pytest

import imgcat
from util import KIB, MIB, assert_bytes, assert_same, offset_words, run, seeded_bytes

DISK = "disk.raw"
LONG = "d" * 90 + "/" + "e" * 120 + "/" + "f" * 140 + ".raw"


def make_sparse(path):
    """A raw disk with holes at its front, in its middle and at its end."""
    with open(path, "wb") as f:
        f.truncate(40 * MIB)
        for at, length in [(1 * MIB, 64 * KIB), (3 * MIB, 4 * KIB), (10 * MIB, 1 * MIB)] + [
                (20 * MIB + i * 128 * KIB, 4 * KIB) for i in range(40)]:
            f.seek(at)
            f.write(offset_words(at, at + length))


@pytest.fixture(name="tree", scope="module")
def fixture_tree(workdir):
    """A directory with a sparse disk, beside an OVF description that is no disk."""
    path = os.path.join(workdir, "tar-tree")
    os.mkdir(path)
    make_sparse(os.path.join(path, DISK))
    with open(os.path.join(path, "machine.ovf"), "w", encoding="utf-8") as f:
        f.write("<?xml version='1.0'?>\n<Envelope/>" + " " * 2000)
    with open(os.path.join(path, "machine.mf"), "w", encoding="utf-8") as f:
        f.write("SHA256(disk.raw)= 00\n" * 100)
    return path


WRITERS = {
    "ustar": ["tar", "--format=ustar"],
    "gnu": ["tar", "--format=gnu"],
    "posix": ["tar", "--format=posix"],
    "v7": ["tar", "--format=v7"],
    "sparse-gnu": ["tar", "--format=gnu", "-S"],
    "sparse-0.0": ["tar", "--format=posix", "-S", "--sparse-version=0.0"],
    "sparse-0.1": ["tar", "--format=posix", "-S", "--sparse-version=0.1"],
    "sparse-1.0": ["tar", "--format=posix", "-S", "--sparse-version=1.0"],
    "bsd-ustar": ["bsdtar", "--format=ustar"],
    "bsd-pax": ["bsdtar", "--format=pax"],
    "bsd-gnutar": ["bsdtar", "--format=gnutar"],
    "bsd-pax-dense": ["bsdtar", "--format=pax", "--no-read-sparse"],
}


@pytest.mark.parametrize("writer", WRITERS)
def test_the_disk_in_an_archive_is_the_disk(tmp, tree, writer):
    path = os.path.join(tmp, "a.ova")
    run(*WRITERS[writer], "-cf", path, "-C", tree, "machine.ovf", "machine.mf", DISK)
    disk = os.path.join(tree, DISK)
    imgcat.check_same(path, "--format", "tar", raw=disk, check_map=False) if writer == "v7" else (
        imgcat.check_same(path, raw=disk, check_map=False))
    info = imgcat.info(path, *(["--format", "tar"] if writer == "v7" else []))
    sparse = "sparse" in writer or writer == "bsd-pax"
    assert info["size"] == 40 * MIB
    assert (info["allocated"] < 3 * MIB) == sparse, info


@pytest.mark.parametrize("writer", ["sparse-gnu", "sparse-0.0", "sparse-0.1", "sparse-1.0"])
def test_holes_of_an_archive_are_holes_of_the_disk(tmp, tree, writer):
    path = os.path.join(tmp, "a.tar")
    run(*WRITERS[writer], "-cf", path, "-C", tree, DISK)
    holes = [(x["start"], x["length"]) for x in imgcat.extents(path) if not x["data"]]
    assert holes[0] == (0, 1 * MIB)
    assert holes[-1][0] + holes[-1][1] == 40 * MIB
    assert sum(length for _, length in holes) == 40 * MIB - (64 + 4 + 1024 + 160) * KIB


@pytest.mark.parametrize("writer", ["sparse-gnu", "sparse-0.0", "sparse-0.1", "sparse-1.0"])
def test_a_disk_that_is_all_hole(tmp, writer):
    disk = os.path.join(tmp, DISK)
    with open(disk, "wb") as f:
        f.truncate(3 * MIB + 512)
    path = os.path.join(tmp, "a.tar")
    run(*WRITERS[writer], "-cf", path, "-C", tmp, DISK)
    assert_bytes(imgcat.content(path), bytes(3 * MIB + 512))


@pytest.mark.parametrize("writer", ["gnu", "posix", "sparse-gnu", "sparse-1.0", "bsd-pax"])
def test_long_names_and_what_picks_them(tmp, tree, writer):
    top = os.path.join(tmp, "top")
    os.makedirs(os.path.join(top, os.path.dirname(LONG)))
    os.link(os.path.join(tree, DISK), os.path.join(top, LONG))
    with open(os.path.join(top, "b.raw"), "wb") as f:
        f.write(seeded_bytes(2 * MIB, "b"))
    path = os.path.join(tmp, "a.tar")
    run(*WRITERS[writer], "-cf", path, "-C", top, ".")
    imgcat.check_same(path, "--member", "/" + LONG, raw=os.path.join(tree, DISK), check_map=False)
    imgcat.check_same(path, "--member", "b.raw", raw=os.path.join(top, "b.raw"), check_map=False)
    text = imgcat.refusal(path)
    assert "2 files that may be disks" in text and "b.raw" in text and "--member" in text
    assert "there is no file c.raw" in imgcat.imgcat("--member", "c.raw", path).stderr.decode()


def test_links_lead_to_the_disk(tmp, tree):
    top = os.path.join(tmp, "top")
    os.makedirs(os.path.join(top, "images"))
    os.link(os.path.join(tree, DISK), os.path.join(top, "images/a.raw"))
    os.link(os.path.join(tree, DISK), os.path.join(top, "images/hard.raw"))
    os.symlink("/images/hard.raw", os.path.join(top, "soft.raw"))
    os.symlink("../../../../images", os.path.join(top, "dir"))
    os.symlink("loop", os.path.join(top, "loop"))
    path = os.path.join(tmp, "a.tar")
    run("tar", "-cf", path, "-C", top, ".")
    for name in ("soft.raw", "dir/hard.raw", "images/../dir/a.raw"):
        imgcat.check_same(path, "--member", name, raw=os.path.join(tree, DISK), check_map=False)
    done = imgcat.imgcat("--member", "loop", path)
    assert done.returncode == 4 and b"too many symbolic links" in done.stderr


def test_qcow2_in_an_archive(tmp, images):
    path = os.path.join(tmp, "a.tar")
    run("tar", "-cf", path, "-C", images.directory, os.path.basename(images.variant("zlib")))
    imgcat.check_same(path, raw=images.raw, check_map=False)


def test_what_is_broken_is_refused(tmp, tree):
    path = os.path.join(tmp, "a.tar")
    run("tar", "--format=gnu", "-S", "-cf", path, "-C", tree, DISK)
    whole = open(path, "rb").read()
    for length in (700, 2000, 5 * 512 + 1, MIB):
        with open(path, "wb") as f:
            f.write(whole[:length])
        assert "tar archive ends" in imgcat.refusal("--format", "tar", path)
    with open(path, "wb") as f:
        f.write(bytes(148) + b"7" + whole[149:])
    assert "checksum" in imgcat.refusal("--format", "tar", path)


def test_an_archive_without_a_disk(tmp):
    path = os.path.join(tmp, "a.tar")
    with tarfile.open(path, "w") as tar:
        entry = tarfile.TarInfo("README")
        entry.size = 3000
        tar.addfile(entry, io.BytesIO(b"text\n" * 600))
    text = imgcat.refusal(path)
    assert "no file that is a disk" in text and "README" in text


def test_mount_and_copy_of_an_archive(lazydisk, tmp, tree, nginx, images):
    path = os.path.join(images.directory, "machine.ova")
    run(*WRITERS["sparse-gnu"], "-cf", path, "-C", tree, "machine.ovf", DISK)
    target = os.path.join(tmp, "out.raw")
    for source in (path, nginx.url("machine.ova")):
        with lazydisk.mounted(source) as mount:
            assert mount.images() == ["machine.raw"]
            assert_same(mount.image(), os.path.join(tree, DISK))
        lazydisk.ok("copy", "--force", source, target)
        assert_same(target, os.path.join(tree, DISK))
