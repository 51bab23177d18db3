# SPDX-License-Identifier: Apache-2.0
"""The test servers themselves: without a fault the scripted one answers as nginx does."""

import http.client
import os

import pytest

import faults
from util import MIB, pread, seeded_bytes


def ask(port, path, method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, headers={
            name.replace("_", "-"): value for name, value in headers.items()})
        reply = connection.getresponse()
        return reply.status, reply.headers, reply.read()
    finally:
        connection.close()


@pytest.mark.parametrize("asked", [
    {}, {"Range": "bytes=0-0"}, {"Range": "bytes=100-299"}, {"Range": "bytes=8000000-"},
    {"Range": "bytes=9000000-99999999"}, {"Range": "bytes=9000001-"},
    {"If-Match": '"other"'}, {"Range": "bytes=5-9", "If-Match": "ETAG"},
    {"Range": "bytes=5-9", "If-Range": "ETAG"}, {"Range": "bytes=5-9", "If-Range": '"other"'},
    {"If-None-Match": "ETAG"}, {"method": "HEAD"},
], ids=str)
def test_the_scripted_server_answers_as_nginx_does(bad, nginx, images, asked):
    path = images.unaligned()
    _, told, _ = ask(nginx.ports["plain"], "/" + os.path.basename(path), "HEAD")
    etag = told["ETag"]
    bad.file("/disk.img", pread(path, 9000001, 0), etag=etag)
    asked = {name: etag if value == "ETAG" else value for name, value in asked.items()}
    ours = ask(bad.port, "/disk.img", **asked)
    theirs = ask(nginx.ports["plain"], "/" + os.path.basename(path), **asked)
    assert ours[0] == theirs[0]
    if ours[0] < 400:
        assert ours[2] == theirs[2]
        assert ours[1]["Content-Length"] == theirs[1]["Content-Length"]
        assert ours[1]["ETag"] == etag
    assert ours[1]["Content-Range"] == theirs[1]["Content-Range"]


def test_faults_do_what_they_say(bad):
    data = seeded_bytes(MIB, "x")

    def served(*fault_list, **headers):
        bad.file("/x", data, faults=fault_list)
        return ask(bad.port, "/x", **headers)

    part = {"Range": "bytes=100-199"}
    assert served(faults.prefix_as_200(data), **part)[::2] == (200, data[:100])
    assert served(faults.shifted(data, 7), **part)[2] == data[107:207]
    assert served(faults.content_range(start=1), **part)[1]["Content-Range"] == (
        f"bytes 101-199/{MIB}")
    assert served(faults.short_206(10), **part)[2] == data[100:110]
    assert served(faults.overshoot(data, 5), **part)[2] == data[100:205]
    assert served(faults.chunked, **part)[1]["Transfer-Encoding"] == "chunked"
    assert served(faults.gzip_encoded, **part)[1]["Content-Encoding"] == "gzip"
    assert served(faults.multipart, **part)[1]["Content-Type"].startswith("multipart/byteranges")
    assert served(faults.status(429, retry_after=5))[1]["Retry-After"] == "5"
    assert served(faults.first(1, faults.status(500)))[0] == 500
    assert ask(bad.port, "/x")[0] == 200
    with pytest.raises(http.client.IncompleteRead):
        served(faults.cut_half)
    with pytest.raises(http.client.RemoteDisconnected):
        served(faults.drop)
    with pytest.raises(ConnectionResetError):
        served(faults.reset)
    assert bad.requests("/x")[-1].number == 1


def test_signed_addresses_stop_working(bad):
    signer = faults.Signer("/signed", uses=2)
    bad.file("/x", b"", faults=[signer.issue])
    bad.file("/signed", b"data", faults=[signer.check])
    target = ask(bad.port, "/x")[1]["Location"]
    assert [ask(bad.port, target)[0] for _ in range(3)] == [200, 200, 403]
    assert ask(bad.port, "/signed?X-Amz-Signature=guess")[0] == 403
