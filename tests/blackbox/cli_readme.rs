//! What README and the quickstart have people paste into a shell works there, one block after the
//! other.

use std::process::Command;

use crate::harness::cli::Said;
use crate::harness::launch::free_port;
use crate::harness::{Backend, Folder, Server};

/// A page, without its examples of what a test cannot do: build or install, listen where others
/// are, sit at a terminal, wait for Ctrl-C.
fn examples(page: &str) -> String {
    let not_here = [
        "cargo ",
        "openssl ",
        "curl --unix-socket",
        "procring run -t",
    ];
    let blocks = page.split("```sh\n").skip(1);
    let blocks = blocks.map(|rest| rest.split("```").next().unwrap_or_default());
    let blocks = blocks.filter(|block| !not_here.iter().any(|word| block.contains(word)));
    blocks.collect()
}

#[test]
fn every_example_of_the_pages_for_newcomers_works_as_it_is_pasted() {
    let is_here = |program: &&str| Command::new(program).arg("--version").output().is_ok();
    if !["bash", "curl", "jq", "tar", "python3"].iter().all(is_here) {
        return;
    }
    let folder = Folder::new("readme", Backend::Epoll);
    let program = env!("CARGO_BIN_EXE_procring");
    std::os::unix::fs::symlink(program, folder.file("procring")).expect("a link");
    std::fs::create_dir(folder.file("src")).expect("a directory");
    let path = std::env::var("PATH").unwrap_or_default();
    for page in ["README.md", "docs/quickstart.md"] {
        let server = Server::open(Backend::Epoll);
        let url = format!("http://{}", server.address);
        let text = std::fs::read_to_string(format!("{}/{page}", env!("CARGO_MANIFEST_DIR")));
        let mut script = examples(&text.expect("a page")).replace("http://127.0.0.1:2468", &url);
        for port in ["8000", "8080"] {
            script = script.replace(port, &free_port().to_string());
        }
        assert!(script.matches("curl ").count() >= 5, "{script}");
        assert!(script.contains("procring wait web"), "{script}");
        let output = Command::new("bash")
            .args(["-xc", &script])
            .current_dir(folder.file("."))
            .env("PATH", format!("{}:{path}", folder.file("")))
            .env("PROCRING_URL", &url)
            .env_remove("PROCRING_TOKEN")
            .output();
        let said = Said::of(output.expect("bash"));
        assert!(!said.out.contains("urn:sandbox-agent:error"), "{said:?}");
        for wrong in ["procring: ", "command not found", "curl: (7)", "jq: "] {
            assert!(!said.err.contains(wrong), "{page}: {wrong:?}: {said:?}");
        }
    }
}
