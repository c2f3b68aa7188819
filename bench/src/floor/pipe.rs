//! Draining a pipe: one blocking read after the other into recycled memory.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::account::own_cpu;
use crate::trouble::{During, Result, Trouble};

/// Drains `total` bytes of writer `index`: reader CPU in s/GiB, and GiB/s.
pub(super) fn measure(index: usize, total: u64) -> Result<Vec<f64>> {
    let this = std::env::current_exe().during("find this program")?;
    let mut command = match index {
        2 => Command::new("yes"),
        _ => {
            let block = if index == 0 { "65536" } else { "8192" };
            let mut command = Command::new(this);
            command.args(["child", "write", &total.to_string(), block]);
            command
        }
    };
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .during("start a writer")?;
    let figures = drain(&mut child, total);
    // `yes` goes on for ever; the others have ended.
    let _ = child.kill();
    child.wait().during("reap a writer")?;
    figures
}

fn drain(child: &mut Child, total: u64) -> Result<Vec<f64>> {
    let mut pipe = child
        .stdout
        .take()
        .ok_or_else(|| Trouble::Setup("no pipe".into()))?;
    let mut buffer = vec![1; 64 * 1024];
    // The first read waits for the writer's start.
    let mut left = total - pipe.read(&mut buffer).during("read a pipe")? as u64;
    let (began, own, measured) = (Instant::now(), own_cpu(), left);
    while left > 0 {
        match pipe.read(&mut buffer).during("read a pipe")? {
            0 => return Err(Trouble::Protocol("a pipe ended early".into())),
            count => left = left.saturating_sub(count as u64),
        }
    }
    let gib = measured as f64 / f64::from(1 << 30);
    Ok(vec![
        (own_cpu() - own).as_secs_f64() / gib,
        gib / began.elapsed().as_secs_f64(),
    ])
}
