//! Gets the two programs: builds procring with cargo, installs the reference with npm.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::options::Options;
use crate::trouble::{During, Result, Trouble};

/// The reference's version, as the committed lock file pins it.
pub(crate) const REFERENCE: &str = "@sandbox-agent/cli 0.4.2";

const PACKAGE: &str = include_str!("../reference/package.json");
const LOCK: &str = include_str!("../reference/package-lock.json");

/// The workspace's root.
pub(crate) fn workspace() -> PathBuf {
    let bench = Path::new(env!("CARGO_MANIFEST_DIR"));
    bench.parent().unwrap_or(bench).to_owned()
}

/// A folder of this benchmark's own within the target folder.
pub(crate) fn scratch() -> Result<PathBuf> {
    let program = std::env::current_exe().during("find this program")?;
    let target = program
        .parent()
        .and_then(Path::parent)
        .unwrap_or(Path::new("target"));
    let folder = target.join("procring-bench-data");
    fs::create_dir_all(&folder).during("create a folder in target")?;
    Ok(folder)
}

/// procring's program: the one that the options name, otherwise built.
///
/// # Errors
/// `Trouble::Setup` when cargo fails.
pub(crate) fn procring(options: &Options) -> Result<PathBuf> {
    options.server_bin.clone().map_or_else(build_procring, Ok)
}

/// The reference's program: the one that the options name, otherwise installed.
///
/// # Errors
/// `Trouble::Setup` when npm fails.
pub(crate) fn reference(options: &Options) -> Result<PathBuf> {
    let named = options.reference_bin.clone();
    named.map_or_else(install_reference, Ok)
}

/// Builds procring in release mode and returns its program.
fn build_procring() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "build",
            "--release",
            "--package",
            "procring",
            "--bin",
            "procring",
        ])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(workspace())
        .stderr(Stdio::inherit())
        .output()
        .during("start cargo")?;
    if !output.status.success() {
        return Err(Trouble::Setup("cargo could not build procring".into()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    messages
        .filter(|message| message["target"]["name"] == "procring")
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
        .ok_or_else(|| Trouble::Setup("cargo named no program".into()))
}

/// Installs the reference by `npm ci` from the committed lock file, once per lock file,
/// and returns its native program (not the script that wraps it).
fn install_reference() -> Result<PathBuf> {
    let folder = scratch()?.join("reference");
    let machine = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => {
            return Err(Trouble::Setup(format!(
                "the reference has no program for {other}"
            )));
        }
    };
    let program = folder.join(format!(
        "node_modules/@sandbox-agent/cli-linux-{machine}/bin/sandbox-agent"
    ));
    let lock = folder.join("package-lock.json");
    let installed = fs::read_to_string(&lock).is_ok_and(|text| text == LOCK);
    if !installed || !program.exists() {
        fs::create_dir_all(&folder).during("create the reference's folder")?;
        fs::write(folder.join("package.json"), PACKAGE).during("write package.json")?;
        fs::write(&lock, LOCK).during("write package-lock.json")?;
        let status = Command::new("npm")
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(&folder)
            .stdout(Stdio::null())
            .status()
            .during("start npm")?;
        if !status.success() {
            return Err(Trouble::Setup("npm could not install the reference".into()));
        }
    }
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&program, mode).during("make the reference executable")?;
    Ok(program)
}
