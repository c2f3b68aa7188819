//! Who may import whom: fails with the arrow that was broken (docs/ARCHITECTURE.md).

use std::fs;
use std::path::{Path, PathBuf};

/// Each room, and the rooms it may name besides itself.
const ROOMS: [(&str, &[&str]); 10] = [
    ("types", &[]),
    ("config", &["types"]),
    ("wire", &["types"]),
    ("log", &["types"]),
    ("supervisor", &["types"]),
    ("process", &["types", "log"]),
    ("api", &["types", "config", "wire", "log", "process"]),
    (
        "io",
        &[
            "types",
            "config",
            "wire",
            "log",
            "process",
            "api",
            "supervisor",
        ],
    ),
    ("cli", &["io::runtime::backend", "supervisor::cgroup"]),
    ("token", &["cli"]),
];

/// The only files that may reopen `unsafe_code`.
const UNSAFE_FILES: [&str; 10] = [
    "src/supervisor/spawn/clone.rs",
    "src/supervisor/spawn/inherit.rs",
    "src/supervisor/tree/mark.rs",
    "src/supervisor/spawn/newborn.rs",
    "src/supervisor/reap.rs",
    "src/supervisor/signals.rs",
    "src/supervisor/spawn/exec.rs",
    "src/io/runtime/source.rs",
    "src/log/arena.rs",
    "src/wire/base64/avx2.rs",
];

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a source folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    files(&root.join("src"), &mut found);
    found
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a readable source file");
            let name = path.strip_prefix(root).expect("a file below the root");
            (name.to_string_lossy().into_owned(), text)
        })
        .collect()
}

/// The part of a file before its tests, without comments.
fn code(text: &str) -> String {
    let product = text.split("#[cfg(test)]").next().unwrap_or_default();
    product
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn rooms_import_only_what_stands_below_them() {
    let mut broken = Vec::new();
    for (file, text) in sources() {
        let room = file
            .trim_start_matches("src/")
            .split(['/', '.'])
            .next()
            .unwrap_or_default();
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            continue;
        };
        for rest in code(&text).split("crate::").skip(1) {
            let target: String = rest
                .chars()
                .take_while(|c| c.is_alphanumeric() || "_:".contains(*c))
                .collect();
            let fits = |to: &str| target == to || target.starts_with(&format!("{to}::"));
            let own = target == room || target.starts_with(&format!("{room}::"));
            if !own && !allowed.iter().any(|to| fits(to)) {
                broken.push(format!("{file}: {room} -> {target}"));
            }
        }
    }
    assert!(broken.is_empty(), "broken arrows:\n{}", broken.join("\n"));
}

#[test]
fn every_room_is_known() {
    for (file, _) in sources() {
        let room = file
            .trim_start_matches("src/")
            .split(['/', '.'])
            .next()
            .unwrap_or_default()
            .to_owned();
        let known = ROOMS.iter().any(|(name, _)| *name == room) || room == "lib" || room == "main";
        assert!(known, "{file}: add the room to ROOMS");
    }
}

#[test]
fn only_io_and_main_name_the_runtime() {
    for (file, text) in sources() {
        let may = file.starts_with("src/io/") || file == "src/main.rs";
        assert!(
            may || !code(&text).contains("monoio"),
            "{file} names the runtime"
        );
    }
}

#[test]
fn unsafe_code_lives_in_the_named_files() {
    for (file, text) in sources() {
        let reopens = code(&text).contains("allow(unsafe_code)");
        assert_eq!(
            reopens,
            UNSAFE_FILES.contains(&file.as_str()),
            "{file}: the list of files with unsafe code is wrong"
        );
    }
}
