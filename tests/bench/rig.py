# SPDX-License-Identifier: Apache-2.0
"""What the measurements stand on: a web server, links, the three that are compared, clean-up."""

import contextlib
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("LAZYDISK_BUILD", ROOT / "build"))
LAZYDISK = BUILD / "tools" / "lazydisk"
RELAY = BUILD / "tests" / "bench" / "relay"
READER = BUILD / "tests" / "bench" / "reader"
LEAST = BUILD / "tests" / "bench" / "least"

MIB = 1 << 20
GIB = 1 << 30
GIGABIT = 125_000_000  # bytes a second

NGINX = """
daemon off;
user root;
worker_processes 1;
pid {dir}/pid;
error_log {dir}/error.log warn;
events {{ worker_connections 512; }}
http {{
    log_format bench '$request_method $status $body_bytes_sent $connection $uri $http_range';
    access_log {dir}/access.log bench;
    client_body_temp_path {dir}/body;
    fastcgi_temp_path {dir}/fastcgi;
    proxy_temp_path {dir}/proxy;
    scgi_temp_path {dir}/scgi;
    uwsgi_temp_path {dir}/uwsgi;
    sendfile on;
    keepalive_requests 1000000;
    server {{ listen 127.0.0.1:{port} backlog=512; root {root}; }}
}}
"""


def _range(line):
    """[begin, end) of the file that one line of the log says was sent."""
    asked = line[5].strip().removeprefix("bytes=").split("-")[0]
    begin = int(asked) if asked.isdecimal() else 0
    return begin, begin + int(line[2])


def sent_again(first, second):
    """How many bytes of the ranges @second lie in those of @first."""
    again = 0
    for begin, end in second:
        at = begin
        for a, b in sorted(first):
            if b > at and a < end:
                again += min(b, end) - max(a, at)
                at = max(at, min(b, end))
    return again


class Failed(Exception):
    """A measurement that could not be made; the others still can."""


def wait_for(condition, seconds, what):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Failed(f"waited {seconds} s for {what}")
        time.sleep(0.002)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def answers(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def is_mounted(path):
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        return any(line.split(" ")[4] == str(path) for line in f)


def is_served(path):
    """Whether the peer that mounts over the empty file @path answers."""
    return is_mounted(path) and os.stat(path).st_size > 0


def run(*argv, timeout=300):
    """A program that must succeed; its output as text."""
    argv = [str(a) for a in argv]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=False, timeout=timeout)
    if done.returncode != 0:
        name = f"{os.path.basename(argv[0])} {argv[1]}"
        raise Failed(f"{name} exited {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def drop_caches():
    """Afterwards a read of a file comes from the disk. Says so when that takes root and we are not."""
    os.sync()
    try:
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
            f.write("3")
    except OSError as error:
        raise Failed(f"the kernel's caches cannot be dropped: {error}") from error


class Process:
    """A child that ends with the block it is made in."""

    def __init__(self, name, argv, log, **kwargs):
        self.name = name
        self.log = log
        with open(log, "ab") as err:
            self.child = subprocess.Popen(  # pylint: disable=consider-using-with
                [str(a) for a in argv], stdin=subprocess.DEVNULL, stderr=err, **kwargs)
        self.pid = self.child.pid

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.child.terminate()
        try:
            self.child.wait(20)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        if self.child.stdout:
            self.child.stdout.close()

    def wait_until(self, condition, what, seconds=30):
        def done():
            if self.child.poll() is not None:
                words = pathlib.Path(self.log).read_text(errors="replace").strip()[-300:]
                raise Failed(f"{self.name} exited {self.child.returncode}: {words}")
            return condition()
        wait_for(done, seconds, what)

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mib(self):
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        raise Failed(f"{self.name} has no VmHWM")


class Mounted:
    """A file to read, and the process that serves it."""

    def __init__(self, path, process):
        self.path = path
        self.process = process


class Rig:
    """One directory, one web server; everything in it is gone after the with block."""

    def __init__(self, data, keep_in):
        self.data = pathlib.Path(data)
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="lazydisk-bench-", dir=keep_in))
        self.stack = contextlib.ExitStack()
        self.count = 0
        self.peak = 0.0
        self.access_log = self.dir / "access.log"

    def __enter__(self):
        os.chmod(self.dir, 0o755)
        self.stack.callback(shutil.rmtree, self.dir, ignore_errors=True)
        self.port = free_port()
        conf = self.dir / "nginx.conf"
        conf.write_text(NGINX.format(dir=self.dir, port=self.port, root=self.data))
        nginx = self.stack.enter_context(Process(
            "nginx", ["/usr/sbin/nginx", "-p", self.dir, "-c", conf, "-e", self.dir / "error.log"],
            self.dir / "nginx.log"))
        nginx.wait_until(lambda: answers(self.port), "nginx")
        return self

    def __exit__(self, *exc):
        self.stack.close()

    def new_dir(self, name):
        self.count += 1
        path = self.dir / f"{name}{self.count}"
        path.mkdir()
        return path

    # the link

    @contextlib.contextmanager
    def link(self, rtt_ms, rate):
        """The web server's origin, so far away."""
        argv = [RELAY, "--to", f"127.0.0.1:{self.port}", "--rtt-ms", rtt_ms, "--rate", rate]
        with Process("relay", argv, self.dir / "relay.log", stdout=subprocess.PIPE) as relay:
            yield f"http://127.0.0.1:{int(relay.child.stdout.readline())}"

    def near(self):
        """The web server's origin without a link in between."""
        return f"http://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def traffic(self):
        """Counts what the web server sent in the block: yields a dict that is filled at its end."""
        begin = self.access_log.stat().st_size
        seen = {}
        yield seen
        time.sleep(0.3)  # a request is logged when its last byte is sent, or its client is gone
        with open(self.access_log, encoding="utf-8") as f:
            f.seek(begin)
            lines = [line.split(" ", 5) for line in f]
        seen["requests"] = len(lines)
        seen["bytes"] = sum(int(line[2]) for line in lines)
        seen["ranges"] = [_range(line) for line in lines]
        seen["connections"] = len({line[3] for line in lines})

    # the three

    @contextlib.contextmanager
    def lazydisk(self, url, cache=None, *options):
        """Without @cache, one of its own that goes with the block."""
        with contextlib.ExitStack() as stack:
            if cache is None:
                cache = self.new_dir("cache")
                stack.callback(shutil.rmtree, cache, ignore_errors=True)
            point = self.new_dir("mnt")
            argv = [LAZYDISK, "mount", "--foreground", "--cache-dir", cache, *options,
                    url, point]
            stack.callback(self._unmounted, point)
            daemon = stack.enter_context(Process("lazydisk", argv, self.dir / "lazydisk.log"))
            daemon.wait_until(lambda: is_mounted(point) and list(point.glob("*.raw")), "the mount")
            yield Mounted(next(point.glob("*.raw")), daemon)
            self.peak = max(self.peak, daemon.peak_mib())

    @contextlib.contextmanager
    def qsd(self, url, fmt):
        """qemu-storage-daemon with its http driver, or a local file when @url is a path."""
        point = self._point()
        if str(url).startswith("http"):
            proto = f"driver=http,node-name=proto,url={url},read-only=on"
        else:
            proto = f"driver=file,node-name=proto,filename={url},read-only=on"
        argv = ["qemu-storage-daemon", "--blockdev", proto, "--blockdev",
                f"driver={fmt},node-name=disk,file=proto,read-only=on", "--export",
                f"fuse,id=fuse,node-name=disk,mountpoint={point},writable=off"]
        with contextlib.ExitStack() as stack:
            stack.callback(self._unmounted, point)
            daemon = stack.enter_context(
                Process("qemu-storage-daemon", argv, self.dir / "qsd.log"))
            daemon.wait_until(lambda: is_served(point), "the mount")
            yield Mounted(point, daemon)

    @contextlib.contextmanager
    def nbdkit(self, url):
        """nbdkit's curl plugin, made a file by nbdfuse. Debian's nbdkit reads no qcow2."""
        point = self._point()
        sock = self.dir / f"nbd{self.count}.sock"
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(Process(
                "nbdkit", ["nbdkit", "-f", "-r", "-U", sock, "curl", url], self.dir / "nbd.log"))
            server.wait_until(sock.exists, "nbdkit")
            stack.callback(self._unmounted, point)
            fuse = stack.enter_context(Process(
                "nbdfuse", ["nbdfuse", "-r", point, f"nbd+unix:///?socket={sock}"],
                self.dir / "nbd.log"))
            fuse.wait_until(lambda: is_served(point), "the mount")
            yield Mounted(point, server)

    @contextlib.contextmanager
    def least(self, path, *options):
        """The least FUSE server that shows the file @path; the kernel's readahead as ours."""
        point = self.new_dir("least")
        with contextlib.ExitStack() as stack:
            stack.callback(self._unmounted, point)
            server = stack.enter_context(Process("least", [LEAST, *options, path, point],
                                                 self.dir / "least.log"))
            server.wait_until(lambda: is_mounted(point) and (point / "file").exists(), "the mount")
            number = os.stat(point).st_dev
            with open(f"/sys/class/bdi/{os.major(number)}:{os.minor(number)}/read_ahead_kb", "w",
                      encoding="ascii") as f:
                f.write("1024")
            yield Mounted(point / "file", server)

    def _point(self):
        point = self.new_dir("peer") / "disk.raw"
        point.touch()
        return point

    @staticmethod
    def _unmounted(point):
        while is_mounted(point):
            subprocess.run(["umount", "-l", point], check=True)

    # readers

    def stream(self, path, size, *options):
        """Seconds of each pass over the first @size bytes."""
        out = run(READER, "stream", path, "--bytes", size, *options, timeout=900)
        return [float(line) for line in out.split()]

    def random(self, path, size, count, depth, right, seed=1):
        """(seconds, [microseconds of each]) of reads of 4 KiB."""
        out = run(READER, "random", path, "--bytes", size, "--count", count, "--depth", depth,
                  "--seed", seed, "--compare", right, timeout=900).split()
        return float(out[0]), [float(line) for line in out[1:]]

    @staticmethod
    def heat(size):
        run(READER, "heat", "--bytes", size)


def median(values):
    return statistics.median(values)
