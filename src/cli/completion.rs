//! Scripts that complete commands, flags and processes in a shell.

use std::fmt::Write;

use super::ServerFlag;
use super::commands::{COMMANDS, COMMON, Command, Flag, Names};
use super::context::Context;
use super::error::{CliError, Result};
use super::output;
use super::parse::Parsed;

pub(super) fn completion(context: &Context, parsed: &Parsed) -> Result<u8> {
    let shell = &parsed.words()?[0];
    let server = &context.server_flags;
    let script = match &**shell {
        "bash" => bash(server),
        "zsh" => zsh(server),
        "fish" => fish(server),
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

/// What `procring server` does, in the words of `--help`.
const SERVER: &str = "serve the API";

fn flags(command: &Command) -> impl Iterator<Item = &'static Flag> {
    command.flags.iter().chain(COMMON)
}

/// Within single quotes of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Finds the command, behind flags and their values. readline takes `http://h:1` for five words.
const BASH: &str = r#"_procring_processes() { PROCESSES; }
_procring() {
    local cur=${COMP_WORDS[COMP_CWORD]} command= words= at=1
    while [ $at -lt $COMP_CWORD ]; do
        case ${COMP_WORDS[at]} in
        --url | --token-file)
            at=$((at + 1))
            [ "${COMP_WORDS[at]}" = = ] && at=$((at + 1))
            at=$((at + 1)) ;;
        : | =) at=$((at + 2)) ;;
        -*) at=$((at + 1)) ;;
        *) command=${COMP_WORDS[at]}; break ;;
        esac
    done
    COMPREPLY=()
    [ $at -gt $COMP_CWORD ] && return
    case " ${COMP_WORDS[*]:at:COMP_CWORD-at} " in
    *' -- '*)
        [ "${COMP_WORDS[COMP_CWORD - 1]}" = -- ] && COMPREPLY=($(compgen -c -- "$cur"))
        return ;;
    esac
"#;

fn bash(server: &[ServerFlag]) -> String {
    let names: Vec<_> = COMMANDS.iter().map(|command| command.name).collect();
    let common: Vec<_> = COMMON
        .iter()
        .map(|flag| format!("--{}", flag.long))
        .collect();
    let mut out = format!(
        "# Completion of procring for bash; `procring completion bash` writes it.\n{}    \
         case $command in\n    '') words='{} server {} --version' ;;\n",
        BASH.replace("PROCESSES", PROCESSES),
        names.join(" "),
        common.join(" ")
    );
    let mut row = |name: &str, flags: Vec<String>, operands: &str| {
        let flags = flags.join(" ");
        let _ = writeln!(
            out,
            "    {name})\n        case $cur in -*) words='{flags}' ;; *) words=\"{operands}\" ;; esac ;;"
        );
    };
    for command in COMMANDS {
        let operands = match command.names {
            Names::Processes => "$(_procring_processes)".to_owned(),
            Names::Words(words) => words.join(" "),
            Names::Program => "$(compgen -c -- \"$cur\")".to_owned(),
            Names::Anything => String::new(),
        };
        let flags = flags(command).map(|flag| format!("--{}", flag.long));
        row(command.name, flags.collect(), &operands);
    }
    let flags = server.iter().map(|(long, ..)| format!("--{long}"));
    row("server", flags.collect(), "");
    out.push_str(
        "    esac\n    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\n\
         complete -o bashdefault -o default -F _procring procring\n",
    );
    out
}

/// Finds the command, and completes it, or what is behind it.
const ZSH: &str = r#"_procring_processes() {
    local -a found=(${(f)"$(PROCESSES)"})
    _describe process found
}
_procring() {
    local at=2 command=
    while (( at < CURRENT )); do
        case $words[at] in
        --url|--token-file) (( at += 2 )) ;;
        -*) (( at += 1 )) ;;
        *) command=$words[at]; break ;;
        esac
    done
    if [[ -z $command ]]; then
        local -a all=(
COMMANDS        )
        _arguments COMMON '*:command:{ _describe command all }'
        return
    fi
    words=("${(@)words[at,-1]}")
    (( CURRENT -= at - 1 ))
    case $command in
"#;

/// A flag as `_arguments` of zsh takes it.
fn zsh_flag(long: &str, short: Option<char>, value: Option<&str>, help: &str) -> String {
    let help = help
        .replace('\\', "\\\\")
        .replace('[', "\\[")
        .replace(']', "\\]");
    let value = match value {
        Some("DIR") => ":DIR:_files -/".to_owned(),
        Some(what @ ("FILE" | "PATH")) => format!(":{what}:_files"),
        Some(what) => format!(":{}: ", what.replace(':', "\\:")),
        None => String::new(),
    };
    let of = |name: String| quoted(&format!("*{name}[{help}]{value}"));
    let mut out = of(format!("--{long}"));
    if let Some(short) = short {
        let _ = write!(out, " {}", of(format!("-{short}")));
    }
    out
}

fn zsh(server: &[ServerFlag]) -> String {
    let mut commands = String::new();
    for (name, about) in COMMANDS
        .iter()
        .map(|command| (command.name, command.about))
        .chain([("server", SERVER)])
    {
        let _ = writeln!(
            commands,
            "            {}",
            quoted(&format!("{name}:{about}"))
        );
    }
    let of = |flag: &Flag| zsh_flag(flag.long, flag.short, flag.value, flag.help);
    let common: Vec<_> = COMMON.iter().map(of).collect();
    let mut out = format!(
        "#compdef procring\n# Completion of procring for zsh; `procring completion zsh` writes it.\n{}",
        ZSH.replace("PROCESSES", PROCESSES)
            .replace("COMMANDS", &commands)
            .replace("COMMON", &common.join(" "))
    );
    for command in COMMANDS {
        let flags: Vec<_> = flags(command).map(of).collect();
        let operands = match command.names {
            Names::Processes => "'*:process:_procring_processes'".to_owned(),
            Names::Words(words) => format!("'*:word:({})'", words.join(" ")),
            Names::Program => "'(-)1:command:_command_names -e' '*::argument:_normal'".to_owned(),
            Names::Anything => "'*:file:_files'".to_owned(),
        };
        let _ = writeln!(
            out,
            "    {}) _arguments -s -S {} {operands} ;;",
            command.name,
            flags.join(" ")
        );
    }
    let flags: Vec<_> = server
        .iter()
        .map(|(long, value, help)| zsh_flag(long, None, *value, help))
        .collect();
    let _ = writeln!(out, "    server) _arguments {} ;;", flags.join(" "));
    // Found by its name on the path of functions, this file is the function; read by a shell, it
    // makes one.
    out.push_str(
        "    esac\n}\n\
         if [[ $funcstack[1] == _procring ]]; then _procring \"$@\"; else compdef _procring procring; fi\n",
    );
    out
}

/// Whether the command is this one; without a word, whether there is none yet.
const FISH: &str = r"function __procring_is
    set -l words (commandline -opc)
    set -e words[1]
    while set -q words[1]
        switch $words[1]
            case --url --token-file
                set -e words[1]
            case '-*'
            case '*'
                test $words[1] = $argv[1]
                return
        end
        set -e words[1]
    end
    test -z $argv[1]
end
complete -c procring -f
";

fn fish(server: &[ServerFlag]) -> String {
    let mut out =
        format!("# Completion of procring for fish; `procring completion fish` writes it.\n{FISH}");
    let quote = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let mut flag =
        |when: &str, long: &str, short: Option<char>, value: Option<&str>, help: &str| {
            let short = short.map_or(String::new(), |short| format!(" -s {short}"));
            let takes = match value {
                Some("DIR" | "FILE" | "PATH") => " -r -F",
                Some(_) => " -x",
                None => "",
            };
            let (when, help) = (quote(when), quote(help));
            let _ = writeln!(
                out,
                "complete -c procring -n {when}{short} -l {long}{takes} -d {help}"
            );
        };
    let none = "__procring_is ''";
    for common in COMMON {
        flag(none, common.long, common.short, common.value, common.help);
    }
    for command in COMMANDS {
        let when = format!("__procring_is {}", command.name);
        for of in flags(command) {
            flag(&when, of.long, of.short, of.value, of.help);
        }
    }
    for (long, value, help) in server {
        flag("__procring_is server", long, None, *value, help);
    }
    for (name, about) in COMMANDS
        .iter()
        .map(|command| (command.name, command.about))
        .chain([("server", SERVER)])
    {
        let (none, about) = (quote(none), quote(about));
        let _ = writeln!(out, "complete -c procring -n {none} -a {name} -d {about}");
    }
    for command in COMMANDS {
        let when = quote(&format!("__procring_is {}", command.name));
        let operands = match command.names {
            Names::Processes => format!("-a {}", quote(&format!("({PROCESSES})"))),
            Names::Words(words) => format!("-a {}", quote(&words.join(" "))),
            Names::Program => "-F -a '(__fish_complete_subcommand --fcs-skip=2)'".to_owned(),
            Names::Anything => "-F".to_owned(),
        };
        let _ = writeln!(out, "complete -c procring -n {when} {operands}");
    }
    out
}
