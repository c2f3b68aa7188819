#!/bin/sh
# Runs the Autobahn WebSocket cases (groups 1 to 7, 9 and 10) against
# examples/ws_echo.rs. Fails on any failed case, more than two non-strict ones, or
# a case that did not run. Needs Python 3.10 or later with venv, and the package
# index once. Results stay in <target>/autobahn/report.
set -eu

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
root=$(CDPATH= cd -- "$here/../.." && pwd)
cd "$root"
. tests/ask.sh
work=$target/autobahn
mkdir -p "$work"

venv "$work/venv" "$here/requirements.txt"

cargo build --release --example ws_echo

rm -rf "$work/report"
: >"$work/address"
"$target/$host/release/examples/ws_echo" 0 >"$work/address" &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT INT TERM

address=$(await_address "$work/address" 's/^listening on //p' "$server")

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
