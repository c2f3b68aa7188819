//! Who may import whom: fails with the arrow that was broken. The arrows are those of the map in
//! `src/lib.rs`; there is no second list.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A row of the map: a room or a wing, and what it may name besides itself.
type Map = BTreeMap<String, Vec<String>>;

fn map() -> Map {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("src/lib.rs")).expect("src/lib.rs");
    let rows = text.lines().filter_map(|line| {
        let mut cells = line
            .strip_prefix("//! | `")?
            .trim_end_matches('|')
            .split('|');
        let room = cells.next()?.trim().trim_end_matches('`').to_owned();
        let names = cells.nth(1)?.split(',').map(str::trim);
        let names = names.filter(|name| !name.is_empty()).map(str::to_owned);
        Some((room, names.collect()))
    });
    rows.collect()
}

/// The only files that may reopen `unsafe_code`.
const UNSAFE_FILES: [&str; 17] = [
    "src/supervisor/spawn/clone.rs",
    "src/supervisor/spawn/inherit.rs",
    "src/supervisor/tree/mark.rs",
    // Signals by any number, which rustix has for the named ones only.
    "src/supervisor/tree/identity.rs",
    "src/supervisor/spawn/newborn.rs",
    "src/supervisor/living.rs",
    // A copy of the process, its death, and descriptors that it leaves.
    "src/supervisor/keeper.rs",
    "src/supervisor/reap.rs",
    "src/supervisor/signals.rs",
    "src/supervisor/spawn/exec.rs",
    // malloc_trim(3), a call of the C library that nothing else wraps.
    "src/io/runtime/heap.rs",
    "src/io/runtime/source.rs",
    "src/io/runtime/tcp.rs",
    "src/log/arena.rs",
    "src/ledger/memory.rs",
    "src/wire/base64/avx2.rs",
    "src/wire/stops.rs",
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

/// A file without its comments and without the text of its strings.
fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['"', '/', '\'']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let used = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(string) = rest.strip_prefix('"') {
            let raw = out.len() - out.trim_end_matches('#').len();
            let is_raw = out.trim_end_matches('#').ends_with('r');
            out.push('"');
            string_end(string, is_raw.then_some(raw)) + 1
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\\"'") {
            rest[1..].find('\'').map_or(1, |end| end + 2)
        } else {
            out.push_str(&rest[..1]);
            1
        };
        rest = &rest[used..];
    }
    out.push_str(rest);
    out
}

/// Where a string ends, its closing quote included. `hashes` are those of a raw string.
fn string_end(text: &str, hashes: Option<usize>) -> usize {
    if let Some(hashes) = hashes {
        let close = format!("\"{}", "#".repeat(hashes));
        return text.find(&close).map_or(text.len(), |at| at + 1);
    }
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The module that a file is: `src/io/host/mod.rs` is `io::host`.
fn module(file: &str) -> String {
    let path = file.trim_start_matches("src/").trim_end_matches(".rs");
    path.trim_end_matches("/mod").replace('/', "::")
}

/// Every path that the code of module `own` names from the root of the crate, `super` resolved.
fn named(code: &str, own: &str) -> Vec<String> {
    let mut found = Vec::new();
    for root in ["crate::", "procring::", "super::"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back().unwrap_or(' ');
            if before.is_alphanumeric() || "_:".contains(before) {
                continue;
            }
            let mut rest = &code[at..];
            let mut base: Vec<&str> = Vec::new();
            if root == "super::" {
                base = own.split("::").collect();
                // The tests of a file are a module of their own, the last one in it.
                if code[..at].contains("mod tests {") {
                    base.push("tests");
                }
                while let Some(next) = rest.strip_prefix("super::") {
                    base.pop();
                    rest = next;
                }
            } else {
                rest = &rest[root.len()..];
            }
            let prefix = base
                .iter()
                .map(|part| format!("{part}::"))
                .collect::<String>();
            expand(rest, &prefix, &mut found);
        }
    }
    found
}

/// The paths that begin `rest`: one, or those in its braces.
fn expand(rest: &str, prefix: &str, found: &mut Vec<String>) {
    let word = |c: char| c.is_alphanumeric() || "_:".contains(c);
    let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
    let path = format!("{prefix}{}", &rest[..end]);
    let Some(inside) = rest[end..].strip_prefix('{') else {
        found.push(path.trim_end_matches("::").to_owned());
        return;
    };
    let (mut depth, mut start) = (1, 0);
    for (at, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            '}' | ',' if depth == 1 => {
                let item = inside[start..at].trim();
                if !item.is_empty() && item != "self" {
                    expand(item, &path, found);
                } else if item == "self" {
                    found.push(path.trim_end_matches("::").to_owned());
                }
                start = at + 1;
                if c == '}' {
                    return;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
}

fn is_within(path: &str, room: &str) -> bool {
    path.strip_prefix(room)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// What is wrong with a path that module `own` names.
fn broken(map: &Map, own: &str, path: &str) -> Option<String> {
    let rows = map.iter().filter(|(room, _)| is_within(own, room));
    // The room's own row and that of the wing must both allow it; a wing narrows what a room may.
    for (room, names) in rows {
        let in_room = room
            .split("::")
            .next()
            .is_some_and(|top| is_within(path, top));
        let row_is_wing = room.contains("::");
        let allowed = is_within(path, room)
            || (in_room && !row_is_wing)
            || names.iter().any(|name| is_within(path, name));
        // A word of the crate's root, such as a macro, is nobody's.
        let is_room = map.keys().any(|room| is_within(path, room));
        if is_room && !allowed {
            return Some(format!("{own}: {room} -> {path}"));
        }
    }
    None
}

#[test]
fn rooms_and_wings_name_only_what_the_map_allows() {
    let map = map();
    let mut wrong: Vec<_> = sources()
        .iter()
        .flat_map(|(file, text)| {
            let own = module(file);
            let paths = named(&code(text), &own);
            let wrong = paths
                .into_iter()
                .filter_map(|path| broken(&map, &own, &path));
            wrong.collect::<Vec<_>>()
        })
        .collect();
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "broken arrows:\n{}", wrong.join("\n"));
}

#[test]
fn the_map_has_every_room_and_nothing_else() {
    let map = map();
    let mut modules: Vec<String> = sources().iter().map(|(file, _)| module(file)).collect();
    modules.retain(|module| module != "lib");
    for module in &modules {
        let room = module.split("::").next().unwrap_or_default();
        assert!(map.contains_key(room), "src/lib.rs: the map lacks {room}");
    }
    for room in map.keys() {
        let exists = modules.iter().any(|module| is_within(module, room));
        assert!(exists, "src/lib.rs: the map has {room}, which is no module");
    }
    // A folder within a room is a wing, and the map has it, unless all that it has is tests.
    for (file, _) in sources() {
        let parts: Vec<_> = file.trim_start_matches("src/").split('/').collect();
        if let [room, wing, .., name] = parts[..] {
            let wing = format!("{room}::{wing}");
            let is_wing = name != "tests.rs" && modules.contains(&wing);
            assert!(
                !is_wing || map.contains_key(&wing),
                "src/lib.rs: the map lacks {wing}"
            );
        }
    }
    // So is a module that another room may name without all of its room: who reads the other row
    // relies on what this one lacks.
    for (own, names) in &map {
        for name in names.iter().filter(|name| modules.contains(name)) {
            let is_elsewhere = name.split("::").next() != own.split("::").next();
            let has_row = map
                .keys()
                .any(|row| row.contains("::") && is_within(name, row));
            let is_room = !name.contains("::");
            assert!(
                is_room || has_row || !is_elsewhere,
                "src/lib.rs: {own} may name {name}, which has no row"
            );
        }
    }
}

#[test]
fn the_arrows_that_are_drawn_are_on_the_map() {
    let map = map();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/ARCHITECTURE.md")).expect("the page");
    let drawn = text
        .split("```")
        .find(|block| block.starts_with("\nmain > "));
    for line in drawn
        .expect("arrows")
        .lines()
        .filter(|line| !line.is_empty())
    {
        let rooms: Vec<Vec<&str>> = line
            .split(" > ")
            .map(|rooms| rooms.split(" | ").collect())
            .collect();
        for pair in rooms.windows(2) {
            for (from, to) in pair[0]
                .iter()
                .flat_map(|from| pair[1].iter().map(move |to| (from, to)))
            {
                let names = map.get(*from).map_or(&[][..], Vec::as_slice);
                assert!(
                    names.iter().any(|name| is_within(name, to)),
                    "docs/ARCHITECTURE.md draws {from} > {to}, which src/lib.rs does not have"
                );
            }
        }
    }
}

#[test]
fn an_arrow_that_nobody_uses_is_not_on_the_map() {
    let map = map();
    let mut unused: Vec<(&String, &String)> = map
        .iter()
        .flat_map(|(own, names)| names.iter().map(move |name| (own, name)))
        .collect();
    for (file, text) in sources() {
        let own = module(&file);
        for path in named(&code(&text), &own) {
            unused.retain(|(row, name)| {
                // What a wing names of itself is no use of its room.
                let is_use = is_within(&own, row) && is_within(&path, name);
                !is_use || is_within(&path, row)
            });
        }
    }
    let unused: Vec<_> = unused
        .iter()
        .map(|(own, name)| format!("{own} -> {name}"))
        .collect();
    assert!(
        unused.is_empty(),
        "arrows that nobody uses:\n{}",
        unused.join("\n")
    );
}

#[test]
fn a_broken_arrow_is_found_however_it_is_written() {
    let map = map();
    let text = r##"
        use crate::{api::Problem, types::{ProcessId, Stream}};
        // use crate::io::server;
        const TEXT: &str = "crate::io::server";
        const RAW: &str = r#"crate::io::"server""#;
        #[cfg(test)]
        mod tests {
            use super::super::super::super::supervisor::{self, tree::kill};
            fn f(quote: char) { if quote == '"' { crate::io::conn::f() } }
        }
    "##;
    let paths = named(&code(text), "wire::http::head");
    let wrong: Vec<_> = paths
        .iter()
        .filter_map(|path| broken(&map, "wire::http::head", path))
        .collect();
    let named_wrong = |what: &str| wrong.iter().filter(|line| line.ends_with(what)).count();
    for what in [
        "api::Problem",
        "supervisor",
        "supervisor::tree::kill",
        "io::conn::f",
    ] {
        assert!(named_wrong(what) > 0, "{what} in {wrong:?}");
    }
    assert_eq!(
        named_wrong("io::server"),
        0,
        "comments and strings: {wrong:?}"
    );
    assert_eq!(broken(&map, "api::route", "types::ProcessId"), None);
    assert!(broken(&map, "io::runtime::timer", "io::server::Server").is_some());
}

#[test]
fn only_its_wing_names_the_runtime() {
    for (file, text) in sources() {
        let may = file.starts_with("src/io/runtime/");
        assert!(
            may || !code(&text).contains("monoio"),
            "{file} names the runtime"
        );
    }
}

/// Outside these a key of an object is written by nobody: of the API by `wire::say`, of the document
/// of the API, of the server's own log, and of what the command line shows and asks for.
const JSON_ROOMS: [&str; 5] = ["wire::say", "api::openapi", "journal", "cli", "client"];

#[test]
fn json_is_written_in_one_room() {
    for (file, text) in sources() {
        let own = module(&file);
        let (code, _) = text.split_once("mod tests {").unwrap_or((&text, ""));
        let may =
            JSON_ROOMS.iter().any(|room| is_within(&own, room)) || file.ends_with("/tests.rs");
        let keys = ["{\\\"", ",\\\"", "r#\"{\"", "r#\"[\""];
        for line in code.lines().filter(|line| !line.trim().starts_with("//")) {
            let writes = keys.iter().any(|key| line.contains(key));
            assert!(may || !writes, "{file} writes JSON: {line}");
        }
    }
}

#[test]
fn a_number_that_is_cast_says_why() {
    for (file, text) in sources() {
        for (at, _) in text.match_indices("(clippy::cast_") {
            let up_to = text[at..].find(")]").map_or(text.len(), |end| at + end);
            let is_reasoned = text[at..up_to].contains("reason = ");
            assert!(is_reasoned, "{file}: {}", &text[at..up_to]);
        }
        for start in ["expect(\n", "allow(\n"] {
            for (at, _) in text.match_indices(start) {
                let up_to = text[at..].find(")]").map_or(text.len(), |end| at + end);
                let of = &text[at..up_to];
                let is_reasoned = !of.contains("clippy::cast_") || of.contains("reason = ");
                // Of all tests at once.
                assert!(is_reasoned || file == "src/lib.rs", "{file}: {of}");
            }
        }
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
