//! The command line.

use std::path::PathBuf;

use crate::trouble::{Result, Trouble};

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// procring beside the reference.
    Compare,
    /// The same within an emulated machine that allows every size.
    Emulated,
    /// What the machine allows without any server.
    Floor,
    /// The same small servers on several runtimes.
    Contenders,
    /// Writes the page again from the figures kept.
    Report,
    /// Lists the scenarios.
    List,
}

/// Everything the command line says.
#[derive(Debug)]
pub(crate) struct Options {
    /// What to do.
    pub(crate) verb: Verb,
    /// The two-minute version.
    pub(crate) quick: bool,
    /// Rounds; the default depends on the version.
    pub(crate) rounds: Option<usize>,
    /// Only the scenarios whose name contains one of these.
    pub(crate) only: Vec<String>,
    /// procring's program; built when absent.
    pub(crate) server_bin: Option<PathBuf>,
    /// The reference's program; installed when absent.
    pub(crate) reference_bin: Option<PathBuf>,
    /// An older procring to measure in the same rounds.
    pub(crate) baseline_bin: Option<PathBuf>,
    /// Without the reference: the older procring against the new one alone.
    pub(crate) no_reference: bool,
    /// The emulated machine's kernel; the newest of those installed when absent.
    pub(crate) kernel: Option<PathBuf>,
    /// Folder for the page, its charts and its figures.
    pub(crate) out: Option<PathBuf>,
}

/// What `--help` prints.
pub(crate) const HELP: &str = "\
procring-bench compare     procring beside the reference, interleaved; writes docs/benchmarks.md
procring-bench emulated    its scale scenario in an emulated machine, whose limits allow all of it
procring-bench floor       what the machine allows without any server
procring-bench contenders  the same small servers on monoio, tokio-uring, io-uring, tokio, epoll
procring-bench report      writes the page again from the figures kept
procring-bench list        names of the scenarios

  --quick             the two-minute version; fails on losses and errors, never on times
  --rounds N          rounds of each scenario (default 5; with --quick 1)
  --only NAME         only what has NAME in its name; may be repeated
  --server-bin PATH   a procring that is built already
  --reference-bin PATH  a reference that is installed already
  --baseline-bin PATH  compare: an older procring, measured in the same rounds; the report says
                      for every figure how the new one stands to it
  --no-reference      compare: only the older procring and the new one
  --kernel PATH       emulated: the kernel to start (default the newest of /boot)
  --out DIR           where to write (default docs; with --quick, --only or --baseline-bin the target
                      folder); figures of other scenarios that are there already are kept
";

impl Options {
    /// Parses the arguments; `None` asks for the help text.
    ///
    /// # Errors
    /// `Trouble::Setup` names what was not understood.
    pub(crate) fn parse() -> Result<Option<Options>> {
        use lexopt::prelude::*;
        let mut options = Options {
            verb: Verb::Compare,
            quick: false,
            rounds: None,
            only: Vec::new(),
            server_bin: None,
            reference_bin: None,
            baseline_bin: None,
            no_reference: false,
            kernel: None,
            out: None,
        };
        let mut verb = None;
        let mut parser = lexopt::Parser::from_env();
        let wrong = |error: lexopt::Error| Trouble::Setup(error.to_string());
        while let Some(argument) = parser.next().map_err(wrong)? {
            match argument {
                Value(name) if verb.is_none() => verb = Some(Self::verb(&name.to_string_lossy())?),
                Long("quick") => options.quick = true,
                Long("rounds") => {
                    options.rounds = Some(parser.value().and_then(|v| v.parse()).map_err(wrong)?);
                }
                Long("only") => options
                    .only
                    .push(parser.value().and_then(|v| v.string()).map_err(wrong)?),
                Long("server-bin") => {
                    options.server_bin = Some(parser.value().map_err(wrong)?.into())
                }
                Long("reference-bin") => {
                    options.reference_bin = Some(parser.value().map_err(wrong)?.into())
                }
                Long("baseline-bin") => {
                    options.baseline_bin = Some(parser.value().map_err(wrong)?.into())
                }
                Long("no-reference") => options.no_reference = true,
                Long("kernel") => options.kernel = Some(parser.value().map_err(wrong)?.into()),
                Long("out") => options.out = Some(parser.value().map_err(wrong)?.into()),
                Long("help") | Short('h') => return Ok(None),
                other => return Err(wrong(other.unexpected())),
            }
        }
        let Some(verb) = verb else { return Ok(None) };
        options.verb = verb;
        options.check()?;
        Ok(Some(options))
    }

    /// Refuses what does not go together.
    fn check(&self) -> Result<()> {
        let refusal = match &self.baseline_bin {
            None if self.no_reference => "--no-reference leaves nothing to compare with: name an \
                                          older procring with --baseline-bin"
                .into(),
            Some(_) if self.verb != Verb::Compare => "--baseline-bin is for compare alone".into(),
            Some(path) => match rustix::fs::access(path, rustix::fs::Access::EXEC_OK) {
                Ok(()) => return Ok(()),
                Err(error) => format!("--baseline-bin {}: {error}", path.display()),
            },
            None => return Ok(()),
        };
        Err(Trouble::Setup(refusal))
    }

    fn verb(name: &str) -> Result<Verb> {
        match name {
            "compare" => Ok(Verb::Compare),
            "emulated" => Ok(Verb::Emulated),
            "floor" => Ok(Verb::Floor),
            "contenders" => Ok(Verb::Contenders),
            "report" => Ok(Verb::Report),
            "list" => Ok(Verb::List),
            other => Err(Trouble::Setup(format!("no such command: {other}"))),
        }
    }

    /// Rounds of each measurement.
    pub(crate) fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 1 } else { 5 }).max(1)
    }

    /// Whether a thing of this name was asked for.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }
}
