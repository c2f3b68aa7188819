//! Completions in the shells that are here: what each of them offers behind what was typed.

use std::process::Command;

use crate::harness::cli::{command, procring};
use crate::harness::{Backend, Server};

/// What a shell prints; None where there is no such shell.
fn shell(server: &Server, name: &str, args: &[&str], script: &str) -> Option<String> {
    Command::new(name).arg("--version").output().ok()?;
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_procring"));
    let mut path = program
        .parent()
        .expect("a directory")
        .as_os_str()
        .to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let output = Command::new(name)
        .args(args)
        .args(["-c", script])
        .env("PATH", path)
        .env("PROCRING_URL", format!("http://{}", server.address))
        .env_remove("PROCRING_TOKEN")
        .output()
        .expect("a shell");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(errors, "", "{name}: {script}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn shells_offer_commands_flags_and_processes_behind_a_url_too() {
    let server = Server::open(Backend::Epoll);
    procring(&server, &["start", "--name", "web", "sleep", "600"]).good();
    for (typed, offered) in [
        ("procring lo", &["logs"][..]),
        ("procring --url http://127.0.0.1:1 lo", &["logs"]),
        ("procring logs ", &["proc_1", "web"]),
        ("procring logs --fo", &["--follow"]),
        ("procring --token-file x config ", &["set"]),
        ("procring run --work", &["--workdir"]),
        ("procring run -- unam", &["uname"]),
        ("procring server --unix-m", &["--unix-mode"]),
        ("procring completion f", &["fish"]),
    ] {
        // As readline splits words.
        let words: Vec<String> = typed
            .split(' ')
            .flat_map(|word| match word.split_once(':') {
                Some((scheme, rest)) => {
                    let (host, port) = rest.split_once(':').expect("a port");
                    [scheme, ":", host, ":", port].map(str::to_owned).to_vec()
                }
                None => vec![word.to_owned()],
            })
            .map(|word| format!("'{word}'"))
            .collect();
        let script = format!(
            "source <(procring completion bash); COMP_WORDS=({}); COMP_CWORD={}; _procring; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            words.join(" "),
            words.len() - 1
        );
        if let Some(said) = shell(&server, "bash", &["--norc"], &script) {
            let said: Vec<_> = said.lines().collect();
            for offered in offered {
                assert!(said.contains(offered), "bash, {typed:?}: {said:?}");
            }
        }
        let script = format!("procring completion fish | source; complete -C '{typed}'");
        if let Some(said) = shell(&server, "fish", &["--no-config"], &script) {
            let said: Vec<_> = said
                .lines()
                .filter_map(|line| line.split('\t').next())
                .collect();
            for offered in offered {
                assert!(said.contains(offered), "fish, {typed:?}: {said:?}");
            }
        }
    }
    // zsh completes in a terminal only; this finds what it cannot read, and what `_arguments` refuses.
    for name in ["run", "logs", "server", "config", "attach", "play"] {
        let script = format!(
            "compdef() {{}}; _describe() {{}}; zmodload zsh/computil\n\
             _arguments() {{ for it; do \
             [[ $it == -[sS] || $it == *\\[*\\]* || $it == *:* ]] || echo \"no specification: $it\"; done }}\n\
             source <(procring completion zsh); words=(procring {name} ''); CURRENT=3; _procring"
        );
        if let Some(said) = shell(&server, "zsh", &["-f"], &script) {
            assert_eq!(said, "", "zsh, {name}");
        }
    }
    let said = command(&server, &["completion", "tcsh"])
        .output()
        .expect("procring");
    assert_eq!(said.status.code(), Some(2));
}
