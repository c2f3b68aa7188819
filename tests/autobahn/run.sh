#!/bin/sh
# Runs the Autobahn WebSocket cases (groups 1 to 7, 9 and 10) against
# examples/ws_echo.rs. Fails on any failed case, more than two non-strict ones, or
# a case that did not run. Needs Python 3.10 or later with venv, and the package
# index once. Results stay in <target>/autobahn/report.
set -eu

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
root=$(CDPATH= cd -- "$here/../.." && pwd)
cd "$root"
target=$(cargo metadata --format-version 1 --no-deps |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
work=$target/autobahn
mkdir -p "$work"

# The stamp is a copy of what was installed, so a changed pin reinstalls.
if ! cmp -s "$here/requirements.txt" "$work/venv/installed.txt"; then
    python3 -m venv --clear "$work/venv"
    "$work/venv/bin/pip" install --quiet --disable-pip-version-check \
        -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$work/venv/installed.txt"
fi

cargo build --release --example ws_echo
host=$(rustc -vV | sed -n 's/^host: //p')

rm -rf "$work/report"
"$target/$host/release/examples/ws_echo" 0 >"$work/address" &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT INT TERM

tries=0
until address=$(sed -n 's/^listening on //p' "$work/address") && [ -n "$address" ]; do
    tries=$((tries + 1))
    if [ "$tries" -gt 100 ] || ! kill -0 "$server" 2>/dev/null; then
        echo "ws_echo did not start" >&2
        exit 1
    fi
    sleep 0.1
done

# The verdict is check.py's: this exit code also reports what it allows.
"$work/venv/bin/kosoku" --outdir "$work/report" \
    --include '1.*' --include '2.*' --include '3.*' --include '4.*' --include '5.*' \
    --include '6.*' --include '7.*' --include '9.*' --include '10.*' \
    "ws://$address" || true

if ! kill -0 "$server" 2>/dev/null; then
    echo "ws_echo did not survive the cases" >&2
    exit 1
fi
python3 "$here/check.py" "$work/report/index.json"
