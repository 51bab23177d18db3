#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the Debian guest that the boot test and the benchmark start from a remote image:
#
#   make_guest.sh DIR
#
# leaves DIR/disk.qcow2 (zlib-compressed), DIR/vmlinuz and DIR/initrd.img. The disk has a GPT and
# one ext4 root; kernel and initrd are also given apart, because firmware and boot loader are slow
# under emulation and are not what the test is about. The guest prints LAZYDISK-GUEST-UP on its
# serial console when multi-user.target is reached and then switches itself off. Nothing is built
# when DIR holds a guest made by this very script.
#
# Packages come from the host's own apt sources, by mmdebstrap: as root, or in a user namespace.

set -eu

disk_mib=4096
root_offset=1048576
self=$(readlink -f "$0")
dir=$1
stamp=$(sha256sum "$self" | cut -c 1-32)

mkdir -p "$dir"
dir=$(readlink -f "$dir")
if [ "$(cat "$dir/stamp" 2>/dev/null)" = "$stamp" ]; then
	exit 0
fi

# One builder at a time; who waited finds the work done.
exec 9>"$dir/lock"
flock 9
if [ "$(cat "$dir/stamp" 2>/dev/null)" = "$stamp" ]; then
	exit 0
fi

work=$(mktemp -d "$dir/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
chmod 0777 "$work" # a user namespace's root writes its results here

cat > "$work/customize" <<'HOOK'
#!/bin/sh
# Runs with the guest's root directory as $1 and the directory for results as $2.
set -eu
root=$1
out=$2
size_kib=$3
root_offset=$4

echo lazydisk-guest > "$root/etc/hostname"
echo '/dev/vda1 / ext4 rw,errors=remount-ro 0 1' > "$root/etc/fstab"
# Without it the first boot is "first boot", which generates one and enables presets: slow, and it
# would not be the same work at each boot.
echo 5f0b3a0c1d2e4f60819273645a5b6c7d > "$root/etc/machine-id"

cat > "$root/etc/systemd/system/guest-up.service" <<'UNIT'
[Unit]
Description=Say that multi-user.target is reached, then switch off
After=multi-user.target

[Service]
Type=oneshot
StandardOutput=tty
TTYPath=/dev/ttyS0
ExecStart=/bin/echo LAZYDISK-GUEST-UP
ExecStart=/bin/systemctl poweroff --force --no-block

[Install]
WantedBy=graphical.target
UNIT
mkdir -p "$root/etc/systemd/system/graphical.target.wants"
ln -sf /etc/systemd/system/guest-up.service \
	"$root/etc/systemd/system/graphical.target.wants/guest-up.service"
ln -sf /lib/systemd/system/graphical.target "$root/etc/systemd/system/default.target"

# Timers run whenever they like, also in the middle of a measurement. The login prompt would share
# the serial line with the marker.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
	e2scrub_reap.service fstrim.timer logrotate.timer man-db.timer \
	serial-getty@ttyS0.service; do
	ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

# Only what the guest's disk needs: unpacking the usual initrd takes seconds under emulation.
printf 'MODULES=list\nCOMPRESS=gzip\nFSTYPE=ext4\n' > "$root/etc/initramfs-tools/conf.d/guest"
printf 'virtio_pci\nvirtio_blk\next4\ncrc32c_generic\n' >> "$root/etc/initramfs-tools/modules"
chroot "$root" update-initramfs -u

cat "$root"/boot/vmlinuz-* > "$out/vmlinuz"
cat "$root"/boot/initrd.img-* > "$out/initrd.img"
rm -rf "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*

# A plain bind mount shows the root directory without the /proc, /sys and /dev mounted in it.
mkdir "$root.plain"
mount --bind "$root" "$root.plain"
trap 'umount "$root.plain"; rmdir "$root.plain"' EXIT
mkfs.ext4 -q -F -L root -U 2b7d4c1e-6a5f-4e3d-9c8b-7a6f5e4d3c2b -E "offset=$root_offset" \
	-d "$root.plain" "$out/disk.raw" "${size_kib}k"
HOOK
chmod 0755 "$work/customize"

truncate -s "${disk_mib}M" "$work/disk.raw"
chmod 0666 "$work/disk.raw"
# The last MiB stays free for the second copy of the partition table.
size_kib=$(((disk_mib - 2) * 1024))

mmdebstrap --quiet --variant=important --format=null \
	--include=linux-image-cloud-amd64,systemd-sysv,dbus,openssh-server,sudo,curl,ca-certificates \
	--include=python3,vim,less \
	--aptopt='APT::Install-Recommends "false"' \
	--dpkgopt='force-unsafe-io' \
	--customize-hook="$work/customize \"\$1\" '$work' $size_kib $root_offset" \
	bookworm /dev/null

printf 'label: gpt\nlabel-id: 7c9e6679-7425-40de-944b-e07fc1f90ae7\nstart=%d, size=%d, type=linux\n' \
	$((root_offset / 512)) $((size_kib * 2)) | sfdisk --quiet "$work/disk.raw"
qemu-img convert -c -W -O qcow2 "$work/disk.raw" "$work/disk.qcow2"

mv "$work/disk.qcow2" "$work/vmlinuz" "$work/initrd.img" "$dir/"
echo "$stamp" > "$dir/stamp"
