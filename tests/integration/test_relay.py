# SPDX-License-Identifier: Apache-2.0
"""The benchmark's link: what it carries arrives whole, and neither sooner nor faster than it may."""

import concurrent.futures
import contextlib
import http.client
import os
import subprocess
import time

import pytest

import command
from util import MIB, KIB, assert_bytes, seeded_bytes

RELAY = os.path.join(command.BUILD, "tests", "bench", "relay")
SIZE = 2 * MIB


@pytest.fixture(scope="module", name="content")
def fixture_content():
    return seeded_bytes(SIZE, "relay")


@contextlib.contextmanager
def link(port, rtt_ms, rate):
    """Yields the port of the far end, and a list that holds what the relay said when it ended."""
    said = []
    relay = subprocess.Popen(
        [RELAY, "--to", f"127.0.0.1:{port}", "--rtt-ms", str(rtt_ms), "--rate", str(rate)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        yield int(relay.stdout.readline()), said
    finally:
        relay.terminate()
        said += relay.communicate(timeout=30)[0].split()
    assert relay.returncode == 0


def get(connection, path="/file"):
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == 200
    return answer.read()


def round_trips(bad):
    """The seconds of four requests on one connection over a link of 80 ms."""
    with link(bad.port, 80, 0) as (port, _):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        took = []
        for _ in range(4):
            begin = time.monotonic()
            assert get(connection, "/small") == b"x" * 100
            took.append(time.monotonic() - begin)
        connection.close()
    return took


def test_a_round_trip_costs_its_time_and_a_new_connection_one_more(bad):
    """Never less; and no more where the machine has time for it, which one of ten tries must find."""
    bad.file("/small", b"x" * 100)
    for _ in range(10):
        took = round_trips(bad)
        assert took[0] >= 0.160
        assert all(t >= 0.080 for t in took[1:])
        if took[0] < 0.24 and min(took[1:]) < 0.12:
            return
    raise AssertionError(f"a round trip of 80 ms took {took}")


def test_all_connections_share_one_rate_and_get_their_own_bytes(bad, content):
    bad.file("/file", content)
    rate = 4 * SIZE  # bytes a second
    with link(bad.port, 10, rate) as (port, said):
        def fetch(_):
            connection = http.client.HTTPConnection("127.0.0.1", port)
            with contextlib.closing(connection):
                return get(connection)

        def fetch_by(readers):
            begin = time.monotonic()
            with concurrent.futures.ThreadPoolExecutor(readers) as pool:
                for got in pool.map(fetch, range(readers)):
                    assert_bytes(got, content)
            return time.monotonic() - begin

        fetched = 0
        for readers in (1, 4):
            took = []
            while not took or (min(took) >= readers * SIZE / rate * 1.4 + 0.2 and len(took) < 5):
                took.append(fetch_by(readers))
                fetched += readers
            assert readers * SIZE / rate <= min(took) < readers * SIZE / rate * 1.4 + 0.2
    assert said[:2] == ["connections", str(fetched)]
    assert int(said[5]) >= fetched * SIZE


def test_a_reader_that_is_slow_gets_all_of_it_and_an_end(bad, content):
    bad.file("/file", content)
    with link(bad.port, 20, 0) as (port, _):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/file", headers={"Connection": "close"})
        answer = connection.getresponse()
        got = b""
        while len(got) < SIZE:
            piece = answer.read(256 * KIB)
            assert piece
            got += piece
            time.sleep(0.01)
        assert_bytes(got, content)
        assert answer.read() == b""
        connection.close()


def test_a_server_that_resets_ends_the_connection(bad, content):
    def reset(_, reply):
        reply.cut = MIB
        reply.reset = True
    bad.file("/file", content, faults=[reset])
    with link(bad.port, 20, 0) as (port, _):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            get(connection)
        connection.close()
