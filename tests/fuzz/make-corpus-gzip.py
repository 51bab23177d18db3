#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the corpus of fuzz_gzip. Usage: make-corpus-gzip.py DIRECTORY"""
import os
import struct
import sys
import zlib

TEXT = b''.join(b'line %d of some text\n' % i for i in range(400))


def member(data, level=6, strategy=zlib.Z_DEFAULT_STRATEGY, flags=0, fields=b'', flush=0):
    """One gzip member; @flush: a border between blocks after so many bytes."""
    packer = zlib.compressobj(level, zlib.DEFLATED, -15, 8, strategy)
    body = b''
    if flush:
        body = packer.compress(data[:flush]) + packer.flush(zlib.Z_SYNC_FLUSH)
    border = len(body)
    body += packer.compress(data[flush:]) + packer.flush()
    head = b'\x1f\x8b\x08' + bytes([flags]) + bytes(5) + b'\x03' + fields
    if flags & 2:
        head += struct.pack('<H', zlib.crc32(head) & 0xffff)
    tail = struct.pack('<II', zlib.crc32(data), len(data))
    return head + body + tail, len(head) + border


def points(total, *rows):
    """The record of points; its seal is the fuzzer's business."""
    head = b'LDGZIDX1' + struct.pack('<QQII', 0, total or 0, len(rows), total is not None)
    return head + b''.join(struct.pack('<QQQIIII', *row) for row in rows) + bytes(8)


def page(*windows):
    """zstd frames of one raw block each."""
    frames = [b'\x28\xb5\x2f\xfd\x20' + bytes([len(w)]) +
              struct.pack('<I', 1 | len(w) << 3)[:3] + w for w in windows]
    head = b'LDGZWIN1' + struct.pack('<QQII', 0, 0, len(windows), 0)
    return head + b''.join(struct.pack('<I', len(f)) for f in frames) + b''.join(frames) + bytes(8)


def seeds():
    whole, border = member(TEXT, flush=200)
    empty = member(b'')[0]
    fields = member(TEXT[:50], flags=0x1e, fields=b'\x04\0ab\0\0name\0comment\0')[0]
    start = (0, 0, 0, 0, 0, 0, 1)
    second = (len(whole) * 8, len(TEXT), 0, 0, 0, 0, 1)
    block = (border * 8, 200, 200, zlib.crc32(TEXT[:200]), zlib.crc32(TEXT[:200]), 200, 0)
    yield 'single', member(TEXT)[0], b'', b''
    yield 'stored', member(TEXT, level=0)[0], b'', b''
    yield 'fixed', member(TEXT, strategy=zlib.Z_FIXED)[0], b'', b''
    yield 'huffman', member(TEXT, strategy=zlib.Z_HUFFMAN_ONLY)[0], b'', b''
    yield 'fields', fields + empty + fields, b'', b''
    yield 'padded', whole + bytes(700), b'', b''
    yield 'zeros', member(bytes(3000000))[0], b'', b''
    yield 'members', whole + whole, points(2 * len(TEXT), start, second), b''
    yield 'block', whole, points(len(TEXT), start, block), page(TEXT[:200])
    yield 'partial', whole, points(None, start, block), page(TEXT[:200])


def main():
    for name, data, index, windows in seeds():
        with open(os.path.join(sys.argv[1], name), 'wb') as f:
            f.write(struct.pack('<II', len(data), len(index)) + data + index + windows)


main()
