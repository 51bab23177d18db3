# SPDX-License-Identifier: Apache-2.0
"""The command line: what it prints, in which words, and how it ends."""

import json
import os
import pty
import signal
import subprocess
import termios
import time

import pytest

import command
import faults
from images import VARIANTS
from nginx import PASSWORD, USER
from util import MIB, assert_same, mounts_at, one_line, run, wait_for


def fails(lazydisk, code, *args, **kwargs):
    """Exit code @code, nothing on stdout; the one line that says why."""
    done = lazydisk.run(*args, **kwargs)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    line = one_line(done.stderr)
    assert line.startswith("lazydisk: error: ")
    return line


# map and info

def without_holes(path, directory):
    """A copy that is all data: where the file itself has a hole, we know more zeros than qemu-img."""
    copy = os.path.join(directory, os.path.basename(path))
    run("cp", "--sparse=never", path, copy)
    return copy


@pytest.mark.parametrize("variant", ["raw", *VARIANTS])
def test_map_in_json_is_what_qemu_img_prints_byte_for_byte(lazydisk, images, tmp, variant):
    source = without_holes(images.variant(variant), tmp) if variant != "raw" else images.raw
    assert lazydisk.ok("map", "--json", source) == run("qemu-img", "map", "--output=json", source)


def test_map_of_a_chain_tells_the_depth(lazydisk, tmp):
    base, middle, top = (os.path.join(tmp, name) for name in ("base.raw", "middle.qcow2", "t.qcow2"))
    with open(base, "wb") as f:
        f.truncate(4 * MIB)
        f.write(b"base" * 50000)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", middle)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "middle.qcow2", "-F", "qcow2", top, "6M")
    run("qemu-io", "-c", "write -P 1 64k 64k", middle)
    run("qemu-io", "-c", "write -P 2 3M 128k", "-c", "write -z 0 64k", top)
    line = fails(lazydisk, 4, "map", top)
    assert "backing" in line and "--allow-backing" in line
    told = lazydisk.ok("map", "--json", "--allow-backing", top)
    assert told == run("qemu-img", "map", "--output=json", top)
    with lazydisk.mounted("--allow-backing", top) as mount:
        run("qemu-img", "convert", "-O", "raw", top, base + ".expected")
        assert_same(mount.image(), base + ".expected")


@pytest.mark.parametrize("name", ["/etc/hostname", "../base.raw", "json:{\"driver\":\"file\"}",
                                  "file:/etc/hostname", "http://127.0.0.1:1/x", "nbd://h/x"])
def test_backing_files_elsewhere_are_refused_always(lazydisk, tmp, name):
    top = os.path.join(tmp, "top.qcow2")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", name, "-F", "raw", top, "1M")
    line = fails(lazydisk, 4, "info", "--allow-backing", top)
    assert "backing" in line


def test_map_for_people_lists_the_data(lazydisk, images, tmp):
    source = without_holes(images.variant("plain"), tmp)
    lines = lazydisk.ok("map", source).splitlines()
    assert lines[0].split() == ["Offset", "Length", "Mapped", "to", "Depth"]
    theirs = run("qemu-img", "map", source).splitlines()[1:]
    assert [x.split()[:3] for x in lines[1:]] == [x.split()[:3] for x in theirs]
    assert "compressed" in lazydisk.ok("map", images.variant("zlib"))


def test_info_of_a_local_file_names_its_layers(lazydisk, images):
    source = images.variant("zlib")
    told = json.loads(lazydisk.ok("info", "--json", source))
    assert told["name"] == "sample-zlib.raw"
    assert told["source"] == source
    assert told["size"] == os.stat(images.raw).st_size
    assert 0 < told["allocated_bytes"] < told["size"]
    assert [layer["name"] for layer in told["layers"]] == ["qcow2", "file"]
    assert told["layers"][0]["cluster_size"] == 65536
    assert told["layers"][1]["size"] == os.stat(source).st_size
    text = lazydisk.ok("info", source)
    assert "48 MiB (50331648 bytes)" in text
    assert "compression    zlib" in text


@pytest.mark.parametrize("args", [("info",), ("info", "--json"), ("map",), ("map", "--json")])
def test_output_that_cannot_be_written_is_an_error(lazydisk, images, args):
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run([command.BINARY, *args, images.raw], stdout=full, text=True,
                              stderr=subprocess.PIPE, check=False, timeout=20, env=lazydisk.env)
    assert done.returncode == 1
    assert "No space left" in one_line(done.stderr)


def test_a_reader_of_the_output_may_go_away(lazydisk, images):
    done = subprocess.run(["sh", "-c", '"$0" map --json "$1" | head -c 1 >/dev/null; true',
                           command.BINARY, images.variant("cluster-512")], capture_output=True,
                          text=True, check=False, timeout=20, env=lazydisk.env)
    assert done.stderr == ""


@pytest.mark.parametrize("url, says", [
    ("http://user:secret@host:99999/x.img", "Port number"), ("https://", "No host"),
    ("http://[::1/x.img", "IPv6")])
@pytest.mark.parametrize("verb", ["mount", "copy"])
def test_what_is_wrong_with_a_url_is_told(lazydisk, tmp, verb, url, says):
    line = fails(lazydisk, 2, verb, url, tmp)
    assert says in line and "secret" not in line


# mounts

def test_status_and_umount_of_what_is_no_mount_say_so(lazydisk, tmp):
    assert "not a lazydisk mount" in fails(lazydisk, 5, "status", tmp)
    line = fails(lazydisk, 5, "status", tmp + "/no")
    assert "no such directory" in line and "create" not in line
    assert tmp in fails(lazydisk, 5, "umount", tmp)
    fails(lazydisk, 5, "umount", tmp + "/no")
    assert "/proc" in fails(lazydisk, 5, "umount", "/proc")


def test_a_mount_whose_daemon_died_is_told_and_freed(lazydisk, images):
    mount = lazydisk.start(images.raw)
    mount.signal(signal.SIGKILL)
    mount.wait_end()
    for args in (("status", mount.point), ("mount", images.raw, mount.point)):
        assert "lazydisk umount" in fails(lazydisk, 5, *args)
    lazydisk.ok("umount", mount.point)
    assert not mounts_at(mount.point)


def test_sources_of_one_name_are_refused_and_can_be_named(lazydisk, images):
    point = lazydisk.point()
    args = [images.variant("plain"), images.variant("plain")]
    line = fails(lazydisk, 2, "mount", *args, point)
    assert "sample-plain.raw" in line and "--name" in line
    with lazydisk.mounted("--name", "a", "--name", "b.raw", *args) as mount:
        assert mount.images() == ["a.raw", "b.raw"]
        assert_same(mount.path("b.raw"), images.raw)
    for name in ("", "..", "a/b"):
        assert "--name" in fails(lazydisk, 2, "mount", "--name", name, images.raw, point)


def test_a_local_file_needs_no_cache(lazydisk, images):
    with lazydisk.mounted(images.variant("plain")) as mount:
        assert_same(mount.image(), images.raw)
        assert "local file" in lazydisk.ok("status", mount.point)
    assert not os.path.exists(lazydisk.cache)


def test_a_mountpoint_is_checked_before_the_server_is_asked(lazydisk, bad, tmp):
    url = bad.file("/disk.img", b"x" * MIB)
    fails(lazydisk, 5, "mount", url, tmp + "/no")
    fails(lazydisk, 2, "mount", "--name", "a", "--name", "b", url, lazydisk.point())
    assert not bad.requests()


def test_a_mount_starts_without_any_standard_files(lazydisk, bad):
    """What is opened first would get their numbers, and be closed with them."""
    data = b"words of a disk " * (MIB // 16)
    url = bad.file("/disk.img", data)
    point = lazydisk.point()
    mount = command.Mount(lazydisk, point)
    lazydisk.mounts.append(mount)
    done = subprocess.run(["sh", "-c", 'exec "$0" mount "$1" "$2" <&- >&- 2>&-', command.BINARY, url,
                           point], check=False, timeout=20, env=lazydisk.env)
    assert done.returncode == 0
    mount.pid = mount.status()["pid"]
    with open(mount.image(), "rb") as f:
        assert f.read() == data
    for fd in ("0", "1", "2"):
        assert os.readlink(f"/proc/{mount.pid}/fd/{fd}") == "/dev/null"
    mount.umount()


def test_without_a_home_the_mount_says_that_nothing_is_kept(lazydisk, bad):
    url = bad.file("/disk.img", b"x" * MIB)
    env = {k: v for k, v in lazydisk.env.items() if k not in ("HOME", "LAZYDISK_CACHE_DIR")}
    done = subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", command.BINARY, "info", url],
                          capture_output=True, text=True, check=False, timeout=20, env=env)
    assert done.returncode == 0
    assert "--cache-dir" in one_line(done.stderr)
    assert "memory" in done.stdout


def test_a_relative_cache_directory_of_the_environment_survives_the_background(
        lazydisk, bad, tmp):
    data = b"words of a disk " * (MIB // 16)
    point = lazydisk.point()
    mount = command.Mount(lazydisk, point)
    lazydisk.mounts.append(mount)
    done = lazydisk.run("mount", bad.file("/disk.img", data), point, cwd=tmp,
                        env={"LAZYDISK_CACHE_DIR": "kept"})
    assert done.returncode == 0, done.stderr
    mount.pid = mount.status()["pid"]
    with open(mount.image(), "rb") as f:
        assert f.read() == data
    mount.umount()
    told = json.loads(lazydisk.ok("cache", "--cache-dir", "kept", "list", "--json", cwd=tmp))
    assert told[0]["present_bytes"] == MIB
    assert os.path.isdir(os.path.join(tmp, "kept"))


def test_the_cache_verb_creates_nothing_and_says_what_is_no_cache(lazydisk, tmp):
    assert lazydisk.ok("cache", "list") == ""
    assert lazydisk.ok("cache", "prune", "--max-size", "0") == "freed 0 B\n"
    assert not os.path.exists(lazydisk.cache)
    for path in (tmp, tmp + "/none"):
        for args in (("list",), ("verify",), ("drop", "http://h/x")):
            assert path in fails(lazydisk, 1, "cache", "--cache-dir", path, *args)
    assert os.listdir(tmp) == []


def test_verify_ends_with_6_when_it_found_damage(lazydisk, bad):
    data = b"words of a disk " * (MIB // 16)
    with lazydisk.mounted(bad.file("/disk.img", data)) as mount:
        with open(mount.image(), "rb") as f:
            assert f.read() == data
    assert "1 image, 1 MiB checked, 0 B damaged" in lazydisk.ok("cache", "verify")
    kept = [os.path.join(where, "data") for where, _, files in os.walk(lazydisk.cache)
            if "data" in files]
    with open(kept[0], "r+b") as f:
        f.write(b"X")
    done = lazydisk.run("cache", "verify")
    assert done.returncode == 6
    assert "64 KiB damaged and dropped" in done.stdout
    assert lazydisk.run("cache", "verify").returncode == 0


def start_opening(lazydisk, bad, *args):
    """`lazydisk mount` that waits for a server which does not answer."""
    url = bad.file("/disk.img", b"x" * MIB, faults=[faults.stall(0, 60)])
    point = lazydisk.point()
    process = subprocess.Popen(  # pylint: disable=consider-using-with
        [command.BINARY, "mount", *args, url, point], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=lazydisk.env)
    wait_for(bad.requests, 30, "the first request")
    return process, point


def daemons_at(point):
    """The processes that have @point in their arguments."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                if point.encode() in f.read() and command.running(int(pid)):
                    found.append(int(pid))
        except OSError:
            pass
    return found


@pytest.mark.limit(60)
def test_a_signal_ends_a_mount_whose_reader_waits_for_a_dead_server(lazydisk, bad):
    stalled = faults.Switch(faults.stall(0, 60))
    url = bad.file("/disk.img", b"x" * 8 * MIB, faults=[stalled])
    mount = lazydisk.start("--retry", "hard", "--readahead", 0, url)
    stalled.on = True
    bad.forget()
    reader = subprocess.Popen(["dd", f"if={mount.image()}", "of=/dev/null", "bs=4k", "count=1",
                               "skip=1500"], stderr=subprocess.PIPE)
    wait_for(bad.requests, 30, "the read to reach the server")
    mount.signal(signal.SIGTERM)
    assert mount.wait_end(3) == 0, mount.stderr()
    assert b"error" in reader.communicate(timeout=30)[1]
    assert reader.returncode == 1
    assert not mounts_at(mount.point)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("args", [(), ("--foreground",)])
def test_a_signal_while_opening_ends_it_at_once(lazydisk, bad, sig, args):
    process, point = start_opening(lazydisk, bad, *args)
    begun = time.monotonic()
    process.send_signal(sig)
    process.communicate(timeout=30)
    assert time.monotonic() - begun < 2 * command.slowness()
    assert process.returncode not in (0, None)
    wait_for(lambda: not daemons_at(point), 2 * command.slowness(), "the daemon to be gone")
    assert not mounts_at(point)


def test_the_helper_checks_with_f_and_refuses_what_it_does_not_know(lazydisk, images, tmp):
    helper = os.path.join(tmp, "mount.fuse.lazydisk")
    os.symlink(command.BINARY, helper)
    point = lazydisk.point()

    def call(*args):
        return subprocess.run([helper, images.raw, point, *args], capture_output=True, text=True,
                              check=False, timeout=20, env=lazydisk.env)

    assert call("-f", "-o", "rw,cache-size=1Gi").returncode == 0
    for options in ("rw,frobnicate", "cache-size", "cache-size=lots", "remount"):
        done = call("-o", options)
        assert done.returncode == 2
        one_line(done.stderr)
    assert not mounts_at(point)


def test_without_the_helper_mount_fuse3_runs_the_command_itself(lazydisk, images):
    point = lazydisk.point()
    mount = command.Mount(lazydisk, point)
    lazydisk.mounts.append(mount)
    lazydisk.ok(images.raw, point, "-o", "rw,dev,suid,name=disk")
    mount.pid = mount.status()["pid"]
    assert mount.images() == ["disk.raw"]
    mount.umount()


# retries

@pytest.mark.parametrize("retries", [0, 2])
def test_retries_are_counted(lazydisk, bad, retries):
    url = bad.file("/disk.img", b"x" * MIB, faults=[faults.status(503)])
    line = fails(lazydisk, 3, "info", "--retry", retries, url)
    assert "503" in line
    assert len(bad.requests()) == retries + 1


# passwords

def ask_on_terminal(lazydisk, url):
    """`lazydisk info` on a terminal of its own that has just turned echo off: pid, terminal, output."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(command.BINARY, [command.BINARY, "info", "--user", USER, url], lazydisk.env)
    seen = b""
    while b"Password for" not in seen:
        seen += os.read(terminal, 1000)
    wait_for(lambda: not termios.tcgetattr(terminal)[3] & termios.ECHO, 30, "the echo to go")
    return pid, terminal, seen


def read_to_end(terminal):
    seen = b""
    try:
        while True:
            seen += os.read(terminal, 1000)
    except OSError:
        return seen


def test_the_password_is_asked_for_on_the_terminal_without_echo(lazydisk, nginx, images):
    url = nginx.url(images.variant("plain"), "basic")
    pid, terminal, seen = ask_on_terminal(lazydisk, url)
    os.write(terminal, PASSWORD.encode() + b"\n")
    seen += read_to_end(terminal)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, seen
    assert PASSWORD.encode() not in seen
    assert b"48 MiB" in seen


def test_an_interrupt_at_the_password_prompt_gives_the_echo_back(lazydisk, nginx, images):
    pid, terminal, _ = ask_on_terminal(lazydisk, nginx.url(images.raw, "basic"))
    os.write(terminal, b"\x03")
    status = os.waitpid(pid, 0)[1]
    assert os.waitstatus_to_exitcode(status) == -signal.SIGINT
    assert termios.tcgetattr(terminal)[3] & termios.ECHO
    os.close(terminal)


def test_without_a_terminal_a_password_file_is_asked_for(lazydisk, nginx, images):
    line = fails(lazydisk, 2, "info", "--user", USER, nginx.url(images.raw, "basic"))
    assert "--password-file" in line


@pytest.mark.parametrize("text", [
    "kind: Secret\napiVersion: v1\nstringData:\n  accessKeyId: {user}\n  secretKey: {password}\n",
    '{{"kind": "Secret", "stringData": {{"username": "{user}", "password": "{password}\\n"}}}}',
])
def test_a_password_comes_from_the_manifest_of_a_secret(lazydisk, nginx, images, tmp, text):
    path = os.path.join(tmp, "secret.yaml")
    with open(path, "w", encoding="utf-8") as f:
        f.write(text.format(user=USER, password=PASSWORD))
    with lazydisk.mounted("--secret", path, nginx.url(images.raw, "basic")) as mount:
        assert_same(mount.image(), images.raw)


def test_files_of_options_that_cannot_be_read_are_told_by_option(lazydisk, images, tmp):
    for option in ("--cacert", "--cert-dir", "--client-cert", "--password-file", "--secret",
                   "--header-file"):
        extra = ["--user", "x"] if option == "--password-file" else []
        line = fails(lazydisk, 2, "info", *extra, option, tmp + "/none", images.raw)
        assert option in line and tmp + "/none" in line
