//! Scripts that complete commands, flags and processes in a shell.

use std::fmt::Write;

use super::commands::{COMMANDS, COMMON, Command, Flag, Names};
use super::context::Context;
use super::error::{CliError, Result};
use super::output;
use super::parse::Parsed;

pub(super) fn completion(_: &Context, parsed: &Parsed) -> Result<u8> {
    let shell = &parsed.words()?[0];
    let script = match &**shell {
        "bash" => bash(),
        "zsh" => zsh(),
        "fish" => fish(),
        _ => {
            return Err(CliError::Usage(format!(
                "{shell:?} is no shell that is known here; it is bash, zsh or fish"
            )));
        }
    };
    output::answer(&script)?;
    Ok(0)
}

/// Names and ids of processes, one a line. A server that is not there completes nothing.
const PROCESSES: &str =
    "procring ps -a 2>/dev/null | awk 'NR > 1 { print $1; if ($2 != \"-\") print $2 }'";

fn flags(command: &Command) -> impl Iterator<Item = &'static Flag> {
    command.flags.iter().chain(COMMON)
}

/// Words that complete an operand of a command; `processes` is how a shell finds those.
fn operands(command: &Command, processes: &str) -> String {
    match command.names {
        Names::Processes => processes.to_owned(),
        Names::Words(words) => words.join(" "),
        Names::Anything => String::new(),
    }
}

fn all_names() -> String {
    let names = COMMANDS.iter().map(|command| command.name);
    names.chain(["server"]).collect::<Vec<_>>().join(" ")
}

fn bash() -> String {
    let mut out = format!(
        "# Completion of procring for bash; `procring completion bash` writes it.\n\
         _procring_processes() {{ {PROCESSES}; }}\n\
         _procring() {{\n    local cur=${{COMP_WORDS[COMP_CWORD]}} word command= words=\n    \
         for word in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do\n        \
         case $word in -*) ;; *) command=$word; break ;; esac\n    done\n    \
         case $command in\n    '') words='{} --help --version' ;;\n",
        all_names()
    );
    for command in COMMANDS {
        let flags: Vec<_> = flags(command)
            .map(|flag| format!("--{}", flag.long))
            .collect();
        let operands = operands(command, "$(_procring_processes)");
        let (name, flags) = (command.name, flags.join(" "));
        let _ = writeln!(
            out,
            "    {name})\n        case $cur in -*) words='{flags}' ;; *) words=\"{operands}\" ;; esac ;;"
        );
    }
    out.push_str(
        "    esac\n    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n    \
         [ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- \"$cur\"))\n}\n\
         complete -o bashdefault -F _procring procring\n",
    );
    out
}

fn zsh() -> String {
    // zsh runs bash's completions, with descriptions missing; one source is worth that.
    format!(
        "#compdef procring\n# Completion of procring for zsh; `procring completion zsh` writes it.\n\
         autoload -U +X bashcompinit && bashcompinit\n{}",
        bash()
    )
}

fn fish() -> String {
    let mut out = String::from(
        "# Completion of procring for fish; `procring completion fish` writes it.\n\
         complete -c procring -f\n",
    );
    let quote = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    for command in COMMANDS {
        let _ = writeln!(
            out,
            "complete -c procring -n __fish_use_subcommand -a {} -d {}",
            command.name,
            quote(command.about)
        );
        let when = format!("__fish_seen_subcommand_from {}", command.name);
        for flag in flags(command) {
            let short = flag
                .short
                .map_or(String::new(), |short| format!(" -s {short}"));
            let takes = if flag.value.is_some() { " -r" } else { "" };
            let _ = writeln!(
                out,
                "complete -c procring -n {}{short} -l {}{takes} -d {}",
                quote(&when),
                flag.long,
                quote(flag.help)
            );
        }
        let operands = operands(command, &format!("({PROCESSES})"));
        if operands.is_empty() {
            continue;
        }
        let _ = writeln!(
            out,
            "complete -c procring -n {} -a {}",
            quote(&when),
            quote(&operands)
        );
    }
    out
}
