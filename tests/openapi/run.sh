#!/bin/sh
# Checks docs/openapi.json against others: it is valid OpenAPI 3.1, its examples fit its schemas,
# schemathesis finds no answer that it does not describe on any route, the official client's types
# fit, and generated clients in TypeScript and Python run commands. Needs Node 20 and Python 3.10 or
# later with venv, and the package indexes once. Work and reports stay in <target>/openapi.
set -eu

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
root=$(CDPATH= cd -- "$here/../.." && pwd)
cd "$root"
. tests/ask.sh
work=$target/openapi
mkdir -p "$work/path" "$work/ts"
document=$root/docs/openapi.json

venv "$work/venv" "$here/requirements.txt"
for file in package.json package-lock.json tsconfig.json client.ts types.ts; do
    cp "$here/$file" "$work/ts/"
done
if ! cmp -s "$here/package-lock.json" "$work/ts/node_modules/installed.json"; then
    (cd "$work/ts" && npm ci --silent --no-audit --no-fund)
    cp "$here/package-lock.json" "$work/ts/node_modules/installed.json"
fi

echo "== valid, and its examples fit"
"$work/venv/bin/python" "$here/valid.py" "$document"

# What is invented is run, so nothing is there that does harm or goes on for ever.
for program in true false echo printf head sh; do
    # Not what the shell has under that name.
    for folder in /bin /usr/bin; do
        [ ! -x "$folder/$program" ] || ln -sf "$folder/$program" "$work/path/$program"
    done
done
rm -f "$work/path/sh"

cargo build --quiet --bin procring
program=$target/$host/debug/procring
token=checked
serve() {
    # The clients' server has the usual programs, the invented requests' has not.
    : >"$work/address"
    env -i PATH="$1" PROCRING_TOKEN="$token" "$program" server --port 0 2>"$work/address" &
    server=$!
    url=$(await_address "$work/address" 's/.*listening on \(http:[^ ]*\).*/\1/p' "$server")
}
stop() {
    if [ -n "${server:-}" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
        server=
    fi
}
trap stop EXIT INT TERM

echo "== TypeScript"
(
    cd "$work/ts"
    node_modules/.bin/openapi-typescript "$document" --output schema.ts >schema.log
    node_modules/.bin/tsc -p .
)
serve "$PATH"
node "$work/ts/built/client.js" "$url" "$token"

echo "== Python"
rm -rf "$work/python"
mkdir -p "$work/python"
"$work/venv/bin/openapi-python-client" generate --path "$document" --meta none \
    --config "$here/python.yaml" --output-path "$work/python/procring_client" --overwrite \
    >"$work/python.log" 2>&1 || { cat "$work/python.log"; exit 1; }
"$work/venv/bin/python" "$here/client.py" "$work/python" "$url" "$token"
stop

echo "== schemathesis"
serve "$work/path"
cp "$here/schemathesis.toml" "$here/hooks.py" "$work/"
(cd "$work" && PYTHONPATH="$work" SCHEMATHESIS_HOOKS=hooks "$work/venv/bin/schemathesis" \
    --config-file "$work/schemathesis.toml" run "$document" --url "$url" \
    --header "Authorization: Bearer $token")
"$work/venv/bin/python" "$here/streams.py" "$document" "$url" "$token"
if ! kill -0 "$server" 2>/dev/null; then
    cat "$work/address" >&2
    echo "the server did not survive" >&2
    exit 1
fi
