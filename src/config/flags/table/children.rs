//! What children are held to, and what outlives the server.

use super::{Flag, Takes};
use crate::config::flags::value::{allow_user, choice, limits, user};
use crate::config::flags::{CgroupChoice, ReplayChoice};

pub(super) const FLAGS: &[Flag] = &[
    Flag {
        long: "cgroup",
        short: None,
        takes: Takes::Value("WHEN", |args, value| {
            let words = [
                ("auto", CgroupChoice::Auto),
                ("on", CgroupChoice::On),
                ("off", CgroupChoice::Off),
            ];
            args.cgroup = choice(value, &words)?;
            Ok(())
        }),
        default: Some("auto"),
        help: "a cgroup v2 for each process: auto, on or off",
        more: "Without one, a process that hides on purpose outlives its tree, and a line at start \
               says so. With on, a server that cannot make cgroups does not start. With auto there \
               are none where they would hide memory.max, memory.high or cpu.max of the server's \
               own group and those cannot be handed on.",
    },
    Flag {
        long: "default-limits",
        short: None,
        takes: Takes::Value("K=V,...", |args, value| {
            args.default_limits = limits(value)?;
            Ok(())
        }),
        default: None,
        help: "limits of what does not name its own",
        more: "As memoryBytes=64M,pids=100. memoryBytes, swapBytes, cpuMillis and pids are of a whole \
               tree and need cgroups; nofile, fileBytes, coreBytes, addressSpaceBytes and cpuSeconds \
               are of each process (setrlimit(2)); outputBytesPerSecond is of what is read of a \
               process.",
    },
    Flag {
        long: "max-limits",
        short: None,
        takes: Takes::Value("K=V,...", |args, value| {
            args.max_limits = limits(value)?;
            Ok(())
        }),
        default: None,
        help: "what no request may exceed",
        more: "It also holds where neither the request nor --default-limits names one.",
    },
    Flag {
        long: "default-user",
        short: None,
        takes: Takes::Value("USER", |args, value| {
            args.default_user = Some(user(value)?);
            Ok(())
        }),
        default: None,
        help: "who children are where the request does not say",
        more: "A name, a number, or either with :GROUP. The server needs the privilege for it \
               (CAP_SETUID, CAP_SETGID, CAP_CHOWN, CAP_KILL), else it does not start.",
    },
    Flag {
        long: "allow-user",
        short: None,
        takes: Takes::Values("USER", |args, value| {
            args.allow_users.push(allow_user(value)?);
            Ok(())
        }),
        default: None,
        help: "let requests name this user; * for all but root",
        more: "A user comes with the groups that it is in; USER:GROUP is that user in that group. \
               Without this flag a request that names a user is answered 403.",
    },
    Flag {
        long: "terminal-replay",
        short: None,
        takes: Takes::Value("WHAT", |args, value| {
            let words = [
                ("auto", ReplayChoice::Auto),
                ("screen", ReplayChoice::Screen),
                ("tail", ReplayChoice::Tail),
                ("none", ReplayChoice::None),
            ];
            args.terminal_replay = choice(value, &words)?;
            Ok(())
        }),
        default: Some("auto"),
        help: "what who attaches is shown: auto, screen, tail or none",
        more: "Where the request does not say (replay). tail is the last 256 KiB of the output, \
               auto the same where that is all there is and no program has the screen for itself, \
               else the screen.",
    },
    Flag {
        long: "keep",
        short: None,
        takes: Takes::Nothing(|args| args.keep = true),
        default: None,
        help: "keep processes, logs and exit codes when the server dies",
        more: "A small process stays the parent of all others; when the server is killed, it begins \
               another one, which goes on with the same processes. SIGUSR2 and `procring upgrade` \
               have another program go on with them. What survives is in docs/operations.md.",
    },
    Flag {
        long: "state-dir",
        short: None,
        takes: Takes::Value("DIR", |args, value| {
            args.state_dir = Some(value.into());
            Ok(())
        }),
        default: None,
        help: "end what a killed server left behind, as noted in DIR",
        more: "Ids of processes go on, too, so that none ever names another process.",
    },
];
