#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the corpora of the fuzzers with qemu-img, qemu-io, GNU tar. Usage: make-corpus.py DIRECTORY

Images are stored as sparse.h describes, without the zeros between their tables; below DIRECTORY, a
directory a fuzzer."""
import json
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


# fuzzers of disk formats, as QEMU calls them: {name: (options of create, size, commands of qemu-io)}
DISKS = {
    'vmdk': {
        'sparse': ('', '1M', ['write -P 1 0 512', 'write -P 2 600k 1k']),
        'zeroed': ('zeroed_grain=on', '1M', ['write -P 1 64k 512', 'write -z 128k 64k']),
        'stream': ('subformat=streamOptimized', '256k', ['write -P 3 0 64k', 'write -P 4 64k 64k']),
        'large': ('', '60G', ['write -P 7 59G 512']),
        'odd': ('', '66048', ['write -P 1 65536 512']),
        'flat': ('subformat=monolithicFlat', '64k', []),
    },
    'vdi': {
        'dynamic': ('', '3M', ['write -P 1 2M 512', 'write -P 2 600k 1k']),
        'static': ('static=on', '1M', ['write -P 1 0 512']),
        'large': ('', '10G', ['write -P 7 9G 512']),
    },
    'vpc': {
        'dynamic': ('force_size=on', '3M', ['write -P 1 2M 512', 'write -P 2 600k 1k']),
        'geometry': ('', '3M', ['write -P 1 2M 512']),
        'fixed': ('subformat=fixed', '64k', ['write -P 1 0 512']),
        'large': ('force_size=on', '10G', ['write -P 7 9G 512']),
    },
    'vhdx': {
        'dynamic': ('block_size=1M', '3M', ['write -P 1 2M 512', 'write -P 2 600k 1k']),
        'fixed': ('subformat=fixed,block_size=1M', '1M', ['write -P 1 0 512']),
        'large': ('block_size=1M', '5G', ['write -P 7 4G 512']),
    },
}


def disk(path, kind, name):
    options, size, commands = DISKS[kind][name]
    create = ['qemu-img', 'create', '-q', '-f', kind] + (['-o', options] if options else [])
    subprocess.run([*create, path, size], check=True)
    for command in commands:
        subprocess.run(['qemu-io', '-f', kind, '-c', command, path], check=True,
                       stdout=subprocess.DEVNULL)
    with open(path, 'rb') as f:
        return f.read()


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
        for i in range(0, len(run), 65535):
            part = run[i:i + 65535]
            out.append(struct.pack('<IH', at + i, len(part)) + bytes(part))
    out.append(struct.pack('<IH', end, 1) + data[end:])
    return b''.join(out)


TAR = ['tar', '--owner=0', '--group=0', '--numeric-owner', '--mtime=@0', '--sort=name', '-C']
TARS = {
    'ustar': ['--format=ustar'],
    'gnu': ['--format=gnu'],
    'sparse-gnu': ['--format=gnu', '-S'],
    'sparse-0.0': ['--format=posix', '-S', '--sparse-version=0.0'],
    'sparse-0.1': ['--format=posix', '-S', '--sparse-version=0.1'],
    'sparse-1.0': ['--format=posix', '-S', '--sparse-version=1.0'],
}


def archive(where, options):
    """A sparse file with more pieces than a GNU header takes, links, and a name that is long."""
    tree = os.path.join(where, 'tree')
    os.makedirs(os.path.join(tree, 'disk', 'n' * 90, 'm' * 90))
    with open(os.path.join(tree, 'disk/x'), 'wb') as f:
        f.truncate(1 << 20)
        for i in range(30):
            f.seek(i * 20480)
            f.write(b'x')
    os.link(os.path.join(tree, 'disk/x'), os.path.join(tree, 'hard'))
    os.symlink('disk/x', os.path.join(tree, 'soft'))
    path = os.path.join(where, 'a.tar')
    extra = [] if '--format=ustar' in options else ['disk/' + 'n' * 90]
    subprocess.run([*TAR, tree, *options, '-cf', path, 'disk/x', 'hard', 'soft', *extra], check=True)
    with open(path, 'rb') as f:
        return f.read().rstrip(b'\0') + bytes(1)


def table(kind):
    """A table of contents, as eStargz and zstd:chunked have them."""
    digest = 'sha256:' + '0' * 64
    chunks = [{'name': 'disk/x', 'type': 'reg', 'size': 300, 'offset': 100, 'chunkSize': 100,
               'chunkDigest': digest, 'digest': digest, 'mode': 420, 'xattrs': {'a': [1, {}]}},
              {'name': 'disk/x', 'type': 'chunk', 'offset': 200, 'chunkOffset': 100,
               'chunkSize': 150, 'chunkDigest': digest},
              {'name': 'disk/x', 'type': 'chunk', 'offset': 200, 'chunkOffset': 250,
               'innerOffset': 150, 'chunkDigest': digest}]
    if kind == 'zstd':
        chunks[0]['endOffset'] = 900
        chunks[1]['chunkType'] = 'zeros'
    other = [{'name': 'disk/', 'type': 'dir'},
             {'name': 'a\u00e9\n"', 'type': 'symlink', 'linkName': '\U0001f600'},
             {'name': 'hard', 'type': 'hardlink', 'linkName': 'disk/x'},
             {'name': 'one', 'type': 'reg', 'size': 5, 'offset': 700, 'digest': digest},
             {'name': 'none', 'type': 'reg'}, {'name': 'dev', 'type': 'char', 'devMajor': 1}]
    return json.dumps({'version': 1, 'entries': other[:1] + chunks + other[1:]}).encode()


def write(fuzzer, name, data):
    os.makedirs(os.path.join(sys.argv[1], fuzzer), exist_ok=True)
    with open(os.path.join(sys.argv[1], fuzzer, name), 'wb') as f:
        f.write(data)


def main():
    for name in SEEDS:
        with tempfile.TemporaryDirectory() as where:
            write('qcow2', name, sparse(image(os.path.join(where, 'a.qcow2'), name)))
    for kind, names in DISKS.items():
        for name in names:
            with tempfile.TemporaryDirectory() as where:
                write({'vpc': 'vhd'}.get(kind, kind), name,
                      sparse(disk(os.path.join(where, 'a.' + kind), kind, name)))
    for name, options in TARS.items():
        with tempfile.TemporaryDirectory() as where:
            write('tar', name, sparse(archive(where, options)))
    for name in ('estargz', 'zstd'):
        write('toc', name, table(name))


main()
