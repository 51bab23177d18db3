# SPDX-License-Identifier: Apache-2.0
"""Runs the real lazydisk command, and keeps its mounts and daemons from outliving a test."""

import contextlib
import functools
import glob
import json
import os
import signal
import subprocess
import threading

from util import mounts_at, wait_for

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("LAZYDISK_BUILD", os.path.join(ROOT, "build"))
BINARY = os.path.join(BUILD, "tools", "lazydisk")

NO_CACHE = object()
PROXIES = [v + "_proxy" for v in ("http", "https", "all", "no")]


def sanitized():
    """Whether the binary under test was built with a sanitizer: it is slow and large then."""
    with open(BINARY, "rb") as f:
        content = f.read()
    return b"__asan_init" in content or b"__tsan_init" in content


@functools.cache
def slowness():
    """By how much every time limit grows."""
    given = os.environ.get("LAZYDISK_SLOWNESS")
    return float(given) if given else 5 if sanitized() else 1


def running(pid):
    """Whether process @pid exists and is no zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def kill(pid, sig=signal.SIGKILL):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, sig)


class Mount:
    """One mounted filesystem and the daemon that serves it."""

    def __init__(self, owner, point, process=None, stderr=None):
        self.owner = owner
        self.point = point
        self.process = process  # of --foreground; in the background init adopts the daemon
        self.stderr_path = stderr
        self.pid = process.pid if process else None

    def path(self, name):
        return os.path.join(self.point, name)

    def images(self):
        return sorted(os.listdir(self.point))

    def image(self):
        """The path of the only image."""
        names = self.images()
        assert len(names) == 1, names
        return self.path(names[0])

    def status(self):
        with open(self.path(".lazydisk/status"), encoding="utf-8") as f:
            return json.load(f)

    def layer(self, name, image=0):
        """What the layer @name of an image reports."""
        layers = self.status()["images"][image]["layers"]
        found = [layer for layer in layers if layer["name"] == name]
        assert found, f"no layer {name} in {layers}"
        return found[0]

    def stderr(self):
        with open(self.stderr_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def alive(self):
        return running(self.pid)

    def wait_end(self, seconds=30):
        """Waits until the daemon has ended; its exit code, None for one in the background."""
        if self.process:
            return self.process.wait(seconds * slowness())
        wait_for(lambda: not self.alive(), seconds * slowness(), f"the end of daemon {self.pid}")
        return None

    def signal(self, sig):
        kill(self.pid, sig)

    def umount(self):
        """Through `lazydisk umount`, which returns when the daemon has ended."""
        done = self.owner.run("umount", self.point, timeout=90)  # the cache is made durable
        assert done.returncode == 0, done.stderr
        code = self.wait_end()
        assert code in (0, None), f"the daemon exited {code}: {self.stderr()}"
        assert not mounts_at(self.point)

    def crash(self):
        """kill -9, and the dead mount is taken away."""
        kill(self.pid)
        self.wait_end()
        if mounts_at(self.point):
            subprocess.run(["umount", "-l", self.point], capture_output=True, check=True)

    def destroy(self):
        """Whatever state it is in: no daemon and no mount afterwards."""
        if self.pid and self.alive():
            kill(self.pid, signal.SIGTERM)
            with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
                self.wait_end(5)
        if self.pid and self.alive():
            kill(self.pid)
        if self.process:
            self.process.wait(10)
        while mounts_at(self.point):
            subprocess.run(["umount", "-l", self.point], capture_output=True, check=True)


class Lazydisk:
    """The command, with a cache directory and an environment of its own."""

    def __init__(self, directory):
        self.directory = str(directory)
        self.cache = os.path.join(self.directory, "cache")
        self.mounts = []
        self.count = 0
        self.lock = threading.Lock()
        self.env = {k: v for k, v in os.environ.items() if k.lower() not in PROXIES}
        self.env.pop("XDG_CACHE_HOME", None)
        self.env["LAZYDISK_CACHE_DIR"] = self.cache
        self.env["HOME"] = self.directory
        self.sanitizer_log = os.path.join(self.directory, "sanitizer")
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS"):
            given = self.env.get(name, "")
            self.env[name] = f"{given}:log_path={self.sanitizer_log}".lstrip(":")

    def run(self, *args, timeout=40, env=None, stdin=subprocess.DEVNULL, **kwargs):
        """Runs to the end; the result holds returncode, stdout and stderr as text."""
        return subprocess.run(
            [BINARY, *map(str, args)], capture_output=True, text=True, stdin=stdin, check=False,
            timeout=timeout * slowness(), env={**self.env, **(env or {})}, **kwargs)

    def ok(self, *args, **kwargs):
        """As run(), and it must succeed; its stdout."""
        done = self.run(*args, **kwargs)
        assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr}"
        return done.stdout

    def point(self, name=None):
        """A new empty directory to mount on."""
        with self.lock:
            self.count += 1
            path = os.path.join(self.directory, name or f"mnt{self.count}")
        os.mkdir(path)
        return path

    def start(self, *args, point=None, env=None, preexec=None, wait=30):
        """Mounts in the foreground: the daemon is our child, its stderr is kept."""
        point = point or self.point()
        errors = os.path.join(self.directory, f"stderr{self.count}")
        with open(errors, "wb") as stderr:
            process = subprocess.Popen(  # pylint: disable=consider-using-with
                [BINARY, "mount", "--foreground", *map(str, args), point], stderr=stderr,
                stdin=subprocess.DEVNULL, env={**self.env, **(env or {})}, preexec_fn=preexec)
        mount = Mount(self, point, process, errors)
        self.mounts.append(mount)
        wait_for(lambda: process.poll() is not None or self.ready(point), wait * slowness(),
                 f"the mount at {point}")
        assert process.poll() is None, f"exit code {process.returncode}: {mount.stderr()}"
        return mount

    @staticmethod
    def ready(point):
        return mounts_at(point) and os.path.exists(os.path.join(point, ".lazydisk/status"))

    def background(self, *args, point=None, env=None, timeout=40):
        """Mounts as users do; returns once the command did."""
        point = point or self.point()
        done = self.run("mount", *args, point, env=env, timeout=timeout)
        mount = self.adopt(point)
        assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr}"
        return mount

    def adopt(self, point):
        """The mount that a command has made at @point, now ours to end."""
        mount = Mount(self, point)
        self.mounts.append(mount)
        if mounts_at(point):
            mount.pid = mount.status()["pid"]
        return mount

    @contextlib.contextmanager
    def mounted(self, *args, **kwargs):
        mount = self.start(*args, **kwargs)
        try:
            yield mount
        except BaseException:
            mount.destroy()
            raise
        mount.umount()

    def panic(self):
        """Ends every daemon at once, so that a read that hangs in one comes back with an error."""
        for mount in self.mounts:
            if mount.pid:
                kill(mount.pid)

    def sanitizer_reports(self):
        found = []
        for path in glob.glob(self.sanitizer_log + ".*"):
            with open(path, encoding="utf-8", errors="replace") as f:
                found.append(f.read())
        for mount in self.mounts:
            if mount.stderr_path and b"Sanitizer" in open(mount.stderr_path, "rb").read():
                found.append(mount.stderr())
        return found

    def _adopt_strays(self):
        """Mounts that came up where none was expected: the test has failed, the daemon must go."""
        known = [mount.point for mount in self.mounts]
        for name in os.listdir(self.directory):
            point = os.path.join(self.directory, name)
            if point not in known and any("fuse" in kind for kind in mounts_at(point)):
                self.adopt(point)

    def close(self):
        self._adopt_strays()
        for mount in self.mounts:
            mount.destroy()
        reports = self.sanitizer_reports()
        assert not reports, "\n".join(reports)
