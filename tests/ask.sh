# What the scripts that ask a built program have in common; `.` it, in the root of the repository.

target=$(cargo metadata --format-version 1 --no-deps |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
host=$(rustc -vV | sed -n 's/^host: //p')

# venv FOLDER REQUIREMENTS: a virtual environment with these packages. The stamp is a copy of what was
# installed, so a changed pin reinstalls.
venv() {
    if ! cmp -s "$2" "$1/installed.txt"; then
        python3 -m venv --clear "$1"
        "$1/bin/pip" install --quiet --disable-pip-version-check -r "$2"
        cp "$2" "$1/installed.txt"
    fi
}

# await_address FILE SCRIPT PID: prints where the server with this PID listens, which is what the sed
# SCRIPT makes of FILE. Fails, with all that is in FILE, after 10 s or when the server has ended.
await_address() {
    tries=0
    until address=$(sed -n "$2" "$1") && [ -n "$address" ]; do
        tries=$((tries + 1))
        if [ "$tries" -gt 100 ] || ! kill -0 "$3" 2>/dev/null; then
            cat "$1" >&2
            return 1
        fi
        sleep 0.1
    done
    echo "$address"
}
