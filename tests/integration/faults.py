# SPDX-License-Identifier: Apache-2.0
"""What a server can do wrong: functions (request, reply) for BadServer.file(faults=[...])."""

import gzip
import itertools
import threading
import time

# when a fault applies


def first(count, fault):
    """Only to the first @count requests that come by here."""
    numbers = itertools.count(1)
    return lambda request, reply: next(numbers) <= count and fault(request, reply)


def after(count, fault):
    """To all but the first @count requests that come by here."""
    numbers = itertools.count(1)
    return lambda request, reply: next(numbers) > count and fault(request, reply)


def every(period, fault):
    numbers = itertools.count(1)
    return lambda request, reply: next(numbers) % period == 0 and fault(request, reply)


def all_but_every(period, fault):
    numbers = itertools.count(1)
    return lambda request, reply: next(numbers) % period != 0 and fault(request, reply)


def on_range(fault):
    return lambda request, reply: request.ranged and fault(request, reply)


def on_get(fault):
    return lambda request, reply: request.method == "GET" and fault(request, reply)


def on_head(fault):
    return lambda request, reply: request.method == "HEAD" and fault(request, reply)


def beyond(offset, fault):
    """To ranges that start at @offset or later: the opening of the image goes well."""
    return lambda request, reply: (
        request.ranged and request.start >= offset and fault(request, reply))


def on_206(fault):
    return lambda request, reply: reply.status == 206 and fault(request, reply)


class Switch:
    """A fault that the test turns on and off."""

    def __init__(self, fault, on=False):
        self.fault = fault
        self.on = on

    def __call__(self, request, reply):
        if self.on:
            self.fault(request, reply)


# the connection


def drop(request, reply):
    """Closes the connection instead of answering."""
    reply.silent = True


def reset(request, reply):
    reply.silent = reply.reset = True


def drop_after_headers(request, reply):
    reply.cut = 0


def cut(length, by_reset=False):
    """Closes the connection after @length bytes of the body, which was promised whole."""
    def fault(request, reply):
        reply.cut = length
        reply.reset = by_reset
    return fault


def cut_half(request, reply):
    reply.cut = len(reply.body) // 2


def stall(length, seconds):
    """Sends nothing for @seconds after @length bytes of the body."""
    def fault(request, reply):
        reply.stall = (length, seconds)
    return fault


def hold(offset, end, until):
    """Before the event @until nothing that lies in [@offset, @end) of the file."""
    def fault(request, reply):
        if (until.is_set() or not request.ranged or request.start >= end
                or request.start + len(reply.body) <= offset):
            return
        if request.start < offset:
            reply.cut = offset - request.start
        else:
            until.wait(60)
    return fault


def delay(seconds):
    def fault(request, reply):
        reply.delay = seconds
    return fault


def drip(rate):
    """The body at @rate bytes a second."""
    def fault(request, reply):
        reply.drip = rate
    return fault


def close_each(request, reply):
    reply.close = True


# the answer


def status(code, retry_after=None):
    def fault(request, reply):
        reply.status = code
        reply.body = b"<html>error</html>"
        reply.headers = {"Content-Type": "text/html"}
        if retry_after is not None:
            reply.headers["Retry-After"] = str(retry_after)
    return fault


def header(name, value):
    """Sets a header of the reply; None takes it away."""
    def fault(request, reply):
        reply.headers[name] = value
    return fault


def whole(data, etag=None):
    """200 and all of @data in answer to a range."""
    def fault(request, reply):
        if reply.status == 206:
            reply.status = 200
            reply.headers.pop("Content-Range", None)
            reply.body = data
            if etag:
                reply.headers["ETag"] = etag
    return fault


def prefix_as_200(data):
    """200 with as many bytes as the range asked for, from the start: the trap for naive clients."""
    def fault(request, reply):
        if reply.status == 206:
            reply.status = 200
            reply.headers.pop("Content-Range", None)
            reply.body = data[:len(reply.body)]
    return fault


def no_ranges(data):
    """A server that does not know ranges and does not say so."""
    def fault(request, reply):
        reply.headers.pop("Accept-Ranges", None)
        whole(data)(request, reply)
    return fault


def _parts(reply):
    what, _, total = reply.headers["Content-Range"].removeprefix("bytes ").partition("/")
    start, _, end = what.partition("-")
    return int(start), int(end), int(total)


def damage(offset, spent=None):
    """The byte at @offset of the file is another one; once only when there is a lock to be spent."""
    def fault(request, reply):
        if reply.status == 206:
            start, end, _ = _parts(reply)
            if start <= offset <= end and (not spent or spent.acquire(blocking=False)):
                body = bytearray(reply.body)
                body[offset - start] ^= 1
                reply.body = bytes(body)
    return fault


def damage_once(offset):
    """The byte at @offset of the file is another one, in the first range that has it."""
    return damage(offset, threading.Lock())


def content_range(start=0, end=0, total=0):
    """The numbers of Content-Range are off by so much; the body is as it was."""
    def fault(request, reply):
        if reply.status == 206:
            a, b, c = _parts(reply)
            reply.headers["Content-Range"] = f"bytes {a + start}-{b + end}/{c + total}"
    return fault


def unknown_total(request, reply):
    if reply.status == 206:
        a, b, _ = _parts(reply)
        reply.headers["Content-Range"] = f"bytes {a}-{b}/*"


def shifted(data, by):
    """An honest Content-Range, and a body, of another range than was asked for."""
    def fault(request, reply):
        if reply.status == 206:
            a, b, c = _parts(reply)
            a, b = a + by, min(b + by, c - 1)
            reply.headers["Content-Range"] = f"bytes {a}-{b}/{c}"
            reply.body = data[a:b + 1]
    return fault


def short_206(length):
    """A range shorter than was asked for, told honestly."""
    def fault(request, reply):
        if reply.status == 206 and len(reply.body) > length:
            a, _, c = _parts(reply)
            reply.body = reply.body[:length]
            reply.headers["Content-Range"] = f"bytes {a}-{a + length - 1}/{c}"
    return fault


def short_body(length):
    """A body shorter than Content-Range says, with a Content-Length that agrees with the body."""
    def fault(request, reply):
        if reply.status == 206:
            reply.body = reply.body[:length]
    return fault


def long_206(extra):
    """More bytes behind the range, with a Content-Length that counts them."""
    def fault(request, reply):
        if reply.status == 206:
            reply.body = reply.body + b"\xee" * extra
    return fault


def overshoot(data, extra):
    """A longer range than was asked for, told honestly."""
    def fault(request, reply):
        if reply.status == 206:
            a, b, c = _parts(reply)
            b = min(b + extra, c - 1)
            reply.body = data[a:b + 1]
            reply.headers["Content-Range"] = f"bytes {a}-{b}/{c}"
    return fault


def gzip_encoded(request, reply):
    """Compressed on the way, though nobody asked for it."""
    if reply.body:
        reply.body = gzip.compress(reply.body, 1)
        reply.headers["Content-Encoding"] = "gzip"


def chunked(request, reply):
    """No Content-Length."""
    reply.chunked = True


def until_close(request, reply):
    """No length at all: the body ends with the connection."""
    reply.headers["Content-Length"] = None
    reply.close = True


def multipart(request, reply):
    if reply.status == 206:
        what = reply.headers.pop("Content-Range")
        reply.headers["Content-Type"] = "multipart/byteranges; boundary=XX"
        reply.body = (b"--XX\r\nContent-Type: application/octet-stream\r\nContent-Range: "
                      + what.encode() + b"\r\n\r\n" + reply.body + b"\r\n--XX--\r\n")


def redirect(url, code=302):
    """To @url, or what @url(request) says."""
    def fault(request, reply):
        target = url(request) if callable(url) else url
        reply.status = code
        reply.headers = {"Location": target}
        reply.body = b"moved\n"
    return fault


class Signer:
    """Gives out signed URLs for a file that stop working after some uses or seconds.

    server.file("/disk", b"", faults=[signer.issue]); server.file("/signed", data,
    faults=[signer.check])."""

    def __init__(self, target, uses=None, seconds=None, code=403):
        self.target = target
        self.uses = uses
        self.seconds = seconds
        self.code = code
        self.lock = threading.Lock()
        self.issued = {}

    def issue(self, request, reply):
        with self.lock:
            signature = f"sig{len(self.issued) + 1}"
            self.issued[signature] = [0, time.monotonic()]
        redirect(f"{self.target}?X-Amz-Signature={signature}")(request, reply)

    def check(self, request, reply):
        signature = request.query.partition("=")[2]
        with self.lock:
            known = self.issued.get(signature)
            if known:
                known[0] += 1
            good = (known and (not self.uses or known[0] <= self.uses)
                    and (not self.seconds or time.monotonic() - known[1] <= self.seconds))
        if not good:
            status(self.code)(request, reply)
