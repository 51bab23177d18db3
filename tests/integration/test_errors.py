# SPDX-License-Identifier: Apache-2.0
"""What users do wrong: one line that says what to do, the right exit code, in under 5 seconds."""

import json
import os
import subprocess
import time

import pytest

import faults
from command import BINARY, slowness
from util import MIB, assert_bytes, free_port, offset_words, one_line, pread

DATA = offset_words(8, 8 + MIB)


def refused(lazydisk, *args, code, verb="mount", seconds=5):
    """The command fails in time with @code, and its only line is returned."""
    begun = time.monotonic()
    done = lazydisk.run(verb, *args)
    took = time.monotonic() - begun
    assert done.returncode == code, (done.returncode, done.stderr)
    assert done.stdout == ""
    line = one_line(done.stderr)
    assert line.startswith("lazydisk")
    assert took < seconds * slowness(), f"took {took:.1f} s"
    return line


# sources

def test_a_missing_image_is_told(lazydisk, nginx):
    url = nginx.url("missing.qcow2")
    line = refused(lazydisk, url, lazydisk.point(), code=3)
    assert url in line and ("404" in line or "not found" in line.lower())


def test_a_refused_connection_is_told(lazydisk):
    url = f"http://127.0.0.1:{free_port()}/disk.img"
    assert url in refused(lazydisk, url, lazydisk.point(), code=3)


def test_a_host_that_does_not_exist_is_told(lazydisk):
    line = refused(lazydisk, "http://no-such-host.invalid/disk.img", lazydisk.point(), code=3)
    assert "no-such-host.invalid" in line


@pytest.mark.parametrize("source", ["http://", "http:///disk.img", "ftp://127.0.0.1/x", "gopher://x",
                                    "http://127.0.0.1:99999/x", ""])
def test_nonsense_is_no_source(lazydisk, source):
    done = lazydisk.run("mount", source, lazydisk.point())
    assert done.returncode in (2, 3)
    one_line(done.stderr)


def test_a_missing_local_file_is_told(lazydisk, tmp):
    line = refused(lazydisk, tmp + "/no.raw", lazydisk.point(), code=3)
    assert tmp + "/no.raw" in line


def test_a_directory_is_no_image(lazydisk, tmp):
    done = lazydisk.run("mount", tmp, lazydisk.point())
    assert done.returncode == 2
    assert "directory" in one_line(done.stderr)


def test_a_refused_password_is_told(lazydisk, nginx, images, tmp):
    password = os.path.join(tmp, "password")
    with open(password, "w", encoding="ascii") as f:
        f.write("wrong")
    line = refused(lazydisk, "--user", "reader", "--password-file", password,
                   nginx.url(images.raw, "basic"), lazydisk.point(), code=3)
    assert "password" in line.lower() or "401" in line


def test_an_unknown_authority_is_told(lazydisk, nginx, images):
    line = refused(lazydisk, nginx.url(images.raw, "https"), lazydisk.point(), code=3)
    assert "certificate" in line and "--cacert" in line


# images

UNUSABLE = {
    "version 1": (b"QFI\xfb\0\0\0\1" + bytes(65536), "version"),
    "cut header": (b"QFI\xfb\0\0\0\3", ""),
    "huge clusters": (b"QFI\xfb\0\0\0\3" + bytes(12) + b"\0\0\0\x1f" + bytes(65536), "cluster"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_image_that_cannot_be_used_is_told(lazydisk, bad, name):
    content, says = UNUSABLE[name]
    line = refused(lazydisk, bad.file("/image.qcow2", content), lazydisk.point(), code=4)
    assert says in line


def test_a_page_of_html_is_no_image(lazydisk, bad):
    page = b"<!DOCTYPE html>\n<html><head><title>Log in</title></head><body></body></html>\n"
    url = bad.file("/disk.img", page, faults=[faults.header("Content-Type", "text/html")])
    line = refused(lazydisk, url, lazydisk.point(), code=4)
    assert "web page" in line


def test_a_backing_file_is_refused_by_name(lazydisk, bad, tmp):
    path = os.path.join(tmp, "overlay.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", "/etc/shadow", "-F", "raw",
                    path, "8M"], check=True)
    with open(path, "rb") as f:
        url = bad.file("/overlay.qcow2", f.read())
    line = refused(lazydisk, url, lazydisk.point(), code=4)
    assert "backing" in line


def test_a_format_that_is_not_there_is_told(lazydisk, bad):
    url = bad.file("/disk.img", DATA)
    line = refused(lazydisk, "--format", "qcow2", url, lazydisk.point(), code=4)
    assert "qcow2" in line


# mountpoints and devices

def test_a_missing_mountpoint_is_told(lazydisk, bad, tmp):
    line = refused(lazydisk, bad.file("/disk.img", DATA), tmp + "/nowhere", code=5)
    assert tmp + "/nowhere" in line


def test_a_file_is_no_mountpoint(lazydisk, bad, tmp):
    path = os.path.join(tmp, "file")
    with open(path, "wb"):
        pass
    line = refused(lazydisk, bad.file("/disk.img", DATA), path, code=5)
    assert path in line


def test_a_busy_mountpoint_is_told(lazydisk, bad):
    url = bad.file("/disk.img", DATA)
    with lazydisk.mounted(url) as mount:
        line = refused(lazydisk, url, mount.point, code=5)
        assert mount.point in line
        assert_bytes(pread(mount.image(), len(DATA), 0), DATA)


# How a container comes to have no /dev/fuse: nobody made it, or something else hides it.
DEVICELESS = {
    "missing": """
mount -t tmpfs none /dev
mknod -m 666 /dev/null c 1 3
mknod -m 666 /dev/urandom c 1 9
""",
    "masked": "mount --bind /dev/null /dev/fuse",
}


@pytest.mark.parametrize("how", DEVICELESS)
def test_a_missing_fuse_device_is_told(lazydisk, bad, how):
    """In a mount namespace of our own, whose /dev has no fuse."""
    point = lazydisk.point()
    script = f"""
set -e
mount --make-rprivate /
{DEVICELESS[how]}
exec "$BINARY" mount "$URL" "$POINT"
"""
    begun = time.monotonic()
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False,
        timeout=30, stdin=subprocess.DEVNULL, env={
            **lazydisk.env, "BINARY": BINARY, "URL": bad.file("/disk.img", DATA), "POINT": point})
    assert time.monotonic() - begun < 5 * slowness()
    assert done.returncode == 5, done.stderr
    assert "--device /dev/fuse" in one_line(done.stderr)


def test_the_mount_of_another_user_is_not_unmounted(lazydisk, bad, tmp):
    os.chmod(tmp, 0o755)
    with lazydisk.mounted(bad.file("/disk.img", DATA)) as mount:
        done = subprocess.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", BINARY, "umount",
             mount.point], capture_output=True, text=True, check=False, timeout=30,
            stdin=subprocess.DEVNULL, env={**lazydisk.env, "HOME": "/nonexistent"})
        assert done.returncode == 5
        assert f"{mount.point} is not yours" in one_line(done.stderr)
        assert_bytes(pread(mount.image(), len(DATA), 0), DATA)


# usage

def test_no_verb_at_all_shows_the_verbs(lazydisk):
    done = lazydisk.run()
    assert done.returncode == 2
    for verb in ("mount", "umount", "info", "map", "status", "cache"):
        assert f"  {verb} " in done.stderr


def test_a_format_that_nobody_knows_is_wrong_usage(lazydisk, bad):
    line = refused(lazydisk, "--format", "floppy", bad.file("/disk.img", DATA), lazydisk.point(),
                   code=2)
    assert "floppy" in line and "qcow2" in line


@pytest.mark.parametrize("args", [
    ["mount"], ["mount", "x"], ["nonsense"], ["mount", "--nonsense", "a", "b"], ["info"],
    ["map"], ["umount"], ["status"], ["cache"], ["cache", "nonsense"], ["cache", "drop"],
    ["cache", "prune"], ["cache", "prune", "--max-size", "much"], ["info", "a", "b"],
    ["mount", "--cache-size", "-1", "a", "b"], ["mount", "--timeout", "soon", "a", "b"],
    ["mount", "--timeout", "0x", "a", "b"], ["mount", "--connections", "0", "a", "b"],
    ["mount", "--retry", "perhaps", "a", "b"], ["mount", "--log-format", "xml", "a", "b"],
    ["mount", "--cacert"], ["mount", "--foreground=x"],
], ids=" ".join)
def test_wrong_usage_is_exit_code_2(lazydisk, args):
    done = lazydisk.run(*args)
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert done.stdout == ""
    assert done.stderr.startswith(("lazydisk", "usage", "Usage"))
    assert len(done.stderr.splitlines()) <= 3


@pytest.mark.parametrize("args", [["--help"], ["mount", "--help"], ["cache", "--help"],
                                  ["info", "--help"], ["--version"]], ids=" ".join)
def test_help_goes_to_stdout(lazydisk, args):
    done = lazydisk.run(*args)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "lazydisk" in done.stdout


def test_help_can_be_piped_to_nowhere(lazydisk):
    done = subprocess.run(["sh", "-c", f"{BINARY} --help | head -c 1 >/dev/null"],
                          capture_output=True, text=True, check=False, env=lazydisk.env, timeout=20)
    assert done.stderr == ""


def test_two_images_of_one_name_are_told(lazydisk, bad):
    urls = [bad.file(f"/{n}/disk.img", DATA) for n in (1, 2)]
    done = lazydisk.run("mount", *urls, lazydisk.point("two"))
    assert done.returncode in (1, 2)
    assert "disk" in one_line(done.stderr)


def test_errors_may_be_json(lazydisk, nginx):
    done = lazydisk.run("mount", "--log-format", "json", nginx.url("missing.img"),
                        lazydisk.point())
    assert done.returncode == 3
    told = json.loads(one_line(done.stderr))
    assert told["level"] == "error"
    assert "missing.img" in told["msg"]


def test_a_failed_mount_leaves_nothing_behind(lazydisk, nginx):
    point = lazydisk.point()
    refused(lazydisk, nginx.url("missing.img"), point, code=3)
    assert os.listdir(point) == []
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        assert point not in f.read()
