# SPDX-License-Identifier: Apache-2.0
"""The Debian guest that make_guest.sh builds, and a way to boot it without KVM.

Shared by tests/integration/test_boot.py and tests/bench/bench.py.
"""

import os
import pathlib
import select
import subprocess
import tempfile
import time

MARKER = b"LAZYDISK-GUEST-UP"
HERE = pathlib.Path(__file__).resolve().parent


class BootFailed(Exception):
    """The guest ended, or time was up, before it had said that it is up."""


def build(directory=None):
    """Builds the guest when it is not there yet; returns its directory."""
    if directory is None:
        directory = os.environ.get("LAZYDISK_GUEST_DIR") or HERE.parent.parent / "build" / "guest"
    directory = pathlib.Path(directory)
    done = subprocess.run(
        [HERE / "make_guest.sh", directory],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the guest cannot be built:\n{done.stdout}")
    return directory


def boot(guest, drive, timeout, writes=False):
    """Boots @guest with `-drive` options @drive and returns the seconds until it is up.

    The machine is the same for every drive; its kernel does not test timers, which a busy host fails
    (no_timer_check). Two processors, because emulation then uses two host threads and boots in 0.6
    of the time. What the guest writes goes to a temporary file (snapshot=on), so that any drive may
    be read-only; unless it @writes: then it must also have switched itself off in time.
    """
    with tempfile.TemporaryDirectory(prefix="lazydisk-boot-", dir="/var/tmp") as tmp:
        begin = time.monotonic()
        qemu = subprocess.Popen(
            ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-smp", "2", "-m", "1024"]
            + ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
            + ["-serial", "stdio", "-monitor", "none"]
            + ["-kernel", guest / "vmlinuz", "-initrd", guest / "initrd.img"]
            + ["-append", "root=/dev/vda1 ro console=ttyS0 no_timer_check"]
            + ["-drive", f"if=virtio,snapshot={'off' if writes else 'on'},{drive}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(os.environ, TMPDIR=tmp),
        )
        try:
            took = _wait_for_marker(qemu, begin, timeout)
            # It switches itself off. Until then it reads, and what it read the next boot may need.
            _wait_for_end(qemu, timeout if writes else 20)
            if writes and qemu.wait(20) != 0:
                raise BootFailed(f"qemu failed (exit {qemu.returncode})")
            return took
        finally:
            if qemu.poll() is None:
                qemu.kill()
            qemu.wait()
            qemu.stdout.close()


def _wait_for_marker(qemu, begin, timeout):
    console = b""
    while True:
        left = begin + timeout - time.monotonic()
        if left <= 0:
            raise BootFailed(f"not up after {timeout} s:\n{_tail(console)}")
        if not select.select([qemu.stdout], [], [], left)[0]:
            continue
        piece = os.read(qemu.stdout.fileno(), 65536)
        if not piece:
            raise BootFailed(f"qemu ended (exit {qemu.wait()}):\n{_tail(console)}")
        console += piece
        if MARKER in console:
            return time.monotonic() - begin


def _wait_for_end(qemu, timeout):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if select.select([qemu.stdout], [], [], 0.5)[0]:
            if not os.read(qemu.stdout.fileno(), 65536):
                return


def _tail(console):
    return console[-4000:].decode(errors="replace")
