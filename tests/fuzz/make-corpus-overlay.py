#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the corpus of fuzz_overlay. Usage: make-corpus-overlay.py DIRECTORY

The checksums are left 0: the fuzzer tries every input with the right ones, too."""
import os
import struct
import sys

DISK = 1 << 20
ROOT, MAP, DATA = 65536, 69632, 1 << 20
ID = b'fuzz'


def header(size=DISK, version=1, unit=4096, root=ROOT, places=MAP, data=DATA, end=None, ident=ID,
           source=b'http://host/disk'):
    end = data + size if end is None else end
    return struct.pack('<8sII16sQqQQQQIIQ', b'LZDovl\r\n', version, unit, bytes(range(16)), size,
                       1700000000, root, places, data, end, len(ident), len(source),
                       0) + ident + source


def pieces(*what):
    """An input of sparse.h."""
    return b'SPARSE' + b''.join(struct.pack('<IH', at, len(b)) + b for at, b in what)


LAST = (DATA + DISK - 1, b'\0')
SEEDS = {
    'empty': pieces((0, header()), LAST),
    # units 0 to 7: base, data, zeros, data, and again
    'written': pieces((0, header()), (ROOT, b'\1'), (MAP, b'\x64\x64'), (DATA + 4096, b'abc'), LAST),
    'all': pieces((0, header()), (ROOT, b'\1'), (MAP, b'\x55' * 64), LAST),
    'reserved': pieces((0, header()), (ROOT, b'\1'), (MAP, b'\xff' * 64), LAST),
    'no_page': pieces((0, header()), (MAP, b'\x55' * 64), LAST),
    'too_many_pages': pieces((0, header()), (ROOT, b'\xff' * 504), LAST),
    'behind_the_end': pieces((0, header()), (ROOT, b'\1'), (MAP, b'\x55' * 504), LAST),
    'short': pieces((0, header()), (ROOT, b'\1'), (MAP, b'\x64')),
    'other_base': pieces((0, header(ident=b'other')), LAST),
    'later': pieces((0, header(version=2)), LAST),
    'huge': pieces((0, header(size=1 << 62)), LAST),
    'odd_places': pieces((0, header(root=512, places=0, data=1 << 63, end=1)), LAST),
    'long_texts': pieces((0, header()[:80] + struct.pack('<II', 0xffffffff, 2) + bytes(24)), LAST),
    'no_overlay': b'QFI\xfb' + bytes(100),
}


def main():
    for name, seed in SEEDS.items():
        with open(os.path.join(sys.argv[1], name), 'wb') as f:
            f.write(seed)


main()
