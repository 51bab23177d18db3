#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the corpus of fuzz_xz, fuzz_zstd and fuzz_chunked with the commands of those names and gzip.
Usage: make-corpus-packed.py CORPUS"""
import os
import struct
import subprocess
import sys

TEXT = b''.join(b'%d bottles of beer on the wall\n' % n for n in range(300))
PLAIN = TEXT + bytes(5000) + TEXT[:1000]


def packed(*command, data=PLAIN):
    return subprocess.run(command, input=data, check=True, stdout=subprocess.PIPE).stdout


def xz(*options, data=PLAIN):
    return packed('xz', '--stdout', '-0', *options, data=data)


def zstd(*options, data=PLAIN):
    return packed('zstd', '--stdout', '-q', *options, data=data)


def skippable(magic, data):
    return struct.pack('<II', magic, len(data)) + data


def chunk(kind, stream, size, inner=0):
    """What fuzz_chunked reads."""
    return struct.pack('<BHH', kind, size, inner) + stream


def pieces(size=4000):
    return [PLAIN[at:at + size] for at in range(0, len(PLAIN), size)]


def seekable():
    """The seekable format; of the checksums only the place is there, for their flag is unset."""
    frames = [(zstd('--no-check', data=piece), len(piece)) for piece in pieces()]
    table = b''.join(struct.pack('<II', len(frame), size) for frame, size in frames)
    table += struct.pack('<IBI', len(frames), 0, 0x8f92eab1)
    return b''.join(frame for frame, _ in frames) + skippable(0x184d2a5e, table)


def like_pzstd():
    frames = [zstd('--no-content-size', data=piece) for piece in pieces()]
    return b''.join(skippable(0x184d2a50, struct.pack('<I', len(f))) + f for f in frames)


SEEDS = {
    'chunked/estargz': lambda: chunk(0, packed('gzip', '-c', '-n'), 9000),
    'chunked/estargz-inner': lambda: chunk(0, packed('gzip', '-c', '-n'), 600, 8000),
    'chunked/zstd': lambda: chunk(1, zstd(), 9000),
    'chunked/zstd-inner': lambda: chunk(1, zstd('--no-check'), 600, 8000),
    'xz/one': lambda: xz('-T1'),
    'xz/many': lambda: xz('-T2', '--block-size=4000'),
    'xz/sha256': lambda: xz('-T1', '--check=sha256'),
    'xz/filters': lambda: xz('--x86', '--delta=dist=3', '--lzma2=preset=0', '--check=none'),
    'xz/streams': lambda: xz('-T1', data=TEXT) + bytes(8) + xz(data=b'') + xz('-T1') + bytes(4),
    'zstd/one': zstd,
    'zstd/long': lambda: zstd('--long=20', '--no-check'),
    'zstd/seekable': seekable,
    'zstd/pzstd': like_pzstd,
    'zstd/zeros': lambda: zstd(data=bytes(1 << 20)),
    'zstd/skippable': lambda: skippable(0x184d2a5f, b'hello') + zstd(data=TEXT),
}


def main():
    for name, make in SEEDS.items():
        path = os.path.join(sys.argv[1], name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'wb') as f:
            f.write(make())


main()
