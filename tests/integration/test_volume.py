# SPDX-License-Identifier: Apache-2.0
"""`lazydisk volume`: files, loop devices and manifests, and that nothing of them is left behind."""

import contextlib
import json
import os
import subprocess

import pytest

import command

from util import MIB, one_line, pread, run

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/dev/loop-control"),
    reason="loop devices need root and /dev/loop-control")

SIZE = 24 * MIB

MANIFEST = """\
kind: PersistentVolume
apiVersion: v1
metadata:
  name: "{name}"
spec:
  local:
    path: {device}
  capacity:
    storage: 24Mi
  volumeMode: Block
  storageClassName: "{storage_class}"
  accessModes:
    - ReadWriteOnce
  persistentVolumeReclaimPolicy: Delete
  nodeAffinity:
    required:
      nodeSelectorTerms:
      - matchExpressions:
        - key: kubernetes.io/hostname
          operator: In
          values:
          - "{node}"
"""


def devices_of(path):
    return run("losetup", "--noheadings", "--output", "NAME", "--associated", path).split()


class Volumes:
    """The verb, with a directory of its own."""

    def __init__(self, lazydisk):
        self.lazydisk = lazydisk
        self.directory = os.path.join(lazydisk.directory, "volumes")
        self.env = {"LAZYDISK_VOLUME_DIR": self.directory}

    def run(self, *args):
        return self.lazydisk.run("volume", *args, env=self.env)

    def ok(self, *args):
        done = self.run(*args)
        assert done.returncode == 0 and not done.stderr, done
        return done.stdout

    def refused(self, *args, code=5, says):
        done = self.run(*args)
        assert done.returncode == code and not done.stdout, done
        assert says in one_line(done.stderr)

    def list(self):
        return {v["name"]: v for v in json.loads(self.ok("list", "--json"))}

    def create(self, name, *args):
        self.ok("create", "--name", name, "--size", "24Mi", *args)
        return self.list()[name]


@pytest.fixture(name="volumes")
def fixture_volumes(lazydisk):
    volumes = Volumes(lazydisk)
    yield volumes
    for where, _, files in os.walk(lazydisk.directory):
        for name in files:
            if name.endswith(".img"):
                for device in devices_of(os.path.join(where, name)):
                    run("losetup", "--detach", device)


def test_a_volume_is_made_shown_and_deleted(volumes):
    manifest = volumes.ok("create", "--size", "24Mi", "--name", "disk", "--node", "node01")
    volume = volumes.list()["disk"]
    assert manifest == MANIFEST.format(
        name="disk", device=volume["device"], storage_class="local", node="node01")
    assert volume == {"name": "disk", "state": "ready", "size": SIZE, "device": volume["device"],
                      "file": os.path.join(volumes.directory, "disk.img"),
                      "storage_class": "local", "node": "node01"}
    st = os.stat(volume["file"])
    assert (st.st_size, st.st_mode & 0o777) == (SIZE, 0o600)
    assert st.st_blocks * 512 >= SIZE
    assert run("blockdev", "--getsize64", "--getss", volume["device"]).split() == [str(SIZE), "512"]
    with open(volume["device"], "r+b", buffering=0) as f:
        f.write(b"x" * 4096)
        os.fsync(f.fileno())
    assert pread(volume["file"], 4097, 0) == b"x" * 4096 + b"\0"
    rows = volumes.ok("list").splitlines()
    assert [row.split()[0] for row in rows] == ["NAME", "disk"]
    assert volumes.ok("delete", "disk") == ""
    assert volumes.list() == {} and volumes.ok("list") == ""
    assert os.listdir(volumes.directory) == []
    assert not os.path.exists(f"/sys/block/{os.path.basename(volume['device'])}/loop/backing_file")


def test_direct_io_is_used(volumes):
    volume = volumes.create("disk")
    direct = run("losetup", "--noheadings", "--output", "DIO", volume["device"]).strip()
    assert direct == "1"


def test_file_and_class_are_where_they_are_asked_for(volumes):
    path = os.path.join(volumes.lazydisk.directory, "mine.img")
    manifest = volumes.ok("create", "--size", "24Mi", "--name", "disk", "--node", "n.example",
                          "--file", path, "--storage-class", "fast")
    volume = volumes.list()["disk"]
    assert volume["file"] == path and devices_of(path) == [volume["device"]]
    assert manifest == MANIFEST.format(
        name="disk", device=volume["device"], storage_class="fast", node="n.example")
    volumes.ok("delete", "disk")
    assert not os.path.exists(path)


def free_number():
    taken = {int(name[4:]) for name in os.listdir("/sys/block") if name.startswith("loop")}
    return next(n for n in range(60, 600) if n not in taken)


def test_a_volume_called_like_a_device_gets_it(volumes):
    name = f"loop{free_number()}"
    assert volumes.create(name)["device"] == f"/dev/{name}"
    volumes.ok("delete", name)


def test_what_was_detached_is_attached_again_with_its_bytes(volumes):
    volume = volumes.create("disk")
    with open(volume["device"], "r+b", buffering=0) as f:
        f.write(b"kept" * 1024)
    run("losetup", "--detach", volume["device"])
    assert volumes.list()["disk"]["state"] == "detached"
    assert volumes.list()["disk"]["device"] is None
    first = volumes.ok("create", "--name", "disk", "--size", "24Mi")
    assert volumes.list()["disk"]["device"] == volume["device"]
    assert pread(volume["device"], 4096, 0) == b"kept" * 1024
    assert volumes.ok("create", "--name", "disk", "--size", "24Mi") == first
    run("losetup", "--detach", volume["device"])
    volumes.ok("delete", "disk")
    assert os.listdir(volumes.directory) == []


def test_an_interrupted_creation_is_finished(volumes):
    volume = volumes.create("disk")
    run("losetup", "--detach", volume["device"])
    os.truncate(volume["file"], 0)
    volumes.create("disk")
    assert os.stat(volume["file"]).st_blocks * 512 >= SIZE


def test_another_volume_of_that_name_is_refused(volumes):
    volumes.create("disk", "--node", "node01")
    again = ["create", "--name", "disk", "--size"]
    volumes.refused(*again, "48Mi", says="volume disk exists already, with size 24Mi")
    volumes.refused(*again, "24Mi", "--node", "b", says="exists already, with node node01")
    volumes.refused(*again, "24Mi", "--file", "/x", says="exists already, with file")
    assert volumes.list()["disk"]["state"] == "ready"


def test_a_file_that_exists_is_left_alone(volumes, tmp):
    path = os.path.join(tmp, "precious")
    with open(path, "w", encoding="ascii") as f:
        f.write("precious")
    volumes.refused("create", "--name", "disk", "--size", "24Mi", "--file", path,
                    says="precious: File exists")
    assert open(path, encoding="ascii").read() == "precious"
    assert volumes.list() == {}


def test_a_volume_in_use_stays(volumes, tmp):
    volume = volumes.create("disk")
    run("mkfs.ext4", "-q", volume["device"])
    point = os.path.join(tmp, "point")
    os.mkdir(point)
    run("mount", volume["device"], point)
    try:
        assert volumes.list()["disk"]["state"] == "in use"
        volumes.refused("delete", "disk", says="is in use")
        with open(os.path.join(point, "file"), "wb") as f:
            f.write(b"still here")
        os.sync()
    finally:
        run("umount", point)
    with open(volume["device"], "rb"):
        volumes.refused("delete", "disk", says="is in use")
    assert volumes.list()["disk"]["device"] == volume["device"]
    volumes.ok("delete", "disk")


def test_a_volume_that_lost_its_file_can_be_deleted(volumes):
    volume = volumes.create("disk")
    run("losetup", "--detach", volume["device"])
    os.unlink(volume["file"])
    assert volumes.list()["disk"]["state"] == "lost"
    volumes.refused("create", "--name", "disk", "--size", "24Mi", says="has lost its file")
    volumes.ok("delete", "disk")
    assert volumes.list() == {}


def test_no_space_leaves_nothing_behind(volumes, tmp):
    point = os.path.join(tmp, "small")
    os.mkdir(point)
    run("mount", "-t", "tmpfs", "-o", "size=2M", "none", point)
    try:
        path = os.path.join(point, "file.img")
        volumes.refused("create", "--name", "disk", "--size", "24Mi", "--file", path,
                        says="cannot allocate 24Mi")
        assert os.listdir(point) == [] and volumes.list() == {}
    finally:
        run("umount", point)


def test_usage(volumes):
    create = ["create", "--size", "24Mi", "--name"]
    volumes.refused("create", "--size", "24Mi", code=2, says="needs one --name and a --size")
    volumes.refused("create", "--name", "a", code=2, says="needs one --name and a --size")
    volumes.refused(*create, "../a", code=2, says="'../a' cannot be the name of a volume")
    volumes.refused(*create, "Disk", code=2, says="'Disk' cannot be the name")
    volumes.refused(*create, "a", "--node", "a\nb", code=2, says="--node")
    volumes.refused(*create, "a", "--storage-class", "A", code=2, says="--storage-class")
    volumes.refused("create", "--name", "a", "--size", "1", code=2, says="1Mi at least")
    volumes.refused("create", "--name", "a", "--size", "-1", code=2, says="negative")
    volumes.refused("list", "--size", "1Gi", code=2, says="for volume create only")
    volumes.refused("delete", code=2, says="usage: lazydisk volume delete NAME")
    volumes.refused("format", code=2, says="none of create, list, delete")
    volumes.refused("delete", "nothing", says="no volume")
    assert not os.path.exists(volumes.directory)


def test_two_at_once_make_one_volume(volumes):
    with contextlib.ExitStack() as stack:
        several = [stack.enter_context(subprocess.Popen(
            [command.BINARY, "volume", "create", "--name", "disk",
             "--size", "24Mi"], env={**volumes.lazydisk.env, **volumes.env},
            stdout=subprocess.PIPE, text=True)) for _ in range(4)]
        outputs = {process.communicate(timeout=60)[0] for process in several}
    assert len(outputs) == 1 and {process.returncode for process in several} == {0}
    assert devices_of(volumes.list()["disk"]["file"]) == [volumes.list()["disk"]["device"]]
