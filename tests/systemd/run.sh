#!/usr/bin/env bash
# tests/systemd/run.sh PACKAGE.deb [WORD...]: boots a Debian with its own kernel and its own systemd in
# QEMU, without KVM, and has inside.py install the package there and try what only a running systemd
# and the controllers of cgroup version 2 can show. With words, only what has one of them in its name
# (and the installation). Exits with 1 when something failed.
#
# Wants root, mmdebstrap, e2fsprogs and qemu-system-x86. The Debian is made once, in target/systemd;
# SUITE=trixie takes another one than bookworm. What the machine's consoles said lies there, too.
set -euo pipefail
package=$(realpath "$1")
shift
cd "$(dirname "$0")/../.."
suite=${SUITE-bookworm}
folder=target/systemd
root=$folder/$suite
mkdir -p "$folder"

# What the checks use besides the package, and what a Debian needs to boot.
packages=systemd,systemd-sysv,dbus,udev,linux-image-cloud-amd64,initramfs-tools,adduser,python3,curl,procps,iproute2

if [ ! -e "$root.img" ]; then
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    mmdebstrap --quiet --variant=minbase --include="$packages" "$suite" "$scratch/root"
    cat >"$scratch/root/etc/systemd/system/trial.service" <<'UNIT'
[Unit]
Description=What is tried
[Service]
ExecStart=/bin/sh -c 'mkdir -p /trial && tar -xf /dev/vdb -C /trial && exec python3 -u /trial/inside.py $(cat /trial/words)'
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS1
ExecStopPost=/bin/systemctl --no-block --force poweroff
UNIT
    # Nothing of the kind is under test, and each takes its time.
    for unit in apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer dpkg-db-backup.timer \
        getty@tty1.service serial-getty@ttyS0.service systemd-timesyncd.service; do
        ln -sf /dev/null "$scratch/root/etc/systemd/system/$unit"
    done
    echo "/dev/vda / ext4 rw 0 1" >"$scratch/root/etc/fstab"
    cp "$scratch/root"/boot/vmlinuz-* "$root.kernel"
    cp "$scratch/root"/boot/initrd.img-* "$root.initrd"
    # The kernel's modules stay; its image is handed over.
    rm -rf "$scratch/root"/boot/* "$scratch/root"/usr/share/{doc,man,locale}/*
    mke2fs -q -t ext4 -d "$scratch/root" "$root.new" 2G
    mv "$root.new" "$root.img"
fi

payload=$(mktemp -d)
trap 'rm -rf "${scratch-}" "$payload"' EXIT
cp tests/systemd/*.py docs/operations.md "$payload/"
cp "$package" "$payload/procring.deb"
# The same once more, as a later version.
dpkg-deb -R "$package" "$payload/later"
sed -i 's/^Version: .*/&+later/' "$payload/later/DEBIAN/control"
dpkg-deb --root-owner-group -b "$payload/later" "$payload/later.deb" >"$payload/said" || { cat "$payload/said"; exit 1; }
rm -rf "$payload/later" "$payload/said"
echo "$*" >"$payload/words"
tar -C "$payload" -cf "$payload.tar" .
trap 'rm -rf "${scratch-}" "$payload" "$payload.tar"' EXIT

# Changes to the disk are forgotten (-snapshot).
timeout "${TRIAL_SECONDS-2400}" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 2G \
    -nic none -display none -no-reboot -snapshot \
    -drive "file=$root.img,format=raw,if=virtio" -drive "file=$payload.tar,format=raw,if=virtio" \
    -kernel "$root.kernel" -initrd "$root.initrd" \
    -append "root=/dev/vda rw console=ttyS0 panic=-1 systemd.wants=trial.service systemd.show_status=0" \
    -serial "file:$folder/console" -serial stdio </dev/null | sed -u 's/\r$//' | tee "$folder/said"
grep -q '^[1-9][0-9]* passed, 0 failed$' "$folder/said"
