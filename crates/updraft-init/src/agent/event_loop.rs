//! The event loop: one thread that owns all state, and one poll for all events.

use super::state::State;
use crate::boot::startup::Booted;
use crate::process::exec::Stream;
use crate::process::resume_hook::ResumeHook;
use crate::process::signals;
use crate::system::{kernel_log, power};
use guest_protocol::{ApiId, ExecId, MAX_CHUNK, Phase, ToHost};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// The sources that the poll found ready.
enum Ready {
    Port,
    Children,
    Worker,
    /// A stream of the unit at this place.
    Unit(usize, Stream),
    Exec(ExecId, Stream),
    Hook,
    /// The listener of the Machines API at this place.
    ApiListener(usize),
    Api(ApiId),
}

/// The event loop of init.
pub(crate) struct EventLoop {
    state: State,
    children: OwnedFd,
    buffer: Vec<u8>,
}

impl EventLoop {
    /// Takes over from boot.
    pub(crate) fn new(booted: Booted) -> Self {
        let (Ok(state), Ok(children)) = (State::new(booted), signals::child_events()) else {
            kernel_log::write("cannot make an event descriptor");
            power::off(None)
        };
        Self { state, children, buffer: vec![0; MAX_CHUNK] }
    }

    /// Runs until power goes off.
    pub(crate) fn run(mut self) -> ! {
        self.state.watch_listeners();
        loop {
            self.recv_messages();
            self.tick();
            let State { port, outbox, power_off_at, scratch, .. } = &mut self.state;
            outbox.flush(|bytes| port.write(bytes));
            let flushed = outbox.is_empty();
            if power_off_at.is_some_and(|at| flushed || at <= Instant::now()) {
                power::off(scratch.as_ref());
            }
            for ready in self.wait() {
                self.serve(ready);
            }
        }
    }

    /// Waits until something can be done or is due.
    fn wait(&self) -> Vec<Ready> {
        let state = &self.state;
        let mut tags = vec![Ready::Port, Ready::Worker, Ready::Children];
        let mut polls = vec![
            PollFd::from_borrowed_fd(state.port.edges(), PollFlags::IN),
            PollFd::from_borrowed_fd(state.notifier.wakeup_fd(), PollFlags::IN),
            PollFd::new(&self.children, PollFlags::IN),
        ];
        for (unit, which, fd) in state.units.streams() {
            tags.push(Ready::Unit(unit, which));
            polls.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        for (id, which, fd) in state.execs.streams(state.outbox.bulk_is_full()) {
            let flags = if which == Stream::In { PollFlags::OUT } else { PollFlags::IN };
            tags.push(Ready::Exec(id, which));
            polls.push(PollFd::from_borrowed_fd(fd, flags));
        }
        for fd in state.hook.iter().flat_map(ResumeHook::outputs) {
            tags.push(Ready::Hook);
            polls.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        for (listener, fd) in state.api.listeners(&state.outbox).enumerate() {
            tags.push(Ready::ApiListener(listener));
            polls.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        for (id, fd, flags) in state.api.clients() {
            tags.push(Ready::Api(id));
            polls.push(PollFd::from_borrowed_fd(fd, flags));
        }
        let left = self.next_tick().map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = left.map(timespec);
        let _ = rustix::event::poll(&mut polls, timeout.as_ref());
        let ready = polls.iter().map(|p| !p.revents().is_empty());
        tags.into_iter().zip(ready).filter_map(|(tag, ready)| ready.then_some(tag)).collect()
    }

    fn next_tick(&self) -> Option<Instant> {
        let state = &self.state;
        let units = state.units.next_tick();
        // A host that does not read must not make init hold ever more changes.
        let congested = state.outbox.is_congested();
        let scan = state.listeners.next_scan().filter(|_| !congested);
        // Room for answers has come back since the host was last read.
        let read = (!congested && state.port.may_read()).then(Instant::now);
        let write = state.port.quiet_until();
        let hook = state.hook.as_ref().map(ResumeHook::next_tick);
        let all = [units, state.execs.next_tick(), hook, scan, read, write, state.power_off_at];
        all.into_iter().flatten().min()
    }

    fn serve(&mut self, ready: Ready) {
        let (state, buffer) = (&mut self.state, &mut self.buffer);
        match ready {
            Ready::Port => state.port.take_edge(),
            Ready::Children => self.reap(),
            Ready::Worker => state.on_worker_events(),
            Ready::Unit(unit, which) => {
                state.units.read(unit, which, buffer, &mut state.outbox.logs);
            }
            Ready::Exec(id, which) => state.execs.ready(id, which, buffer, &mut state.outbox),
            Ready::Hook => {
                if let Some(hook) = &mut state.hook {
                    hook.read(buffer, &mut state.outbox.logs);
                }
            }
            Ready::ApiListener(listener) => state.api.accept(listener, &mut state.outbox),
            Ready::Api(id) => state.api.serve(id, buffer, &mut state.outbox),
        }
    }

    /// Reads messages of the host, as long as answers have room.
    fn recv_messages(&mut self) {
        let state = &mut self.state;
        let mut messages = Vec::new();
        // While the host is away no room comes back, and only reading shows its return.
        while state.port.may_read() && (!state.outbox.is_congested() || state.port.is_away()) {
            state.port.read(&mut messages);
            for message in messages.drain(..) {
                state.dispatch(message);
            }
        }
    }

    fn reap(&mut self) {
        let state = &mut self.state;
        // One read empties it: the kernel merges what it announces.
        let _ = rustix::io::read(&self.children, &mut [0u8; 128][..]);
        while let Some((pid, ended)) = signals::reap() {
            let unit = state.units.child_ended(pid, ended);
            let hook = state.hook.as_mut().is_some_and(|hook| hook.child_ended(pid, ended));
            // None of them: an orphan that the kernel gave to pid 1.
            let _ = unit || hook || state.execs.child_ended(pid, ended);
        }
    }

    /// Does what is due by time, and what follows from earlier events.
    fn tick(&mut self) {
        let state = &mut self.state;
        let scan = state.listeners.next_scan().is_some_and(|at| at <= Instant::now());
        if scan && !state.outbox.is_congested() {
            let changes = state.listeners.scan();
            state.report_listeners(changes);
        }
        state.execs.tick(&mut state.outbox);
        if let Some(result) = state.hook.as_mut().and_then(ResumeHook::tick) {
            state.hook = None;
            if let Some(line) = result {
                state.log(&line);
            }
        }
        let over = state.units.tick(&state.notifier, &mut state.outbox.logs);
        for status in state.units.changes() {
            state.outbox.control(ToHost::Unit(status));
        }
        if let Some(exit) = over {
            let changes = state.listeners.end();
            state.report_listeners(changes);
            state.phase = Phase::Exited(exit);
            state.outbox.final_message(ToHost::Exited(exit));
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}
