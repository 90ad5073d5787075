//! Machines of an app.

use crate::{Client, Error, LONG, SHORT, WAIT, Watch};
use reqwest::Method;
use std::collections::BTreeMap;
use std::time::Duration;
use wire::machines::*;

/// Which machines of an app.
#[derive(Clone, Debug, Default)]
pub struct ListMachines {
    /// Also destroyed ones, as long as they are remembered.
    pub include_deleted: bool,
    /// Only in this region.
    pub region: Option<String>,
    /// Only in one of these states.
    pub states: Vec<String>,
    /// Only on the host of this number.
    pub host: Option<u16>,
    /// Only with all of these labels.
    pub metadata: Vec<(String, String)>,
}

impl ListMachines {
    /// Not all machines that exist are listed.
    pub fn is_filtered(&self) -> bool {
        let place = self.region.is_some() || self.host.is_some();
        place || !self.states.is_empty() || !self.metadata.is_empty()
    }
}

/// How to restart.
#[derive(Clone, Debug, Default)]
pub struct RestartMachine {
    /// Signal name; absent means the config's.
    pub signal: Option<String>,
    /// Time until SIGKILL; absent means the config's.
    pub timeout: Option<Duration>,
    /// SIGKILL at once.
    pub force: bool,
}

/// What to wait for.
#[derive(Clone, Debug, Default)]
pub struct WaitQuery {
    /// Any of these states or `settled`.
    pub states: Vec<String>,
    /// Of this version; absent means the current one.
    pub version: Option<String>,
    /// Only what is newer than this event counts.
    pub from_event: Option<String>,
    /// At most [`WAIT`] is asked for in one call.
    pub timeout: Duration,
}

/// How to destroy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destroy {
    /// Only a machine that is down.
    IfDown,
    /// Also one that runs.
    Force,
}

impl Client {
    fn of_app(&self, method: Method, app: &str, rest: &[&str]) -> crate::transport::Call {
        let path = [&["v1", "apps", app, "machines"], rest].concat();
        self.call(method, &path).within(SHORT)
    }

    /// Machines of an app, oldest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn machines(&self, app: &str, which: &ListMachines) -> Result<Vec<Machine>, Error> {
        let mut pairs = Vec::new();
        if which.include_deleted {
            pairs.push(("include_deleted", "true".to_owned()));
        }
        pairs.extend(which.region.clone().map(|v| ("region", v)));
        pairs.extend(which.host.map(|v| ("host", v.to_string())));
        if !which.states.is_empty() {
            pairs.push(("state", which.states.join(",")));
        }
        let labels = which.metadata.iter();
        let labels: Vec<_> = labels.map(|(key, v)| (format!("metadata.{key}"), v)).collect();
        pairs.extend(labels.iter().map(|(key, value)| (key.as_str(), (*value).clone())));
        self.json(self.of_app(Method::GET, app, &[]).query(&pairs)).await
    }

    /// One machine, by id or name.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn machine(&self, app: &str, id: &str) -> Result<Machine, Error> {
        self.json(self.of_app(Method::GET, app, &[id])).await
    }

    /// The health checks of a machine, each with its newest run.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn machine_checks(&self, app: &str, id: &str) -> Result<Vec<CheckReport>, Error> {
        self.json(self.of_app(Method::GET, app, &[id, "checks"])).await
    }

    /// Runs of a machine with a schedule, newest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn runs(&self, app: &str, id: &str, limit: u32) -> Result<Vec<ScheduleRun>, Error> {
        let limit = [("limit", limit.to_string())];
        self.json(self.of_app(Method::GET, app, &[id, "runs"]).query(&limit)).await
    }

    /// Begins a run of a machine with a schedule.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn run_now(&self, app: &str, id: &str) -> Result<ScheduleRun, Error> {
        self.json(self.of_app(Method::POST, app, &[id, "runs"]).within(LONG)).await
    }

    /// Makes a machine. The image may have to be pulled first, so this may take
    /// up to [`LONG`].
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_machine(&self, app: &str, ask: &LaunchMachine) -> Result<Machine, Error> {
        self.json(self.of_app(Method::POST, app, &[]).within(LONG).body(ask)).await
    }

    /// Gives a machine a new config, as a new version of it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn update_machine(
        &self,
        app: &str,
        id: &str,
        ask: &LaunchMachine,
    ) -> Result<Machine, Error> {
        self.json(self.of_app(Method::POST, app, &[id]).within(LONG).body(ask)).await
    }

    /// Asks a machine to run.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn start_machine(&self, app: &str, id: &str) -> Result<Started, Error> {
        self.json(self.of_app(Method::POST, app, &[id, "start"])).await
    }

    /// Asks a machine to be down.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn stop_machine(&self, app: &str, id: &str, how: &StopMachine) -> Result<(), Error> {
        self.done(self.of_app(Method::POST, app, &[id, "stop"]).body(how)).await
    }

    /// Asks a machine that runs to be suspended: down, with its memory kept for
    /// the next start.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn suspend_machine(&self, app: &str, id: &str) -> Result<(), Error> {
        self.done(self.of_app(Method::POST, app, &[id, "suspend"])).await
    }

    /// Stop and start.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn restart_machine(
        &self,
        app: &str,
        id: &str,
        how: &RestartMachine,
    ) -> Result<(), Error> {
        let mut pairs = Vec::new();
        pairs.extend(how.signal.clone().map(|v| ("signal", v)));
        pairs.extend(how.timeout.map(|v| ("timeout", format!("{}s", v.as_secs()))));
        if how.force {
            pairs.push(("force_stop", "true".to_owned()));
        }
        let limit = SHORT + how.timeout.unwrap_or_default();
        let call = self.of_app(Method::POST, app, &[id, "restart"]).within(limit);
        self.done(call.query(&pairs)).await
    }

    /// Sends a signal to the main process.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn signal_machine(
        &self,
        app: &str,
        id: &str,
        signal: SignalName,
    ) -> Result<(), Error> {
        let body = SignalMachine { signal };
        self.done(self.of_app(Method::POST, app, &[id, "signal"]).body(&body)).await
    }

    /// Deletes a machine.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn destroy_machine(&self, app: &str, id: &str, how: Destroy) -> Result<(), Error> {
        let mut call = self.of_app(Method::DELETE, app, &[id]);
        if how == Destroy::Force {
            call = call.query(&[("force", "true".to_owned())]);
        }
        self.done(call).await
    }

    /// Takes a machine out of routing, or back in.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cordon_machine(&self, app: &str, id: &str, cordoned: bool) -> Result<(), Error> {
        let verb = if cordoned { "cordon" } else { "uncordon" };
        self.done(self.of_app(Method::POST, app, &[id, verb])).await
    }

    /// The lease that is held on a machine, with its nonce.
    ///
    /// # Errors
    /// See [`Error`]; 404 if there is none.
    pub async fn lease(&self, app: &str, id: &str) -> Result<Lease, Error> {
        let answer: LeaseAnswer = self.json(self.of_app(Method::GET, app, &[id, "lease"])).await?;
        Ok(answer.data)
    }

    /// Ends the lease of this nonce.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn release_lease(&self, app: &str, id: &str, nonce: &str) -> Result<(), Error> {
        let call = self.of_app(Method::DELETE, app, &[id, "lease"]);
        self.done(call.header("fly-machine-lease-nonce", nonce)).await
    }

    /// Waits for a state, for at most [`WAIT`]; the server answers 408 when the
    /// time is over.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn wait_machine(
        &self,
        app: &str,
        id: &str,
        wait: &WaitQuery,
    ) -> Result<WaitResult, Error> {
        // The server counts whole seconds, and at least one.
        let secs = wait.timeout.min(WAIT).as_secs_f64().ceil().max(1.0) as u64;
        let mut pairs = vec![("timeout", secs.to_string())];
        if !wait.states.is_empty() {
            pairs.push(("state", wait.states.join(",")));
        }
        pairs.extend(wait.version.clone().map(|v| ("version", v)));
        pairs.extend(wait.from_event.clone().map(|v| ("from_event_id", v)));
        let limit = Duration::from_secs(secs) + SHORT;
        let call = self.of_app(Method::GET, app, &[id, "wait"]).within(limit);
        self.json(call.query(&pairs)).await
    }

    /// Runs a command in a machine and returns what it wrote.
    ///
    /// # Errors
    /// See [`Error`]. A command that fails is no error.
    pub async fn exec_machine(
        &self,
        app: &str,
        id: &str,
        command: &ExecMachine,
    ) -> Result<ExecResult, Error> {
        let limit = command.timeout.map_or(LONG, |secs| Duration::from_secs(secs) + SHORT);
        let call = self.of_app(Method::POST, app, &[id, "exec"]).within(limit);
        self.json(call.body(command)).await
    }

    /// Newest events first; with `before` those that precede the event of that id.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn events(
        &self,
        app: &str,
        id: &str,
        limit: u32,
        before: Option<&str>,
    ) -> Result<Vec<MachineEvent>, Error> {
        let mut pairs = vec![("limit", limit.to_string())];
        pairs.extend(before.map(|id| ("before", id.to_owned())));
        self.json(self.of_app(Method::GET, app, &[id, "events"]).query(&pairs)).await
    }

    /// The labels of a machine.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn metadata(&self, app: &str, id: &str) -> Result<BTreeMap<String, String>, Error> {
        self.json(self.of_app(Method::GET, app, &[id, "metadata"])).await
    }

    /// Changes labels of a machine, all at once; the others stay.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn change_metadata(
        &self,
        app: &str,
        id: &str,
        change: &MetadataChange,
    ) -> Result<(), Error> {
        self.done(self.of_app(Method::PATCH, app, &[id, "metadata"]).body(change)).await
    }

    /// The events of a machine as they happen, from now on or after the event of an id that an
    /// earlier [`Watch`] had.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn watch_machine(
        &self,
        app: &str,
        id: &str,
        after: Option<&str>,
    ) -> Result<Watch, Error> {
        let path = ["v1", "apps", app, "machines", id, "events", "stream"];
        let mut call = self.call(Method::GET, &path).header("accept", "text/event-stream");
        if let Some(after) = after {
            call = call.header("last-event-id", after);
        }
        let name = call.name.clone();
        Ok(Watch::new(name, self.send(call).await?, after))
    }

    /// Processes in the guest.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn processes(&self, app: &str, id: &str) -> Result<Vec<Process>, Error> {
        self.json(self.of_app(Method::GET, app, &[id, "ps"])).await
    }
}
