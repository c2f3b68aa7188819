//! Node.js and what scripts of it need from a registry.

use std::path::Path;
use std::process::Command;

use super::skipped;

/// Whether Node.js 20 or newer is there, and what the lock file in `directory` names is installed
/// there, by `npm ci` with these arguments unless the last one was of this very file.
pub(crate) fn is_ready(directory: &Path, args: &[&str]) -> bool {
    let version = Command::new("node").arg("--version").output().ok();
    let version = version.and_then(|out| String::from_utf8(out.stdout).ok());
    let version = version.unwrap_or_default();
    let major = version.trim_start_matches('v').split('.').next();
    if major.and_then(|m| m.parse().ok()).unwrap_or(0u32) < 20 {
        skipped("Node.js 20 not found");
        return false;
    }
    let lock = std::fs::read(directory.join("package-lock.json")).unwrap();
    let stamp = directory.join("node_modules/.installed-lock");
    if std::fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return true;
    }
    let npm = Command::new("npm")
        .arg("ci")
        .args(args)
        .current_dir(directory)
        .output()
        .expect("npm");
    let errors = String::from_utf8_lossy(&npm.stderr);
    assert!(npm.status.success(), "npm ci: {errors}");
    std::fs::write(stamp, lock).unwrap();
    true
}
