//! Compresses docs/openapi.json into the program (src/api/openapi/mod.rs), and tells the linker how to lay
//! the program out: with its relocations packed where that can be, and with what every server needs together.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::Command;

use flate2::{Compression, GzBuilder};

const DOCUMENT: &str = "docs/openapi.json";

/// Functions in the order in which servers come to need them (docs/design/045-resident-code.md).
const ORDER: &str = "packaging/order.ld";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={DOCUMENT}");
    println!("cargo::rerun-if-changed={ORDER}");
    if is_ordered() {
        let order = std::path::absolute(ORDER)?;
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", order.display());
    }
    if is_ordered() && links_by_lld() {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
    if relocates_packed() {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    let folder = std::env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
    let out = File::create(Path::new(&folder).join("openapi.json.gz"))?;
    // No time and no name, so that the same document makes the same program.
    let mut out = GzBuilder::new().write(out, Compression::best());
    out.write_all(&without_spaces(&std::fs::read(DOCUMENT)?))?;
    out.finish()?;
    Ok(())
}

/// Whether the program is one that is shipped, whose functions have sections and names as in the list.
fn is_ordered() -> bool {
    let of = |name: &str| std::env::var(name).unwrap_or_default();
    of("PROFILE") == "release" && of("CARGO_CFG_TARGET_OS") == "linux"
}

/// Whether the linker is the one that rustc brings along, which folds functions of the same code: several
/// instances of one generic function, mostly. Others do not know the option.
fn links_by_lld() -> bool {
    std::env::var("TARGET").is_ok_and(|target| target == "x86_64-unknown-linux-gnu")
}

/// Whether the C library that is linked into the program understands packed relocations (DT_RELR), which
/// take 100 KB less: a static program relocates itself. glibc does from 2.36 on. That of another processor
/// is not known here.
fn relocates_packed() -> bool {
    let of = |name| std::env::var_os(name);
    if of("TARGET") != of("HOST") || of("CARGO_CFG_TARGET_ENV").is_none_or(|env| env != "gnu") {
        return false;
    }
    let Ok(told) = Command::new("getconf").arg("GNU_LIBC_VERSION").output() else {
        return false;
    };
    let told = String::from_utf8_lossy(&told.stdout);
    let Some((major, minor)) = told
        .trim()
        .rsplit(' ')
        .next()
        .and_then(|it| it.split_once('.'))
    else {
        return false;
    };
    let number = |text: &str| text.parse::<u32>().ok();
    (number(major), number(minor)) >= (Some(2), Some(36))
}

/// JSON without what stands between its parts for people.
fn without_spaces(text: &[u8]) -> Vec<u8> {
    let (mut in_string, mut escaped) = (false, false);
    let keep = |byte: &u8| {
        let is_escape = in_string && !escaped && *byte == b'\\';
        if *byte == b'"' && !escaped {
            in_string = !in_string;
        }
        escaped = is_escape;
        in_string || !byte.is_ascii_whitespace()
    };
    text.iter().copied().filter(keep).collect()
}
