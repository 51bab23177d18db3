#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the corpus of fuzz_qcow2 with qemu-img and qemu-io. Usage: make-corpus.py DIRECTORY

Files are stored as sparse.h describes, without the zeros between their tables."""
import os
import struct
import subprocess
import sys
import tempfile

# name: (options of create, size, commands of qemu-io, header bytes to change)
SEEDS = {
    'plain': ('', '1M', ['write -P 1 0 512', 'write -P 2 600k 1k'], {}),
    'v2': ('compat=0.10', '1M', ['write -P 1 64k 512'], {}),
    'small': ('cluster_size=512', '64k', ['write -P 1 0 1k', 'write -z 2k 1k', 'write -c -P 3 4k 512',
                                         'write -c -P 4 5k 1k'], {}),
    'zlib': ('cluster_size=4k', '1M', ['write -c -P 3 0 16k', 'write -c -P 4 100k 4k'], {}),
    'zstd': ('compression_type=zstd', '1M', ['write -c -P 3 0 64k', 'write -c -P 4 64k 64k'], {}),
    'zeros': ('', '8M', ['write -z 0 64k', 'write -P 5 64k 512', 'write -z 64k 64k'], {}),
    'subclusters': ('extended_l2=on,cluster_size=16k', '1M',
                    ['write -P 5 512 512', 'write -z 1k 512', 'write -c -P 6 16k 16k',
                     'write -P 7 40k 512'], {}),
    'large-clusters': ('cluster_size=2M', '1T', [], {}),
    'huge': ('', '8T', [], {}),
    'no-size': ('', '0', [], {}),
    'backing': ('', '1M', ['write -P 1 64k 512'], {'backing': b'base.raw'}),
    'features': ('', '1M', [], {72: b'\x80'}),
}


def image(path, name):
    options, size, commands, changes = SEEDS[name]
    create = ['qemu-img', 'create', '-q', '-f', 'qcow2', '-u']
    if options:
        create += ['-o', options]
    if 'backing' in changes:
        create += ['-b', changes['backing'].decode(), '-F', 'raw']
    subprocess.run([*create, path, size], check=True)
    if 'backing' in changes:
        with open(os.path.join(os.path.dirname(path), 'base.raw'), 'wb') as f:
            f.truncate(1 << 20)
    for command in commands:
        subprocess.run(['qemu-io', '-f', 'qcow2', '-c', command, path], check=True,
                       stdout=subprocess.DEVNULL)
    with open(path, 'rb') as f:
        data = bytearray(f.read())
    for at, value in changes.items():
        if at != 'backing':
            data[at:at + len(value)] = value
    return bytes(data)


def sparse(data):
    """Runs of what is not zero, and the last byte, which says how long it is."""
    out = [b'SPARSE']
    end = len(data) - 1
    pieces = [(at, data[at:at + 16].rstrip(b'\0')) for at in range(0, len(data), 16)]
    runs = []
    for at, piece in pieces:
        if not piece:
            continue
        if runs and at - (runs[-1][0] + len(runs[-1][1])) < 22:
            runs[-1][1].extend(bytes(at - runs[-1][0] - len(runs[-1][1])) + piece)
        else:
            runs.append((at, bytearray(piece)))
    for at, run in runs:
        run = run if len(set(run)) > 1 or len(run) < 64 else run[:64]
        out.append(struct.pack('<IH', at, len(run)) + bytes(run))
    out.append(struct.pack('<IH', end, 1) + data[end:])
    return b''.join(out)


def main():
    for name in SEEDS:
        with tempfile.TemporaryDirectory() as where:
            data = sparse(image(os.path.join(where, 'a.qcow2'), name))
        with open(os.path.join(sys.argv[1], name), 'wb') as f:
            f.write(data)


main()
