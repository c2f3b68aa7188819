//! Compresses docs/openapi.json into the program (src/api/openapi/mod.rs).

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use flate2::{Compression, GzBuilder};

const DOCUMENT: &str = "docs/openapi.json";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={DOCUMENT}");
    let folder = std::env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
    let out = File::create(Path::new(&folder).join("openapi.json.gz"))?;
    // No time and no name, so that the same document makes the same program.
    let mut out = GzBuilder::new().write(out, Compression::best());
    out.write_all(&without_spaces(&std::fs::read(DOCUMENT)?))?;
    out.finish()?;
    Ok(())
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
