//! The `procring` binary: the command line, what it asks for, the exit code.

use std::process::ExitCode;

use procring::config::flags::{self, Invocation, LogFormat, Mode, ServerArgs};
use procring::config::load::load;
use procring::journal;
use procring::notice;
use procring::server::{self, Asked, Ready, StartError};

fn main() -> ExitCode {
    let mut args: Vec<_> = std::env::args_os().skip(1).collect();
    if args.first().is_some_and(|word| word == "help") {
        // `help COMMAND` is `COMMAND --help`.
        args.remove(0);
        args.push("--help".into());
    }
    if let Some(asked) = server::heritage_asked(&args) {
        return take_over(asked);
    }
    #[cfg(feature = "cli")]
    if procring::cli::is_meant(&args) {
        flags::misspelled().for_each(notice::line);
        return procring::cli::main(args, flags::all().collect());
    }
    match flags::parse(args, std::env::vars_os()) {
        Ok(Invocation::Help) => answer(&help()),
        Ok(Invocation::Man) => answer(&man()),
        Ok(Invocation::Version) => answer(concat!("procring ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Invocation::Server(args)) => with(&args),
        Err(error) => ended(Err(error.into()), LogFormat::Text),
    }
}

/// Goes on with what another program has kept, or says whether it could.
fn take_over(asked: Asked) -> ExitCode {
    let is_check = asked.is_check;
    let (heritage, args) = match server::heritage(asked) {
        Ok(found) => found,
        Err(why) => {
            notice::line(why);
            return ExitCode::FAILURE;
        }
    };
    let format = args.log_format;
    if is_check {
        return match server::check(&args) {
            Ok(()) => answer(server::TAKES_OVER),
            Err(error) => ended(Err(error), format),
        };
    }
    let ready = server::take_over(&args, heritage);
    ended(ready.and_then(Ready::run), format)
}

/// Does what the configuration is for.
fn with(args: &ServerArgs) -> ExitCode {
    let args = match load(args) {
        Ok(args) => args,
        Err(error) => return ended(Err(error.into()), args.log_format),
    };
    match args.mode {
        Mode::Print => answer(&args.given.print()),
        Mode::Check => {
            flags::misspelled().for_each(notice::line);
            check(&args)
        }
        Mode::Serve => {
            let result = server::start(&args).and_then(Ready::run);
            ended(result, args.log_format)
        }
    }
}

/// Says whether a server could start with a configuration.
fn check(args: &ServerArgs) -> ExitCode {
    if let Err(error) = server::check(args) {
        return ended(Err(error), args.log_format);
    }
    let of_all = args.default_limits.or(&args.max_limits);
    answer(match of_all.need_group() {
        false => "the configuration is valid\n",
        true => {
            "the configuration is valid; whether its limits of trees can be kept depends on the \
             server's cgroup, and is told when it starts\n"
        }
    })
}

/// What was asked for on the command line, on standard output.
fn answer(text: &str) -> ExitCode {
    match notice::answer(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            notice::line(format_args!("standard output cannot be written: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// How a server ended, or why there was none.
fn ended(result: Result<(), StartError>, format: LogFormat) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            journal::failed(format, &error);
            ExitCode::from(error.exit_code())
        }
    }
}

/// What `procring --help` prints: the server's flags, and the commands of this build.
fn help() -> String {
    #[cfg(feature = "cli")]
    let commands = procring::cli::commands_help();
    #[cfg(not(feature = "cli"))]
    let commands = String::new();
    flags::help(&commands)
}

/// The manual page.
fn man() -> String {
    #[cfg(feature = "cli")]
    let commands = procring::cli::commands_man();
    #[cfg(not(feature = "cli"))]
    let commands = String::new();
    flags::man(&commands)
}
