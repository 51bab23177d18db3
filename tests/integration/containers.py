# SPDX-License-Identifier: Apache-2.0
"""Layers of container images: tar archives as tools write them, whole or in chunks with a table."""

import gzip
import hashlib
import io
import json
import struct
import subprocess
import tarfile

import oci

ESTARGZ_DIGEST = "containerd.io/snapshot/stargz/toc.digest"
CHUNKED = "io.github.containers.zstd-chunked."
TITLE = "org.opencontainers.image.title"


def layer(entries, fmt=tarfile.GNU_FORMAT):
    """A layer: a list of (name, bytes or None for a directory, or ("link"|"hard", target))."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=fmt) as archive:
        for name, what in entries:
            info = tarfile.TarInfo(name)
            info.uid = info.gid = 107
            if what is None:
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            elif isinstance(what, tuple):
                info.type = tarfile.SYMTYPE if what[0] == "link" else tarfile.LNKTYPE
                info.linkname = what[1]
                archive.addfile(info)
            else:
                info.size = len(what)
                archive.addfile(info, io.BytesIO(what))
    return out.getvalue()


def zstd(data, *options):
    return subprocess.run(["zstd", "-q", "-c", *options], input=data, capture_output=True,
                          check=True).stdout


def xz(data, *options):
    return subprocess.run(["xz", "-c", *options], input=data, capture_output=True,
                          check=True).stdout


def gz(data, level=6):
    return gzip.compress(data, level, mtime=0)


class Chunks:
    """What eStargz and zstd:chunked have in common."""

    def __init__(self, compress):
        self.compress = compress
        self.out = io.BytesIO()
        self.table = []

    def add(self, data):
        """Compresses @data as a stream of its own; returns where it begins."""
        at = self.out.tell()
        self.out.write(self.compress(data))
        return at

    def file(self, name, data, size, zeros=False, drop_digest=False):
        header = tarfile.TarInfo(name)
        header.size = len(data)
        self.add(header.tobuf(tarfile.USTAR_FORMAT))
        first = {"name": name, "type": "reg", "size": len(data),
                 "digest": oci.digest(data), "mode": 420, "uid": 107}
        if not data:
            self.table.append(first)
        for at in range(0, len(data), size):
            part = data[at:at + size]
            entry = first if at == 0 else {"name": name, "type": "chunk", "chunkOffset": at}
            if len(data) > size:
                entry["chunkSize"] = len(part)
                if not drop_digest:
                    entry["chunkDigest"] = oci.digest(part)
            entry["offset"] = self.out.tell()
            if zeros and not any(part):
                entry["chunkType"] = "zeros"
                entry["offset"] = 0
            self.add(part)
            self.table.append(entry)
        first["endOffset"] = self.out.tell()
        self.add(bytes(-len(data) % 512))

    def other(self, name, kind, link=""):
        header = tarfile.TarInfo(name)
        header.type = {"dir": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE,
                       "hardlink": tarfile.LNKTYPE}[kind]
        header.linkname = link
        self.add(header.tobuf(tarfile.USTAR_FORMAT))
        self.table.append({"name": name, "type": kind, "linkName": link})

    def json(self):
        return json.dumps({"version": 1, "entries": self.table}).encode()


def fill(chunks, files, size, **kwargs):
    for name, what in files:
        if what is None:
            chunks.other(name, "dir")
        elif isinstance(what, tuple):
            chunks.other(name, "symlink" if what[0] == "link" else "hardlink", what[1])
        else:
            chunks.file(name, what, size, **kwargs)


def estargz(files, size=4 << 20, **kwargs):
    """(layer, annotations) as stargz-snapshotter writes it."""
    chunks = Chunks(gz)
    fill(chunks, files, size, **kwargs)
    table = chunks.json()
    at = chunks.out.tell()
    header = tarfile.TarInfo("stargz.index.json")
    header.size = len(table)
    chunks.add(header.tobuf(tarfile.USTAR_FORMAT) + table + bytes(-len(table) % 512) + bytes(1024))
    chunks.out.write(b"\x1f\x8b\x08\x04" + bytes(5) + b"\xff" + struct.pack("<H", 26) + b"SG" +
                     struct.pack("<H", 22) + b"%016x" % at + b"STARGZ" + b"\x01\x00\x00\xff\xff" +
                     bytes(8))
    return chunks.out.getvalue(), {ESTARGZ_DIGEST: oci.digest(table)}


def skippable(data):
    return struct.pack("<II", 0x184D2A50, len(data)) + data


def zstd_chunked(files, size=64 << 10, prefix=CHUNKED, **kwargs):
    """(layer, annotations) as containers/storage writes it."""
    chunks = Chunks(zstd)
    fill(chunks, files, size, **kwargs)
    chunks.add(bytes(1024))
    plain = chunks.json()
    table = zstd(plain)
    at = chunks.out.tell() + 8
    chunks.out.write(skippable(table))
    chunks.out.write(skippable(struct.pack("<QQQQ", at, len(table), len(plain), 1) + bytes(24) +
                               b"GNUlInUx"))
    return chunks.out.getvalue(), {
        prefix + "manifest-position": f"{at}:{len(table)}:{len(plain)}:1",
        prefix + "manifest-checksum": oci.digest(table),
    }


def annotate(image, annotations, number=0):
    """Adds to what the manifest says of a layer."""
    manifest = json.loads(image.manifest)
    manifest["layers"][number].setdefault("annotations", {}).update(annotations)
    image.manifest = json.dumps(manifest).encode()
    return image


def artifact(blobs, titles=None, config_type="application/vnd.oci.empty.v1+json"):
    """An image without a file system: {title: bytes} as blobs of their own."""
    image = oci.Image(list(blobs.values()) if isinstance(blobs, dict) else blobs)
    manifest = json.loads(image.manifest)
    empty = b"{}"
    image.blobs["sha256:" + hashlib.sha256(empty).hexdigest()] = empty
    manifest["artifactType"] = "application/x-disk"
    manifest["config"] = {"mediaType": config_type, "digest": oci.digest(empty), "size": 2}
    for i, entry in enumerate(manifest["layers"]):
        entry["mediaType"] = "application/octet-stream"
        names = titles or (list(blobs) if isinstance(blobs, dict) else None)
        if names:
            entry["annotations"] = {TITLE: names[i]}
    image.manifest = json.dumps(manifest).encode()
    return image
