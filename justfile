# Jobs of this repository; `just` lists them. Nothing needs just: each line can be typed as well.

_list:
    @just --list --unsorted

# everything that a change must pass, as CI does it
ci:
    .ci/run

# start a server that anybody on this machine may ask (add flags as you like)
serve *FLAGS="--no-token":
    cargo run --release -- server {{FLAGS}}

# all tests, or those whose names contain a word
test *WORDS:
    cargo test {{WORDS}}

# black-box tests whose names contain one of the words, on both backends
blackbox *WORDS:
    cargo test --test blackbox -- {{WORDS}}

# write the code in rustfmt's way
format:
    cargo fmt --all
    cd fuzz && cargo fmt

# clippy, warnings denied
lint:
    .ci/run lint

# licences, duplicate versions and sources of dependencies, and the Rust that they want
deny:
    .ci/run deps

# compiles with the oldest Rust that Cargo.toml promises (installs it)
oldest-rust:
    version=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) && rustup toolchain install "$version" --profile minimal --no-self-update && cargo "+$version" check --locked --workspace --all-targets

# known vulnerabilities of dependencies (fetches the database from GitHub)
advisories:
    cargo deny check advisories

# the documentation of the code, in a browser
doc:
    cargo doc --workspace --no-deps --document-private-items --open

# the same, warnings denied
rustdoc:
    .ci/run rustdoc

# docs/ as a site, every link followed (mdbook)
site:
    .ci/run site

# the page is what its sources make (Node.js)
console:
    .ci/run console

# the page in Chromium, with terminals beside plain ones
browser:
    .ci/run browser

# what packaging/ holds, as far as it needs no package
packages:
    .ci/run packages

# the black-box tests on epoll where io_uring is denied with ENOSYS
denied:
    .ci/run denied

# the document of the API against schemathesis and clients
openapi:
    .ci/run openapi

# fuzz every target, or those named, for so many seconds
fuzz SECONDS="30" *TARGETS="":
    fuzz/run {{SECONDS}} {{TARGETS}}

# the WebSocket cases of the Autobahn suite
autobahn:
    .ci/run autobahn

# the program as it is shipped, and its size
release:
    .ci/run release

# beside the reference (some 20 minutes; needs npm), or some scenarios: just bench --only run-1
bench *FLAGS:
    cargo run --release -p procring-bench -- compare {{FLAGS}}

# this build against an older one in the same rounds, without the reference: just bench-old PATH
bench-old OLD *FLAGS="--quick --rounds 5":
    cargo run --release -p procring-bench -- compare --no-reference --baseline-bin {{OLD}} {{FLAGS}}

# what the machine allows without any server
floor:
    cargo run --release -p procring-bench -- floor

# the same small servers on other runtimes
contenders:
    cargo run --release -p procring-bench -- contenders
