# SPDX-License-Identifier: Apache-2.0
"""What the README promises first: ./quickstart, and command lines whose options exist."""

import os
import re
import subprocess

import pytest

from command import BINARY, ROOT
from util import assert_same, mounts_at, run

QUICKSTART = os.path.join(ROOT, "quickstart")
BUILD_SECONDS = 300


def quickstart(tmp, *argv):
    # A compiler's cache, where one is installed, would be made below XDG_CACHE_HOME, too.
    env = dict(os.environ, TMPDIR=tmp, XDG_CACHE_HOME=os.path.join(tmp, "cache"),
               CCACHE_DISABLE="1")
    env.pop("LAZYDISK_CACHE_DIR", None)
    return run(QUICKSTART, *argv, env=env, stdin=subprocess.DEVNULL, timeout=BUILD_SECONDS)


@pytest.mark.slow
def test_quickstart_looks_into_a_disk_and_leaves_nothing_behind(tmp):
    shown = quickstart(tmp)
    assert "Dear reader," in shown
    assert "EFI System" in shown and "Linux filesystem" in shown
    fetched, size = map(int, re.search(r"took (\d+) of the (\d+) bytes", shown).groups())
    assert size > 64 << 20
    assert 0 < fetched < size / 8
    assert os.listdir(tmp) == []
    assert not mounts_at(tmp)


@pytest.mark.slow
def test_quickstart_mounts_an_image_of_ones_own_and_leaves_it_mounted(tmp, nginx, images):
    point = os.path.join(tmp, "new", "mnt")
    url = nginx.url(images.variant("zlib-4k"))
    shown = quickstart(tmp, "--no-cache", url, point)
    try:
        assert f"umount {point}" in shown
        names = os.listdir(point)
        assert len(names) == 1
        assert_same(os.path.join(point, names[0]), images.raw)
    finally:
        run(BINARY, "umount", point)


def documented_commands():
    for page in ("README.md", "CONTRIBUTING.md", "tests/README.md"):
        with open(os.path.join(ROOT, page), encoding="utf-8") as f:
            for line in f:
                match = re.match(r"\s+lazydisk (\w+)([^#]*)", line)
                if match:
                    yield match.group(1), re.findall(r"--[a-z-]+", match.group(2))


def test_every_option_in_the_documentation_exists():
    commands = list(documented_commands())
    assert len(commands) > 8
    for verb, options in commands:
        known = re.findall(r"--[a-z-]+", run(BINARY, verb, "--help"))
        assert set(options) <= set(known), f"lazydisk {verb} {options}: {known}"
