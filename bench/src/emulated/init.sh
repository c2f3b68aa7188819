#!/bin/busybox sh
# The emulated machine's first process. Mounts what a server needs, runs the comparison with
# the arguments that the kernel hands over, and sends the figures through the second serial line.

export PATH=/bin HOME=/
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
stty -F /dev/ttyS1 raw

/target/release/procring-bench compare "$@" \
    --server-bin /procring --reference-bin /reference --out /figures
cat /figures/benchmarks/compare.json > /dev/ttyS1
poweroff -f
