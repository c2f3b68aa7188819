//! The page that is compiled in is made of the sources that are here.
//!
//! Making it needs Node.js (`console/build.mjs`), which nobody should need to build or test the
//! server. So what was made is in the repository, with a hash of what it was made of; the job
//! `console` of `.ci/run` makes it again and compares.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use sha1::{Digest, Sha1};

#[test]
fn the_page_is_made_of_these_sources() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("console");
    let mut names = vec!["build.mjs".to_owned(), "package-lock.json".to_owned()];
    for entry in fs::read_dir(root.join("src")).expect("sources").flatten() {
        names.push(format!("src/{}", entry.file_name().to_string_lossy()));
    }
    names.sort();
    let mut hash = Sha1::new();
    for name in &names {
        let content = fs::read(root.join(name)).expect("a source");
        hash.update(format!("{name} {}\n", content.len()));
        hash.update(content);
    }
    let mut hex = String::new();
    for byte in hash.finalize() {
        write!(hex, "{byte:02x}").expect("a string takes everything");
    }
    let built = fs::read_to_string(root.join("built/sources.sha1")).expect("built/");
    assert_eq!(
        built.trim(),
        hex,
        "console/built/ is of other sources: npm ci && npm run build in console/"
    );
}

#[test]
fn the_page_is_small_enough_to_be_in_every_program() {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("console/built");
    let mut bytes = 0;
    for entry in fs::read_dir(built).expect("built/").flatten() {
        let name = entry.file_name();
        // The renderer is loaded only when somebody asks for it.
        if name != "webgl.js.gz" && name != "sources.sha1" {
            bytes += entry.metadata().expect("a file").len();
        }
    }
    assert!(bytes <= 150 << 10, "{bytes} bytes");
}
