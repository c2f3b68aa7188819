//! What documents and comments name must exist: files, headings, and modules of the source.
//!
//! A document goes stale in silence when a file is moved. These tests read every page of the
//! repository, and the comments of every source file, and look up what is named there.

#[path = "docs/api_page.rs"]
mod api_page;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders of the repository that documents name files of.
const FOLDERS: [&str; 10] = [
    "src/",
    "tests/",
    "docs/",
    "bench/",
    "fuzz/",
    "examples/",
    ".ci/",
    ".cargo/",
    ".github/",
    "packaging/",
];

/// What is built or installed, and so is not there in a fresh clone.
const MADE: [&str; 4] = ["target", "node_modules", "fuzz/artifacts", "fuzz/coverage"];

/// A page of the benchmark's is made of this text, so its links begin where that page lies.
const INCLUDED: (&str, &str) = ("docs/benchmarks/missed.md", "docs/benchmarks.md");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).expect("a readable file")
}

/// Every file below `folder` whose name ends so, as a path from the root.
fn files(folder: &Path, ending: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let name = path.strip_prefix(root()).expect("below the root");
        let name = name.to_string_lossy().into_owned();
        if MADE.iter().any(|made| name.ends_with(made)) || name == ".git" {
            continue;
        }
        if path.is_dir() {
            files(&path, ending, found);
        } else if name.ends_with(ending) {
            found.push(name);
        }
    }
}

fn pages() -> Vec<String> {
    let mut found = Vec::new();
    files(root(), ".md", &mut found);
    assert!(found.len() > 20, "the pages are found: {found:?}");
    found
}

/// The comments of a source file, or of anything whose comments begin with `#`.
fn comments(file: &str) -> String {
    let mark = if file.ends_with(".rs") { "//" } else { "#" };
    read(file)
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix(mark))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Files with comments that name other files.
fn commented() -> Vec<String> {
    let mut found = Vec::new();
    files(root(), ".rs", &mut found);
    files(root(), ".toml", &mut found);
    files(root(), ".sh", &mut found);
    found.extend([".ci/run", "fuzz/run"].map(str::to_owned));
    found
}

/// The targets of `[text](target)`, without those on other hosts.
fn links(page: &str) -> Vec<&str> {
    page.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
        .collect()
}

/// The name that a heading can be linked by (as GitHub makes it).
fn anchor(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// What is wrong with the links of one page.
fn dead_links(page: &str, text: &str) -> Vec<String> {
    let page = if page == INCLUDED.0 { INCLUDED.1 } else { page };
    let folder = root().join(page).parent().expect("a folder").to_owned();
    let mut dead = Vec::new();
    for link in links(text) {
        let (file, heading) = link.split_once('#').unwrap_or((link, ""));
        let target = match file {
            "" => root().join(page),
            file => folder.join(file),
        };
        let there = target.exists()
            && (heading.is_empty()
                || fs::read_to_string(&target).is_ok_and(|text| {
                    text.lines()
                        .any(|line| line.starts_with('#') && anchor(line) == heading)
                }));
        if !there {
            dead.push(link.to_owned());
        }
    }
    dead
}

/// Paths from the root that a text names. Patterns and placeholders are left out.
fn named_paths(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_alphanumeric() || "_./-*<>{}".contains(c)))
        .map(|word| word.trim_end_matches(['.', '/', '-']))
        .filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder)))
        .filter(|word| !word.contains(['*', '<', '{']) && !word.contains("NNN"))
        .map(str::to_owned)
        .collect()
}

/// Named paths of `text` that do not exist. A path may also be meant from one of `from`.
fn missing_paths(text: &str, from: &[PathBuf]) -> Vec<String> {
    named_paths(text)
        .into_iter()
        .filter(|path| !MADE.iter().any(|made| path.contains(made)))
        .filter(|path| !from.iter().any(|folder| folder.join(path).exists()))
        .collect()
}

/// Files of code named between backticks without the folder that they are in.
fn named_files(text: &str) -> BTreeSet<String> {
    text.lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter(|name| {
            [".rs", ".sh", ".py", ".mjs"]
                .iter()
                .any(|end| name.ends_with(end))
        })
        .filter(|name| {
            name.chars()
                .all(|c| c.is_alphanumeric() || "_-./".contains(c))
        })
        .map(str::to_owned)
        .collect()
}

/// Those of `names` that are no file's whole name, with or without some of its folders.
fn missing_files(names: BTreeSet<String>, known: &[String]) -> Vec<String> {
    names
        .into_iter()
        .filter(|name| {
            !known
                .iter()
                .any(|file| format!("/{file}").ends_with(&format!("/{name}")))
        })
        .collect()
}

/// Names like `log::batch` between backticks whose first part `counts`.
fn named_modules(text: &str, counts: impl Fn(&str) -> bool) -> BTreeSet<String> {
    text.lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter(|name| {
            name.chars()
                .all(|c| c.is_alphanumeric() || "_:".contains(c))
        })
        .filter(|name| {
            name.split_once("::")
                .is_some_and(|(first, _)| counts(first))
        })
        .map(str::to_owned)
        .collect()
}

/// In a page: everything but types and other crates, so that a room that is gone is noticed.
fn in_a_page(first: &str) -> bool {
    let lock = read("Cargo.lock");
    in_a_comment(first)
        || first.chars().all(|c| c.is_lowercase() || c == '_')
            && first != "std"
            && !lock.contains(&format!("\nname = \"{first}\"\n"))
}

/// In a comment, where names are short for what is near: those that begin with a room.
fn in_a_comment(first: &str) -> bool {
    let room = root().join("src").join(first);
    room.is_dir() || room.with_extension("rs").exists()
}

/// Whether `name` is a module of the source, or something in the code of one.
fn module_exists(name: &str) -> bool {
    let mut module = root().join("src");
    for part in name.split("::") {
        let inner = module.join(part);
        if inner.is_dir() || inner.with_extension("rs").exists() {
            module = inner;
            continue;
        }
        let code = [module.with_extension("rs"), module.join("mod.rs")]
            .iter()
            .find_map(|file| fs::read_to_string(file).ok())
            .unwrap_or_default();
        return code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .flat_map(|line| line.split(|c: char| !(c.is_alphanumeric() || c == '_')))
            .any(|word| word == part);
    }
    true
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut dead = Vec::new();
    for page in pages() {
        let text = read(&page);
        dead.extend(
            dead_links(&page, &text)
                .into_iter()
                .map(|link| format!("{page}: {link}")),
        );
    }
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
}

#[test]
fn every_path_that_is_named_exists() {
    let mut missing = Vec::new();
    let texts = pages().into_iter().map(|page| (read(&page), page));
    let comments = commented().into_iter().map(|file| (comments(&file), file));
    for (text, file) in texts.chain(comments) {
        // A crate's own files are named from its folder, too.
        let from: Vec<PathBuf> = root()
            .join(&file)
            .ancestors()
            .skip(1)
            .take_while(|folder| folder.starts_with(root()))
            .map(Path::to_owned)
            .collect();
        missing.extend(
            missing_paths(&text, &from)
                .into_iter()
                .map(|path| format!("{file}: {path}")),
        );
    }
    assert!(missing.is_empty(), "no such file:\n{}", missing.join("\n"));
}

#[test]
fn every_file_that_is_named_without_its_folder_exists() {
    let mut known = Vec::new();
    for end in [".rs", ".sh", ".py", ".mjs"] {
        files(root(), end, &mut known);
    }
    let mut missing = Vec::new();
    let texts = pages().into_iter().map(|page| (read(&page), page));
    let comments = commented().into_iter().map(|file| (comments(&file), file));
    for (text, file) in texts.chain(comments) {
        for name in missing_files(named_files(&text), &known) {
            missing.push(format!("{file}: {name}"));
        }
    }
    assert!(missing.is_empty(), "no such file:\n{}", missing.join("\n"));
}

#[test]
fn every_module_that_is_named_exists() {
    let mut missing = Vec::new();
    let pages = pages()
        .into_iter()
        .map(|page| (named_modules(&read(&page), in_a_page), page));
    let comments = commented()
        .into_iter()
        .map(|file| (named_modules(&comments(&file), in_a_comment), file));
    for (names, file) in pages.chain(comments) {
        for name in names.into_iter().filter(|name| !module_exists(name)) {
            missing.push(format!("{file}: {name}"));
        }
    }
    assert!(
        missing.is_empty(),
        "no such module:\n{}",
        missing.join("\n")
    );
}

/// Where it says that something is written: a page, and the heading of its section if it names one.
fn promises(comment: &str) -> Vec<(&str, Option<&str>)> {
    let pages = ["README", "docs/"].map(|start| comment.match_indices(start));
    pages
        .into_iter()
        .flatten()
        .map(|(at, start)| {
            let rest = &comment[at..];
            let len = match start {
                "README" => start.len(),
                _ => rest.find(".md").map_or(rest.len(), |end| end + 3),
            };
            let (page, rest) = rest.split_at(len);
            let section = rest
                .strip_prefix(", \"")
                .and_then(|rest| rest.split_once('"'));
            (page, section.map(|(section, _)| section))
        })
        .collect()
}

#[test]
fn every_time_says_where_it_is_promised() {
    let text = read("src/config/timeouts.rs");
    let (table, _) = text.split_once("#[cfg(test)]").expect("tests behind it");
    let mut comment = String::new();
    for line in table.lines() {
        if let Some(more) = line.strip_prefix("/// ") {
            comment.push_str(more);
            comment.push(' ');
        } else if let Some(name) = line.strip_prefix("pub(crate) const ") {
            let promises = promises(&comment);
            // A standard, a manual page, or what the reference does where it answers well.
            let elsewhere = ["RFC ", "(3)", "(7)", "The contract on "];
            let is_elsewhere = elsewhere.iter().any(|place| comment.contains(place));
            assert!(
                is_elsewhere || !promises.is_empty(),
                "src/config/timeouts.rs: who promises {name}"
            );
            for (page, section) in promises {
                let page = if page == "README" { "README.md" } else { page };
                let heading = section.map(|section| format!(" {section}\n"));
                assert!(
                    heading.is_none_or(|heading| read(page).contains(&heading)),
                    "src/config/timeouts.rs: {page} has no section {section:?} for {name}"
                );
            }
            comment.clear();
        } else {
            comment.clear();
        }
    }
}

#[test]
fn every_reason_of_an_exit_is_documented() {
    let names = procring::types::ExitReason::ALL.map(|reason| reason.name());
    let schema = format!("enum: [{}]", names.join(", "));
    assert!(
        read("src/api/openapi/schemas.yaml").contains(&schema),
        "src/api/openapi/schemas.yaml has no {schema}"
    );
    for name in names {
        let said = format!("\"{name}\"");
        assert!(read("README.md").contains(&said), "README.md: {said}");
    }
}

#[test]
fn every_folder_of_the_source_is_on_the_map() {
    let map = read("docs/ARCHITECTURE.md");
    for entry in fs::read_dir(root().join("src"))
        .expect("the source")
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        // Rooms of one file are in the table of src/lib.rs, which has a test of its own.
        if entry.path().is_dir() {
            assert!(
                map.contains(&format!("`src/{name}")),
                "docs/ARCHITECTURE.md does not say what src/{name} is"
            );
        }
    }
}

#[test]
fn every_decision_is_listed_and_has_its_parts() {
    let list = read("docs/design.md");
    let mut decisions = Vec::new();
    files(&root().join("docs/design"), ".md", &mut decisions);
    decisions.sort();
    for (number, file) in (1..).zip(&decisions) {
        let name = file.trim_start_matches("docs/");
        assert!(
            name.starts_with(&format!("design/{number:03}-")),
            "{file}: pages are numbered from 001 without a hole"
        );
        assert!(
            list.contains(&format!("[{number:03}]({name})")),
            "docs/design.md does not list {file}"
        );
        let text = read(file);
        assert!(
            text.starts_with(&format!("# {number:03} ")),
            "{file}: the heading begins with the number"
        );
        for part in ["**Question.** ", "**Decided.** ", "**Reopen if** "] {
            assert!(text.contains(part), "{file} has no {part}");
        }
    }
}

/// The checks above pass on a tidy repository; here is what makes each of them fail.
#[test]
fn what_is_not_there_is_found() {
    let page = "[a](testing.md) [b](gone.md) [c](testing.md#fuzzing) [d](testing.md#flying) \
        [e](https://example.org/gone.md)";
    assert_eq!(
        dead_links("docs/design.md", page),
        ["gone.md", "testing.md#flying"]
    );

    let text = "`src/main.rs`, src/gone.rs. See docs/design/NNN-x.md and `fuzz/corpus/<target>/`.";
    assert_eq!(
        missing_paths(text, &[root().to_owned()]),
        ["src/gone.rs".to_owned()]
    );

    let known = ["src/main.rs".to_owned()];
    assert_eq!(
        missing_files(
            named_files("`main.rs`, `ain.rs`, `x/main.rs`, gone.rs"),
            &known
        ),
        ["ain.rs", "x/main.rs"]
    );

    let text = "`log::batch`, `log::gone`, `api::plan`, `log::batch::nowhere`, `gone::log`, \
        `std::mem::gone`, `Type::gone`";
    let gone: Vec<String> = named_modules(text, in_a_page)
        .into_iter()
        .filter(|name| !module_exists(name))
        .collect();
    assert_eq!(gone, ["gone::log", "log::batch::nowhere", "log::gone"]);
}

#[test]
fn the_manual_page_in_the_repository_is_what_the_program_prints() {
    let committed = std::fs::read_to_string(root().join("docs/procring.1")).unwrap_or_default();
    let printed = std::process::Command::new(env!("CARGO_BIN_EXE_procring"))
        .arg("man")
        .output();
    let printed = String::from_utf8(printed.unwrap().stdout).unwrap();
    assert_eq!(committed, printed, "cargo run -- man > docs/procring.1");
}

/// Text literals that `text` hands to `call`, as its first argument.
fn first_arguments<'t>(text: &'t str, call: &str) -> impl Iterator<Item = &'t str> {
    let behind = text
        .match_indices(call)
        .map(|(at, _)| &text[at + call.len()..]);
    let literals = behind
        .map(str::trim_start)
        .filter_map(|rest| rest.strip_prefix('"'));
    // Owned by `text`; the call's name is not.
    literals
        .filter_map(|rest| rest.split('"').next())
        .collect::<Vec<_>>()
        .into_iter()
}

/// Every code and every kind that a problem of `file` can have.
fn problem_words(file: &str, text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let mut words: BTreeSet<String> = BTreeSet::new();
    let mut add = |found: &str| {
        words.insert(found.to_owned());
    };
    first_arguments(code, ".code(").for_each(&mut add);
    first_arguments(code, "code = Some(").for_each(&mut add);
    // The second argument: the last text of the call.
    for (at, _) in code.match_indices("unavailable(") {
        let (mut depth, start) = (1, at + "unavailable(".len());
        let end = code[start..].find(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth == 0
        });
        let call = &code[start..start + end.unwrap_or(0)];
        first_arguments(call, "Some(").for_each(&mut add);
    }
    if file.starts_with("src/api/problem") {
        first_arguments(code, "Self::new(").for_each(&mut add);
        let errno = |line: &str| Some(line.split_once("(libc::E")?.1.split('"').nth(1)?.to_owned());
        words.extend(code.lines().filter_map(errno));
    }
    words
}

#[test]
fn every_code_and_kind_of_a_problem_is_explained() {
    let page = read("docs/troubleshooting.md");
    // The first column of its tables.
    let explained: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    let mut sources = Vec::new();
    files(&root().join("src"), ".rs", &mut sources);
    let mut seen = BTreeSet::new();
    for file in sources {
        seen.extend(problem_words(&file, &read(&file)));
    }
    for known in [
        "name_taken",
        "shutting_down",
        "EACCES",
        "conflict",
        "pty_unavailable",
    ] {
        assert!(seen.contains(known), "the search finds {known}: {seen:?}");
    }
    let missing: Vec<_> = seen
        .iter()
        .filter(|word| !explained.contains(word.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/troubleshooting.md does not explain {missing:?}"
    );
}

#[test]
fn just_shows_every_job_of_ci() {
    let script = read(".ci/run");
    let head = script.split("\nset -").next().unwrap_or_default();
    let jobs: Vec<&str> = head
        .lines()
        .filter_map(|line| line.strip_prefix("#   ")?.split_whitespace().next())
        .collect();
    assert!(jobs.contains(&"lint") && jobs.len() > 10, "{jobs:?}");
    let list = read("justfile");
    // Those that it has by other words.
    let by_hand = ["format", "test", "fuzz", "bench"];
    for job in jobs {
        let call = format!("    .ci/run {job}\n");
        let shown = match by_hand.contains(&job) {
            true => list.contains(&format!("\n{job} ")) || list.contains(&format!("\n{job}:")),
            false => list.contains(&call),
        };
        assert!(shown, "justfile does not show the job {job} of .ci/run");
    }
}

#[test]
fn every_page_for_readers_is_in_the_site() {
    let summary = read("docs/SUMMARY.md");
    for entry in fs::read_dir(root().join("docs")).expect("docs").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".md") && name != "SUMMARY.md" {
            assert!(
                summary.contains(&format!("({name})")),
                "docs/SUMMARY.md lacks {name}"
            );
        }
    }
}

/// Written anew with `PROCRING_WRITE_DOCS=1`, as `docs/site.sh` does it, so the site is never behind.
#[test]
fn the_page_of_the_api_names_no_route_that_is_gone() {
    let path = root().join("docs/api.md");
    let made = api_page::page();
    if std::env::var_os("PROCRING_WRITE_DOCS").is_some() {
        fs::write(&path, &made).expect("a page");
    }
    let routes = |page: &str| -> BTreeSet<String> {
        let headings = page.lines().filter_map(|line| line.strip_prefix("### "));
        headings.map(str::to_owned).collect()
    };
    let (committed, made) = (routes(&read("docs/api.md")), routes(&made));
    assert!(committed.len() > 20, "{committed:?}");
    let gone: Vec<_> = committed.difference(&made).collect();
    assert!(
        gone.is_empty(),
        "PROCRING_WRITE_DOCS=1 cargo test --test docs: {gone:?}"
    );
}
