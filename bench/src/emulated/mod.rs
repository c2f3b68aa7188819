//! A comparison within an emulated machine, for a size that this one's limits do not allow.
//!
//! A hard limit on descriptors cannot be raised without privileges that containers lack, and
//! 5,000 processes with a follower each take 33,800. QEMU without KVM needs no privilege: in it run
//! a Linux kernel and, as its whole root folder, BusyBox, both servers and this program. What is
//! counted there (memory, descriptors, processes held) is what a real machine would count;
//! everything takes some ten times as long, so a time only tells how it grows.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::install;
use crate::machine::Machine;
use crate::options::Options;
use crate::results::{Comparison, load};
use crate::trouble::{During, Result, Trouble};

/// What runs unless `--only` names something else.
const SCENARIO: &str = "scale";
/// Memory of the emulated machine: the reference alone takes 2 GiB at full size.
const MEMORY: &str = "12G";
/// Its cores, as many as the machine has that the other figures are from.
const CORES: &str = "2";
/// The first process.
const INIT: &str = include_str!("init.sh");

/// Starts the machine, lets it compare, and returns what it found.
///
/// # Errors
/// `Trouble::Setup` when a program or a kernel is missing, or the machine ended without figures.
pub(crate) fn run(options: &Options) -> Result<Comparison> {
    if std::env::consts::ARCH != "x86_64" {
        return Err(Trouble::Setup(
            "the emulated machine is an x86_64 one, and this is not".into(),
        ));
    }
    let kernel = options.kernel.clone().map_or_else(newest_kernel, Ok)?;
    let outside = Machine::read();
    let folder = install::scratch()?.join("emulated");
    let archive = pack(options, &folder)?;
    let figures = folder.join("figures.json");
    start(&kernel, &archive, &figures, &arguments(options))?;
    let found: Option<Comparison> = load(&figures);
    let mut found =
        found.ok_or_else(|| Trouble::Setup("the emulated machine left no figures".into()))?;
    for measured in &mut found.scenarios {
        // There is neither a compiler nor a repository inside, nor a clock to trust.
        measured.machine.rustc.clone_from(&outside.rustc);
        measured.machine.commit.clone_from(&outside.commit);
        measured.machine.date.clone_from(&outside.date);
    }
    Ok(found)
}

/// What the comparison inside is asked for.
fn arguments(options: &Options) -> Vec<String> {
    let mut arguments = vec!["--rounds".to_owned(), options.rounds().to_string()];
    if options.quick {
        arguments.push("--quick".to_owned());
    }
    let only = match options.only.as_slice() {
        [] => vec![SCENARIO.to_owned()],
        names => names.to_vec(),
    };
    for name in only {
        arguments.extend(["--only".to_owned(), name]);
    }
    arguments
}

/// The newest kernel that is installed here, by the time of its file.
fn newest_kernel() -> Result<PathBuf> {
    let entries = fs::read_dir("/boot").into_iter().flatten().flatten();
    let kernels = entries.filter(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with("vmlinuz-")
    });
    kernels
        .max_by_key(|entry| entry.metadata().and_then(|file| file.modified()).ok())
        .map(|entry| entry.path())
        .ok_or_else(|| {
            Trouble::Setup(
                "there is no kernel in /boot: install one (Debian: linux-image-cloud-amd64) or \
                 name one with --kernel"
                    .into(),
            )
        })
}

/// Makes the root folder and packs it as the kernel wants it (an initramfs).
fn pack(options: &Options, folder: &Path) -> Result<PathBuf> {
    let root = folder.join("root");
    let programs = root.join("target/release");
    fs::create_dir_all(&programs).during("create the emulated machine's root folder")?;
    fs::create_dir_all(root.join("bin")).during("create the emulated machine's root folder")?;
    let procring = install::procring(options)?;
    let reference = install::reference(options)?;
    let this = std::env::current_exe().during("find this program")?;
    let busybox = Path::new("/bin/busybox");
    if !busybox.exists() {
        return Err(missing("BusyBox", "busybox-static"));
    }
    for (from, to) in [
        (&*procring, root.join("procring")),
        (&reference, root.join("reference")),
        (&this, programs.join("procring-bench")),
        (busybox, root.join("bin/busybox")),
    ] {
        fs::copy(from, to).during("fill the emulated machine's root folder")?;
    }
    fs::write(root.join("init"), INIT).during("fill the emulated machine's root folder")?;
    let status = Command::new("sh")
        .args([
            "-ec",
            "chmod +x init; find . | /bin/busybox cpio -o -H newc > ../root.cpio",
        ])
        .current_dir(&root)
        .stderr(Stdio::null())
        .status()
        .during("pack the emulated machine's root folder")?;
    if !status.success() {
        return Err(Trouble::Setup(
            "the emulated machine's root folder could not be packed".into(),
        ));
    }
    Ok(folder.join("root.cpio"))
}

/// Runs the machine until it powers itself off; what it says goes to standard output.
fn start(kernel: &Path, archive: &Path, figures: &Path, arguments: &[String]) -> Result<()> {
    // What stands behind two dashes is for the first process.
    let line = format!("console=ttyS0 quiet panic=-1 -- {}", arguments.join(" "));
    let serial = format!("file:{}", figures.display());
    let status = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg,thread=multi", "-cpu", "max"])
        .args(["-smp", CORES, "-m", MEMORY])
        .args(["-nic", "none", "-display", "none", "-no-reboot"])
        .args(["-serial", "stdio", "-serial", &serial])
        .args(["-append", &line])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(archive)
        .stdin(Stdio::null())
        .status()
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => missing("QEMU", "qemu-system-x86"),
            _ => Trouble::Setup(format!("QEMU cannot be started: {error}")),
        })?;
    if !status.success() {
        return Err(Trouble::Setup(format!("QEMU ended with {status}")));
    }
    Ok(())
}

fn missing(program: &str, package: &str) -> Trouble {
    Trouble::Setup(format!(
        "{program} is missing: install it (Debian: {package})"
    ))
}
