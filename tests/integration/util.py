# SPDX-License-Identifier: Apache-2.0
"""Small things that every integration test needs: waiting, ports, comparing, mount tables."""

import errno
import hashlib
import os
import random
import socket
import subprocess
import time

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


def wait_for(condition, seconds, what, poll=0.005):
    """Returns the first true value of condition(); fails with @what when the time is over."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s for {what}")
        time.sleep(poll)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def run(*argv, **kwargs):
    """A helper program that must succeed; its output as text."""
    kwargs.setdefault("timeout", 60)
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, **kwargs)
    assert done.returncode == 0, f"{argv} exited {done.returncode}: {done.stderr}{done.stdout}"
    return done.stdout


def read_exactly(fd, length, offset):
    """@length bytes, or fewer only at the end of the file: after a short read comes its error."""
    data = os.pread(fd, length, offset)
    while len(data) < length:
        more = os.pread(fd, length - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def pread(path, length, offset):
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return read_exactly(fd, length, offset)
    finally:
        os.close(fd)


def sha256(path, chunk=MIB):
    digest = hashlib.sha256()
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while True:
            part = os.read(fd, chunk)
            if not part:
                return digest.hexdigest()
            digest.update(part)
    finally:
        os.close(fd)


def first_difference(got, want):
    if len(got) != len(want):
        return min(len(got), len(want))
    low, high = 0, len(got)
    while low < high:
        middle = (low + high) // 2
        if got[: middle + 1] == want[: middle + 1]:
            low = middle + 1
        else:
            high = middle
    return low


def assert_bytes(got, want, offset=0):
    """As ==, but says where the bytes part and what stands there."""
    if got == want:
        return
    at = first_difference(got, want)
    raise AssertionError(
        f"bytes differ first at offset {offset + at} ({len(got)} bytes read, {len(want)} expected):"
        f" got {got[at:at + 16].hex()} want {want[at:at + 16].hex()}")


def assert_same(path, reference, chunk=4 * MIB):
    """The file at @path holds exactly the bytes of the file @reference."""
    size = os.stat(reference).st_size
    assert os.stat(path).st_size == size
    a = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    b = os.open(reference, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for offset in range(0, size, chunk):
            length = min(chunk, size - offset)
            assert_bytes(read_exactly(a, length, offset), read_exactly(b, length, offset), offset)
    finally:
        os.close(a)
        os.close(b)


def segments(path):
    """The file as SEEK_DATA and SEEK_HOLE tell it: a list of (start, end, is_data)."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        found = []
        at = 0
        while at < size:
            try:
                data = os.lseek(fd, at, os.SEEK_DATA)
            except OSError as e:
                assert e.errno == errno.ENXIO, e
                data = size
            assert at <= data <= size
            if data > at:
                found.append((at, data, False))
            if data == size:
                break
            hole = os.lseek(fd, data, os.SEEK_HOLE)
            assert data < hole <= size, f"SEEK_HOLE from {data} gave {hole}"
            found.append((data, hole, True))
            at = hole
        return found
    finally:
        os.close(fd)


def drop_pages(path):
    """Drops the kernel's pages of one file, so that the next read reaches the daemon."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def refuses(path, offset=0, length=4096):
    """Whether a read of it fails."""
    try:
        pread(path, length, offset)
    except OSError:
        return True
    return False


def mounts_at(path):
    """The file system types mounted exactly at @path, the oldest first."""
    path = os.path.abspath(path)
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            fields = line.split()
            if fields[4].replace("\\040", " ") == path:
                found.append(fields[fields.index("-") + 1])
    return found


def disk_used(directory):
    """Bytes of the file system that the files below @directory take."""
    total = 0
    for where, _, files in os.walk(directory):
        for name in files:
            try:
                total += os.lstat(os.path.join(where, name)).st_blocks * 512
            except FileNotFoundError:
                pass
    return total


def offset_words(start, end, seed=0):
    """Bytes that prove their offset: each aligned 8 of them are the offset, tagged with @seed."""
    from array import array
    assert start % 8 == 0 and end % 8 == 0
    tag = seed << 48
    return array("Q", range(tag + start, tag + end, 8)).tobytes()


def seeded_bytes(length, seed):
    return random.Random(seed).randbytes(length)


def one_line(text):
    """@text is exactly one non-empty line; returns it without its end."""
    lines = text.splitlines()
    assert len(lines) == 1 and lines[0].strip(), f"not one line: {text!r}"
    return lines[0]
