# SPDX-License-Identifier: Apache-2.0
"""The images that are served. Made once for a directory, in about a minute."""

import hashlib
import json
import os
import pathlib
import subprocess
import tarfile

from rig import GIB, MIB, READER, run

STREAM_BYTES = 256 * MIB
RANDOM_BYTES = GIB
SYSTEM_BYTES = 3 * GIB
SYSTEM_DATA = 480 * MIB  # of these
SYSTEM_RUN = 12 * MIB
XZ_BLOCK = 8 * MIB


def make(directory):
    """What is there already is taken as it is: each file appears under its name when it is done."""
    directory.mkdir(parents=True, exist_ok=True)
    os.chmod(directory, 0o755)
    made = {
        "stream.raw": lambda to: _noise(to, STREAM_BYTES, 1),
        "stream.qcow2": lambda to: _convert(directory / "stream.raw", to),
        "random.raw": lambda to: _noise(to, RANDOM_BYTES, 2),
        "random.qcow2": lambda to: _convert(directory / "random.raw", to),
        "programs.raw": lambda to: _programs(to, STREAM_BYTES),
        "programs.qcow2": lambda to: _convert(directory / "programs.raw", to, "-c"),
        "huge.qcow2": _huge,
        "v2": lambda to: _registry(directory / "random.qcow2", to / "bench" / "disk"),
        "system.raw": _system,
        "system.qcow2": lambda to: _convert(directory / "system.raw", to, "-c"),
        "system.raw.gz": lambda to: _pack(directory / "system.raw", to, "gzip", "-4"),
        "programs.raw.gz": lambda to: _pack(directory / "programs.raw", to, "gzip", "-6"),
        "programs.raw.xz": lambda to: _pack(
            directory / "programs.raw", to, "xz", "-1", "-T2", f"--block-size={XZ_BLOCK}"),
        "programs.one.raw.xz": lambda to: _pack(
            directory / "programs.raw", to, "xz", "-0", "-T1"),
    }
    for name, how in made.items():
        path = directory / name
        if not path.exists():
            part = directory / f"{name}.part"
            how(part)
            os.rename(part, path)


def _registry(disk, repo):
    """Of a registry as much as a web server can be: an image whose only layer is a plain archive."""
    for kind in ("blobs", "manifests"):
        (repo / kind).mkdir(parents=True)
    layer = repo / "blobs" / "layer"
    with tarfile.open(layer, "w") as archive:
        archive.add(disk, "disk/disk.qcow2")
    with open(layer, "rb") as f:
        digest = "sha256:" + hashlib.file_digest(f, "sha256").hexdigest()
    size = layer.stat().st_size
    layer.rename(layer.with_name(digest))
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar",
                            "digest": digest, "size": size}]}
    (repo / "manifests" / "latest").write_text(json.dumps(manifest))


def _noise(to, size, seed):
    run(READER, "fill", to, "--bytes", size, "--seed", seed)


def _convert(raw, to, *options):
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-m", 4, "-W", *options, raw, to)


def _pack(raw, to, *command):
    with open(to, "wb") as out:
        subprocess.run([*command, "-c", raw], stdout=out, check=True)


def _system(to):
    """As a small installed disk: a part of it is files, in runs that lie scattered, the rest is
    holes."""
    files = to.with_suffix(".files")
    _programs(files, SYSTEM_DATA)
    with open(files, "rb") as source, open(to, "wb") as out:
        out.truncate(SYSTEM_BYTES)
        for at in range(0, SYSTEM_DATA, SYSTEM_RUN):
            out.seek(at * (SYSTEM_BYTES // SYSTEM_DATA))
            out.write(source.read(SYSTEM_RUN))
    files.unlink()


def _programs(to, size):
    """Compresses as an installed system does: the files of this one's /usr, one after the other."""
    with open(to, "wb") as out:
        for path in sorted(pathlib.Path("/usr").glob("*bin/*")) + sorted(
                pathlib.Path("/usr/lib").rglob("*.so*")) + sorted(
                pathlib.Path("/usr/share").rglob("*")):
            if path.is_file() and not path.is_symlink():
                out.write(path.read_bytes()[:size - out.tell()])
            if out.tell() == size:
                return
    raise RuntimeError("/usr is too small to make an image of")


def _huge(to):
    """8 TiB, with data at both ends and in the middle."""
    run("qemu-img", "create", "-q", "-f", "qcow2", to, "8T")
    for offset in ("0", "4T", "8796091973632"):
        run("qemu-io", "-f", "qcow2", "-c", f"write -q -P 7 {offset} 1M", to)
