# SPDX-License-Identifier: Apache-2.0
"""Sample disks: one raw disk whose bytes prove their offset, and its qcow2 variants by qemu-img."""

import os
import random
import shutil
import struct

from util import KIB, MIB, assert_same, offset_words, run, seeded_bytes

SIZE = 48 * MIB
PARTITION = 1 * MIB
PARTITION_SIZE = 16 * MIB

# name: options of `qemu-img convert`, from the raw disk
VARIANTS = {
    "plain": [],
    "zlib": ["-c"],
    "zstd": ["-c", "-o", "compression_type=zstd"],
    "v2": ["-o", "compat=0.10"],
    "v2-zlib": ["-c", "-o", "compat=0.10"],
    "ext-l2": ["-o", "extended_l2=on"],
    "ext-l2-zlib": ["-c", "-o", "extended_l2=on"],
    "scrambled": ["-m", "16", "-W"],
    "metadata": ["-o", "preallocation=metadata"],
    "cluster-512": ["-o", "cluster_size=512"],
    "cluster-1k": ["-o", "cluster_size=1k"],
    "cluster-4k": ["-o", "cluster_size=4k"],
    "cluster-32k": ["-o", "cluster_size=32k"],
    "cluster-256k": ["-o", "cluster_size=256k"],
    "cluster-2m": ["-o", "cluster_size=2M"],
    "zlib-512": ["-c", "-o", "cluster_size=512"],
    "zlib-4k": ["-c", "-o", "cluster_size=4k"],
    "zlib-2m": ["-c", "-o", "cluster_size=2M"],
    "zstd-2m": ["-c", "-o", "compression_type=zstd,cluster_size=2M"],
    "refcount-1": ["-o", "refcount_bits=1"],
}


def guest_files():
    """What the ext4 in the sample disk's partition holds: name and content."""
    return {
        "etc/motd": b"Welcome to the sample disk.\n",
        "etc/empty": b"",
        "var/words.bin": offset_words(0, 3 * MIB, 7),
        "var/noise.bin": seeded_bytes(2 * MIB + 123, "noise"),
    }


def hex_text(length, seed):
    """Compresses to about half, so that compressed clusters cross host clusters."""
    return seeded_bytes(length // 2, seed).hex().encode()


def write_at(path, pieces):
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        for offset, data in pieces:
            assert os.pwrite(fd, data, offset) == len(data)
    finally:
        os.close(fd)


def partition_table(size):
    """An MBR with one Linux partition."""
    entry = struct.pack("<B3sB3sII", 0, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff",
                        PARTITION // 512, PARTITION_SIZE // 512)
    assert PARTITION + PARTITION_SIZE <= size
    return bytes(440) + b"LZD1\0\0" + entry + bytes(48) + b"\x55\xaa"


def make_sample(path, workdir):
    """The raw sample disk: a partition with ext4, then data of several kinds, holes, small bits."""
    tree = os.path.join(workdir, "tree")
    for name, content in guest_files().items():
        target = os.path.join(tree, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as f:
            f.write(content)
    with open(path, "wb") as f:
        f.truncate(SIZE)
    run("mkfs.ext4", "-q", "-F", "-d", tree, "-E", f"offset={PARTITION}", path,
        f"{PARTITION_SIZE // KIB}k")
    shutil.rmtree(tree)
    rng = random.Random("sample")
    pieces = [
        (0, partition_table(SIZE)),
        (18 * MIB, offset_words(18 * MIB, 24 * MIB)),
        (24 * MIB, hex_text(4 * MIB, "hex")),
        (28 * MIB, seeded_bytes(4 * MIB, "random")),
        (SIZE - 512, offset_words(SIZE - 512, SIZE)),
    ]
    for _ in range(60):
        length = rng.choice([512, 1024, 4096, 12 * KIB, 65 * KIB])
        at = rng.randrange(40 * MIB, 47 * MIB, 512)
        pieces.append((at, offset_words(at, at + length)))
    write_at(path, pieces)


def make_unaligned(path):
    """A raw file whose size is no multiple of anything."""
    with open(path, "wb") as f:
        f.write(offset_words(0, 3000000))
        f.write(b"\xabtail")
        f.truncate(9000001)
        f.seek(9000000)
        f.write(b"!")


class Images:
    """Makes each image once, on demand, below one directory that a server may serve."""

    def __init__(self, directory):
        self.directory = str(directory)
        os.chmod(self.directory, 0o755)
        self.raw = self.path("sample.raw")
        make_sample(self.raw, self.directory)

    def path(self, name):
        return os.path.join(self.directory, name)

    def variant(self, name):
        """The sample disk in the shape @name ("raw" or a key of VARIANTS): path of the file."""
        if name == "raw":
            return self.raw
        path = self.path(f"sample-{name}.qcow2")
        if not os.path.exists(path):
            self._make(path, lambda tmp: run(
                "qemu-img", "convert", "-f", "raw", "-O", "qcow2", *VARIANTS[name], self.raw, tmp))
        return path

    def unaligned(self):
        return self._make(self.path("unaligned.raw"), make_unaligned)

    def subclusters(self):
        """Extended L2 with data, zeros and nothing mixed in one cluster: (qcow2, raw)."""
        path = self._make(self.path("subclusters.qcow2"), self._make_subclusters)
        return path, self.converted(path)

    @staticmethod
    def _make_subclusters(path):
        run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "extended_l2=on", path, "8M")
        run("qemu-io", "-c", "write -P 5 2k 2k", "-c", "write -z 4k 2k", "-c", "write -P 6 30k 4k",
            "-c", "write -z 64k 64k", "-c", "write -P 7 66k 2k", "-c", "discard 30k 2k",
            "-c", "write -c -P 8 128k 64k", "-c", "write -P 9 140k 512", path)

    def snapshot(self):
        """A qcow2 with an internal snapshot and writes after it: (qcow2, raw)."""
        path = self._make(self.path("snapshot.qcow2"), self._make_snapshot)
        return path, self.converted(path)

    def _make_snapshot(self, path):
        shutil.copyfile(self.variant("plain"), path)
        run("qemu-img", "snapshot", "-c", "before", path)
        run("qemu-io", "-f", "qcow2", "-c", "write -P 0x55 18M 1M", "-c", "write -z 25M 64k", path)

    def converted(self, path):
        """What `qemu-img convert -O raw` makes of @path."""
        return self._make(path + ".expected", lambda tmp: run(
            "qemu-img", "convert", "-O", "raw", path, tmp))

    def huge(self):
        """An 8 TiB qcow2 with 64 KiB clusters and a little data in three places."""
        return self._make(self.path("huge.qcow2"), self._make_huge)

    @staticmethod
    def _make_huge(path):
        run("qemu-img", "create", "-q", "-f", "qcow2", path, "8T")
        run("qemu-io", "-f", "qcow2", "-c", "write -P 1 0 64k", "-c", "write -P 2 4T 64k",
            "-c", "write -P 3 8796092956672 64k", path)

    @staticmethod
    def _make(path, make):
        if not os.path.exists(path):
            tmp = path + ".tmp"
            make(tmp)
            os.rename(tmp, path)
        return path


def check_variants(images):
    """Every variant holds the sample's bytes, says qemu-img itself."""
    for name in VARIANTS:
        assert_same(images.converted(images.variant(name)), images.raw)
