#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the corpus of fuzz_trace. Usage: make-trace-corpus.py DIRECTORY

The checksums are left 0: the fuzzer tries every input with the right one, too."""
import os
import struct
import sys

VERSION = b'etag="v1" size=65536000'

# name: (size of the image, boots, version, [(granule, ms, boots that touched it)])
SEEDS = {
    'plain': (65536000, 1, VERSION, [(5, 0, 1), (6, 0, 1), (900, 3, 1), (7, 2500, 1)]),
    'several': (65536000, 3, VERSION, [(1, 0, 3), (2, 0, 1), (3, 1, 2), (999, 9, 3)]),
    'old': (65536000, 16, VERSION, [(i, i, 16 - i) for i in range(16)]),
    'empty': (65536000, 1, VERSION, []),
    'nothing': (0, 1, b'', []),
    'huge': (1 << 47, 2, b'sha256:00', [((1 << 31) - 1, 0, 2), (0, 1 << 31, 1)]),
    'behind': (65536000, 1, VERSION, [(1000, 0, 1)]),
    'backwards': (65536000, 1, VERSION, [(1, 9, 1), (2, 8, 1)]),
    'twice': (65536000, 1, VERSION, [(4, 0, 1), (4, 0, 1), (5, 1, 1)]),
}


def record(size, boots, version, entries):
    head = struct.pack('<8sIIQIIII', b'LZDTRACE', 1, 65536, size, boots, len(entries),
                       len(version), 0)
    return head + version + b''.join(struct.pack('<III', *e) for e in entries) + bytes(8)


def main():
    for name, seed in SEEDS.items():
        with open(os.path.join(sys.argv[1], name), 'wb') as f:
            f.write(record(*seed))


main()
