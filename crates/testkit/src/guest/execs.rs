//! Commands in a fake guest: `echo`, `cat`, `false`, `spew N`, `sleep`.

use guest_protocol::{ExecErrorKind, ExecId, Exit, MAX_CHUNK, Output, ToGuest, ToHost, WINDOW};
use std::collections::HashMap;

#[derive(Default)]
pub(super) struct Execs(HashMap<ExecId, Command>);

struct Command {
    /// Echoes its input.
    cat: bool,
    /// Output not yet sent.
    pending: Vec<u8>,
    /// Bytes that the host has room for.
    credit: usize,
    /// How it ends once its output is sent.
    end: Option<Exit>,
}

impl Execs {
    /// Acts on a message; returns the answers.
    pub(super) fn on_message(&mut self, message: ToGuest) -> Vec<ToHost> {
        match message {
            ToGuest::Exec(id, exec) => {
                let words: Vec<&str> = exec.argv.iter().map(String::as_str).collect();
                match Command::new(&words) {
                    Some(command) => drop(self.0.insert(id, command)),
                    None => {
                        let why = format!("{}: not found", words.first().unwrap_or(&""));
                        return vec![ToHost::ExecFailed(id, why, Some(ExecErrorKind::NotFound))];
                    }
                }
                self.flush(id, Vec::new())
            }
            ToGuest::ExecInput(id, bytes) => {
                let Some(command) = self.0.get_mut(&id) else { return Vec::new() };
                if bytes.is_empty() {
                    command.end.get_or_insert(Exit::default());
                    return self.flush(id, Vec::new());
                }
                let taken = ToHost::ExecCredit(id, bytes.len() as u32);
                if command.cat {
                    command.pending.extend(bytes);
                }
                self.flush(id, vec![taken])
            }
            ToGuest::ExecCredit(id, bytes) => {
                if let Some(command) = self.0.get_mut(&id) {
                    command.credit += bytes as usize;
                }
                self.flush(id, Vec::new())
            }
            ToGuest::ExecSignal(id, signal) => {
                if let Some(command) = self.0.get_mut(&id) {
                    command.end = Some(Exit { code: 128 + signal, signal, oom: false });
                }
                self.flush(id, Vec::new())
            }
            _ => Vec::new(),
        }
    }

    fn flush(&mut self, id: ExecId, mut out: Vec<ToHost>) -> Vec<ToHost> {
        let Some(command) = self.0.get_mut(&id) else { return out };
        while !command.pending.is_empty() && command.credit > 0 {
            let some = command.pending.len().min(command.credit).min(MAX_CHUNK);
            let chunk = command.pending.drain(..some).collect();
            command.credit -= some;
            out.push(ToHost::ExecOutput(id, Output::Stdout, chunk));
        }
        if let Some(exit) = command.end.filter(|_| command.pending.is_empty()) {
            self.0.remove(&id);
            out.push(ToHost::ExecExited(id, exit));
        }
        out
    }
}

impl Command {
    fn new(words: &[&str]) -> Option<Self> {
        let (cat, pending, end) = match words {
            ["echo", text @ ..] => (false, format!("{}\n", text.join(" ")), Some(Exit::default())),
            ["cat"] => (true, String::new(), None),
            ["false"] => (false, String::new(), Some(Exit { code: 1, ..Exit::default() })),
            ["spew", bytes] => (false, "x".repeat(bytes.parse().ok()?), Some(Exit::default())),
            ["sleep"] => (false, String::new(), None),
            _ => return None,
        };
        Some(Self { cat, pending: pending.into_bytes(), credit: WINDOW as usize, end })
    }
}
