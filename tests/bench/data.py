# SPDX-License-Identifier: Apache-2.0
"""The images that are served. Made once for a directory, in about half a minute."""

import os
import pathlib

from rig import GIB, MIB, READER, run

STREAM_BYTES = 256 * MIB
RANDOM_BYTES = GIB


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
    }
    for name, how in made.items():
        path = directory / name
        if not path.exists():
            part = directory / f"{name}.part"
            how(part)
            os.rename(part, path)


def _noise(to, size, seed):
    run(READER, "fill", to, "--bytes", size, "--seed", seed)


def _convert(raw, to, *options):
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-m", 4, "-W", *options, raw, to)


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
