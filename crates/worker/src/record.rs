//! The durable record of one machine.

use guest_protocol::Exit;
use host_api::CreateMachine;
use model::address::{MachineNumber, Slot};
use model::id::{
    AppId, AppName, BootId, Epoch, InstanceId, MachineId, MachineName, NetworkId, OrgId, OrgSlug,
};
use model::life::{State, Want};
use model::restart::Policy;
use model::signal::SIGINT;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use wire::machines::{ImageRef, MachineConfig};

/// One machine, as `host.db` stores it. Every change of it is durable before it is
/// shown.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) id: MachineId,
    /// Ownership under which this host has it.
    pub(crate) epoch: Epoch,
    /// Another host owns the machine at this epoch: what is here of it is removed.
    pub(crate) given_up: Option<Epoch>,
    pub(crate) app: AppId,
    pub(crate) app_name: AppName,
    pub(crate) org: OrgId,
    pub(crate) org_slug: OrgSlug,
    /// Its 6PN address follows from it.
    pub(crate) number: MachineNumber,
    pub(crate) network: NetworkId,
    pub(crate) name: MachineName,
    /// The code of its host's region that it was asked for.
    pub(crate) region: Option<String>,
    /// `None` once it is destroyed: another machine may get the slot.
    pub(crate) slot: Option<Slot>,
    pub(crate) state: State,
    pub(crate) want: Want,
    pub(crate) instance: InstanceId,
    pub(crate) config: Arc<MachineConfig>,
    pub(crate) image: ImageRef,
    /// What the images of its containers resolved to, by reference.
    pub(crate) container_images: BTreeMap<String, ImageRef>,
    pub(crate) cordoned: bool,
    /// It is given none of its app's secrets.
    pub(crate) skip_secrets: bool,
    /// Version of its app's secrets that its last boot was given.
    pub(crate) secrets_version: Option<u64>,
    /// The boot whose VM may exist. Recorded before the VM is made and removed
    /// after the VM is gone, so that every VM has an owner.
    pub(crate) boot: Option<BootId>,
    /// How the main process of `boot` ended; its VM is being taken down.
    pub(crate) exit: Option<Exit>,
    /// A stop that is under way.
    pub(crate) stop: Option<StopRequest>,
    /// Times of restarts by policy, milliseconds since the epoch.
    pub(crate) restarts: Vec<u64>,
    /// When the next start is due, milliseconds since the epoch.
    pub(crate) restart_at: Option<u64>,
    /// It has declared itself busy until then, milliseconds since the epoch.
    pub(crate) busy_until: Option<u64>,
    /// Why the last start failed or the policy gave up.
    pub(crate) failure: Option<String>,
    /// The run whose snapshot the next start restores.
    pub(crate) snapshot: Option<BootId>,
    /// The writable layer belongs to a process that was suspended and whose memory
    /// may be lost: the next boot keeps it. Reset once the process is known to run.
    pub(crate) keep_scratch: bool,
    /// It was created without a launch and has not been started since: an update leaves it
    /// down, too.
    pub(crate) never_started: bool,
    /// STOPSIGNAL of the image, once it has been read.
    pub(crate) image_stop_signal: Option<i32>,
    pub(crate) created_ms: u64,
    pub(crate) updated_ms: u64,
}

/// How a main process is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StopRequest {
    /// Linux number.
    pub(crate) signal: i32,
    /// Milliseconds until SIGKILL.
    pub(crate) timeout_ms: u64,
}

/// Whether the writable layer outlives a boot (`rootfs.persist` of the config).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persist {
    Never,
    Restart,
    Always,
}

const DEFAULT_VCPUS: u32 = 1;
const DEFAULT_MEMORY_MIB: u32 = 256;
const DEFAULT_SCRATCH_GB: u64 = 8;
const DEFAULT_STOP: Duration = Duration::from_secs(5);
const LONGEST_STOP: Duration = Duration::from_secs(300);

impl Record {
    /// The config of this record alone: views of the machine keep the one they have.
    pub(crate) fn config_mut(&mut self) -> &mut MachineConfig {
        Arc::make_mut(&mut self.config)
    }

    /// The code of its region, on a host whose region has this one.
    pub(crate) fn region<'a>(&'a self, of_host: &'a str) -> &'a str {
        self.region.as_deref().unwrap_or(of_host)
    }

    pub(crate) fn new(
        create: CreateMachine,
        instance: InstanceId,
        slot: Slot,
        now_ms: u64,
    ) -> Self {
        let launch = !create.skip_launch && !is_standby(&create.config);
        Self {
            id: create.id,
            epoch: create.epoch,
            given_up: None,
            app: create.app,
            app_name: create.app_name,
            org: create.org,
            org_slug: create.org_slug,
            number: create.number,
            network: create.network,
            name: create.name,
            region: create.region,
            slot: Some(slot),
            state: State::Created,
            want: if launch { Want::Run } else { Want::Stop },
            instance,
            config: Arc::new(create.config),
            image: create.image,
            container_images: create.container_images,
            cordoned: create.cordoned,
            skip_secrets: create.skip_secrets,
            secrets_version: None,
            boot: None,
            exit: None,
            stop: None,
            restarts: Vec::new(),
            restart_at: None,
            busy_until: None,
            failure: None,
            snapshot: None,
            keep_scratch: false,
            never_started: create.skip_launch,
            image_stop_signal: None,
            created_ms: now_ms,
            updated_ms: now_ms,
        }
    }

    /// The machine was made by this create.
    pub(crate) fn is_of(&self, create: &CreateMachine) -> bool {
        let identity = (self.id, self.app, self.org, self.network, self.number);
        let same = identity == (create.id, create.app, create.org, create.network, create.number)
            && self.name == create.name;
        // An update has changed the config since.
        let updated = self.instance.parts().0 > self.created_ms;
        // Labels change without one.
        let unlabelled =
            |config: &MachineConfig| MachineConfig { metadata: None, ..config.clone() };
        same && (updated || unlabelled(&self.config) == unlabelled(&create.config))
    }

    /// Reference of the image of its root: the machine's, else that of its first container.
    pub(crate) fn image_reference(&self) -> &str {
        let first = self.config.containers.iter().flatten().find_map(|c| c.image.as_deref());
        match self.config.image.as_str() {
            "" => first.unwrap_or_default(),
            image => image,
        }
    }

    /// Digests of all of its images.
    pub(crate) fn digests(&self) -> BTreeSet<&str> {
        let all = self.container_images.values().chain([&self.image]);
        all.map(|image| image.digest.as_str()).collect()
    }

    pub(crate) fn vcpus(&self) -> u32 {
        self.config.guest.as_ref().and_then(|g| g.cpus).unwrap_or(DEFAULT_VCPUS).max(1)
    }

    pub(crate) fn memory_mib(&self) -> u32 {
        self.config.guest.as_ref().and_then(|g| g.memory_mb).unwrap_or(DEFAULT_MEMORY_MIB)
    }

    pub(crate) fn policy(&self) -> Policy {
        let restart = self.config.restart.as_ref();
        let word = restart.and_then(|r| r.policy.as_deref());
        let parsed = Policy::parse(word, restart.and_then(|r| r.max_retries));
        // The API refuses an unknown policy.
        parsed.unwrap_or(Policy::No)
    }

    /// Why it cannot be suspended, if so. There is no memory limit.
    pub(crate) fn unsuspendable(&self) -> Option<&'static str> {
        let swap = self.config.init.as_ref().and_then(|init| init.swap_size_mb);
        if swap.unwrap_or(0) > 0 {
            return Some("it has swap (init.swap_size_mb)");
        }
        let scheduled = self.config.schedule.as_ref().is_some_and(|word| !word.is_empty());
        scheduled.then_some("it runs on a schedule")
    }

    /// Its config names volumes.
    pub(crate) fn has_volumes(&self) -> bool {
        self.config.mounts.as_ref().is_some_and(|mounts| !mounts.is_empty())
    }

    /// Its snapshot and the writable layer that belongs to it are no longer used.
    pub(crate) fn drop_snapshot(&mut self) {
        (self.snapshot, self.keep_scratch) = (None, false);
    }

    /// Its process group: a label, or the default (fly.io/docs/launch/processes).
    pub(crate) fn process_group(&self) -> &str {
        let labels = self.config.metadata.as_ref();
        labels.and_then(|labels| labels.get("fly_process_group")).map_or("app", String::as_str)
    }

    /// It takes over for another machine, and is not started otherwise.
    pub(crate) fn is_standby(&self) -> bool {
        is_standby(&self.config)
    }

    pub(crate) fn auto_destroy(&self) -> bool {
        self.config.auto_destroy == Some(true)
    }

    pub(crate) fn persist(&self) -> Persist {
        let rootfs = self.config.rootfs.as_ref().and_then(|r| r.persist.as_deref());
        let guest = self.config.guest.as_ref().and_then(|g| g.persist_rootfs.as_deref());
        match rootfs.or(guest) {
            Some("always") => Persist::Always,
            Some("restart") => Persist::Restart,
            _ => Persist::Never,
        }
    }

    /// File of the writable layer. Its name shows what it is kept for, so that a layer
    /// of another instance or policy is never used.
    pub(crate) fn scratch_name(&self) -> String {
        match self.persist() {
            Persist::Never => "scratch.ext4".into(),
            Persist::Restart => format!("scratch-{}.ext4", self.instance),
            Persist::Always => "scratch-always.ext4".into(),
        }
    }

    pub(crate) fn scratch_bytes(&self) -> u64 {
        let asked = self.config.rootfs.as_ref().and_then(|r| r.size_gb).unwrap_or(0);
        let gb = if asked == 0 { DEFAULT_SCRATCH_GB } else { u64::from(asked) };
        gb << 30
    }

    /// The stop of the request. The signal is that of the request, else the config's,
    /// else the image's, else SIGINT; the timeout that of the request, else the config's.
    pub(crate) fn stop_request(&self, signal: Option<i32>, timeout_ms: Option<u64>) -> StopRequest {
        let config = self.config.stop_config.as_ref();
        let named = config.and_then(|c| c.signal.as_deref()).and_then(model::signal::number);
        let timeout = config.and_then(|c| c.timeout.as_ref()).and_then(|span| span.get());
        let timeout = timeout_ms.map_or(timeout.unwrap_or(DEFAULT_STOP), Duration::from_millis);
        StopRequest {
            signal: signal.or(named).or(self.image_stop_signal).unwrap_or(SIGINT),
            timeout_ms: timeout.min(LONGEST_STOP).as_millis() as u64,
        }
    }
}

pub(crate) fn is_standby(config: &MachineConfig) -> bool {
    config.standbys.as_ref().is_some_and(|of| !of.is_empty())
}

/// What can be read of a record that does not parse as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RecordParts {
    /// Digest of its root image.
    pub(crate) digest: Option<String>,
    /// Digests of the images of its containers.
    pub(crate) container_digests: Vec<String>,
    pub(crate) vcpus: Option<u32>,
    pub(crate) memory_mib: Option<u32>,
}

impl RecordParts {
    pub(crate) fn of(text: &str) -> Self {
        let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        let number = |path| value.pointer(path)?.as_u64()?.try_into().ok();
        let digest = value.pointer("/image/digest").and_then(|digest| digest.as_str());
        Self {
            digest: digest.filter(|digest| !digest.is_empty()).map(str::to_owned),
            container_digests: container_digests(&value),
            vcpus: number("/config/guest/cpus"),
            memory_mib: number("/config/guest/memory_mb"),
        }
    }

    /// As [`Record::vcpus`].
    pub(crate) fn vcpus(&self) -> u32 {
        self.vcpus.unwrap_or(DEFAULT_VCPUS).max(1)
    }

    /// As [`Record::memory_mib`].
    pub(crate) fn memory_mib(&self) -> u32 {
        self.memory_mib.unwrap_or(DEFAULT_MEMORY_MIB)
    }
}

fn container_digests(record: &serde_json::Value) -> Vec<String> {
    let images = record.get("container_images").and_then(|images| images.as_object());
    let digests = images.into_iter().flat_map(|images| images.values());
    let digests = digests.filter_map(|image| Some(image.get("digest")?.as_str()?.to_owned()));
    digests.collect()
}

/// Ids of apps and organizations, by app name and organization slug.
pub(crate) type Owners = BTreeMap<(String, String), (AppId, OrgId)>;

/// Ownership of machines that were made before ownership had epochs.
const FIRST_EPOCH: Epoch = Epoch(1);

/// Names of app and organization of a record of the first version.
pub(crate) fn names_without_ids(text: &str) -> Option<(String, String)> {
    let stored: Stored = serde_json::from_str(text).ok()?;
    stored.app_id.is_none().then_some((stored.app, stored.org))
}

/// The stored form: ids as text, so that `model` needs no serde.
#[derive(Serialize, Deserialize)]
struct Stored {
    id: String,
    #[serde(default)]
    epoch: Option<Epoch>,
    #[serde(default)]
    given_up: Option<Epoch>,
    /// Absent in records of the first version; so are the next two.
    #[serde(default)]
    app_id: Option<AppId>,
    #[serde(default)]
    org_id: Option<OrgId>,
    #[serde(default)]
    number: Option<MachineNumber>,
    app: String,
    org: String,
    network: u32,
    name: String,
    slot: Option<u16>,
    state: String,
    want: String,
    instance: String,
    config: Arc<MachineConfig>,
    image: ImageRef,
    #[serde(default)]
    container_images: BTreeMap<String, ImageRef>,
    cordoned: bool,
    boot: Option<String>,
    exit: Option<Exit>,
    stop: Option<StopRequest>,
    restarts: Vec<u64>,
    restart_at: Option<u64>,
    #[serde(default)]
    busy_until: Option<u64>,
    failure: Option<String>,
    #[serde(default)]
    snapshot: Option<String>,
    #[serde(default)]
    keep_scratch: bool,
    #[serde(default)]
    never_started: bool,
    #[serde(default)]
    image_stop_signal: Option<i32>,
    #[serde(default)]
    region: Option<String>,
    #[serde(default)]
    skip_secrets: bool,
    #[serde(default)]
    secrets_version: Option<u64>,
    created_ms: u64,
    updated_ms: u64,
}

impl Record {
    pub(crate) fn to_json(&self) -> String {
        let stored = Stored {
            id: self.id.to_string(),
            epoch: Some(self.epoch),
            given_up: self.given_up,
            app_id: Some(self.app),
            org_id: Some(self.org),
            number: Some(self.number),
            app: self.app_name.to_string(),
            org: self.org_slug.to_string(),
            network: self.network.0,
            name: self.name.to_string(),
            region: self.region.clone(),
            slot: self.slot.map(|slot| slot.0),
            state: self.state.as_str().into(),
            want: want_word(self.want).into(),
            instance: self.instance.to_string(),
            config: self.config.clone(),
            image: self.image.clone(),
            container_images: self.container_images.clone(),
            cordoned: self.cordoned,
            boot: self.boot.map(|boot| boot.to_string()),
            exit: self.exit,
            stop: self.stop,
            restarts: self.restarts.clone(),
            restart_at: self.restart_at,
            busy_until: self.busy_until,
            failure: self.failure.clone(),
            snapshot: self.snapshot.map(|boot| boot.to_string()),
            keep_scratch: self.keep_scratch,
            never_started: self.never_started,
            image_stop_signal: self.image_stop_signal,
            skip_secrets: self.skip_secrets,
            secrets_version: self.secrets_version,
            created_ms: self.created_ms,
            updated_ms: self.updated_ms,
        };
        serde_json::to_string(&stored).expect("plain data serializes")
    }

    /// `owners` are the ids of apps and organizations by their names, for records of
    /// the first version.
    pub(crate) fn from_json(text: &str, owners: &Owners) -> Result<Self, String> {
        let stored: Stored = serde_json::from_str(text).map_err(|err| err.to_string())?;
        let bad = |err: model::id::BadId| err.to_string();
        let id: MachineId = stored.id.parse().map_err(bad)?;
        let names = (stored.app.clone(), stored.org.clone());
        let destroyed = stored.state == State::Destroyed.as_str();
        let owner = match (stored.app_id, stored.org_id) {
            (Some(app), Some(org)) => Some((app, org)),
            _ => owners.get(&names).copied(),
        };
        // The app of a destroyed machine may be gone, and is not needed.
        let owner = owner.or_else(|| destroyed.then(Default::default));
        let (app, org) = owner.ok_or_else(|| format!("the id of app {} is unknown", names.0))?;
        let of_slot =
            || MachineNumber::of_slot(id.legacy_host(), Slot(stored.slot.unwrap_or_default()));
        Ok(Self {
            id,
            epoch: stored.epoch.unwrap_or(FIRST_EPOCH),
            given_up: stored.given_up,
            app,
            app_name: stored.app.parse().map_err(bad)?,
            org,
            org_slug: stored.org.parse().map_err(bad)?,
            number: stored.number.unwrap_or_else(of_slot),
            network: NetworkId(stored.network),
            name: stored.name.parse().map_err(bad)?,
            region: stored.region,
            slot: stored.slot.map(Slot),
            state: State::parse(&stored.state).ok_or("unknown state")?,
            want: parse_want(&stored.want).ok_or("unknown want")?,
            instance: stored.instance.parse().map_err(bad)?,
            config: stored.config,
            image: stored.image,
            container_images: stored.container_images,
            cordoned: stored.cordoned,
            boot: stored.boot.map(|boot| boot.parse()).transpose().map_err(bad)?,
            exit: stored.exit,
            stop: stored.stop,
            restarts: stored.restarts,
            restart_at: stored.restart_at,
            busy_until: stored.busy_until,
            failure: stored.failure,
            snapshot: stored.snapshot.map(|boot| boot.parse()).transpose().map_err(bad)?,
            keep_scratch: stored.keep_scratch,
            never_started: stored.never_started,
            image_stop_signal: stored.image_stop_signal,
            skip_secrets: stored.skip_secrets,
            secrets_version: stored.secrets_version,
            created_ms: stored.created_ms,
            updated_ms: stored.updated_ms,
        })
    }
}

fn want_word(want: Want) -> &'static str {
    match want {
        Want::Run => "run",
        Want::Stop => "stop",
        Want::Destroy => "destroy",
    }
}

fn parse_want(word: &str) -> Option<Want> {
    [Want::Run, Want::Stop, Want::Destroy].into_iter().find(|&want| want_word(want) == word)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use wire::machines::{Guest, Rootfs, Span, StopConfig};

    pub(crate) fn sample() -> Record {
        let create = CreateMachine {
            id: MachineId::from_random(7),
            epoch: Epoch(1),
            number: MachineNumber::allocated(7).unwrap(),
            app: AppId(3),
            app_name: "web".parse().unwrap(),
            org: OrgId(1),
            org_slug: "personal".parse().unwrap(),
            network: NetworkId(1),
            name: "calm-river-1".parse().unwrap(),
            region: None,
            config: MachineConfig { image: "web:1".into(), ..MachineConfig::default() },
            image: ImageRef::default(),
            container_images: BTreeMap::new(),
            skip_launch: false,
            cordoned: false,
            skip_secrets: false,
            lease: None,
        };
        Record::new(create, InstanceId::new(1, 2), Slot(3), 1000)
    }

    #[test]
    fn a_stored_record_is_read_back_unchanged() {
        let mut record = sample();
        record.boot = Some(BootId::new(5, 6));
        record.busy_until = Some(7);
        let image = ImageRef { digest: "sha256:1".into(), ..ImageRef::default() };
        record.container_images.insert("redis:7".into(), image);
        let parts = RecordParts::of(&record.to_json());
        assert_eq!(parts.container_digests, ["sha256:1"]);
        record.exit = Some(Exit { code: 1, signal: 0, oom: false });
        (record.snapshot, record.keep_scratch) = (Some(BootId::new(7, 8)), true);
        (record.skip_secrets, record.secrets_version) = (true, Some(9));
        assert_eq!(Record::from_json(&record.to_json(), &Owners::new()), Ok(record));
    }

    #[test]
    fn stops_are_bounded() {
        let mut record = sample();
        record.image_stop_signal = Some(3);
        assert_eq!(record.stop_request(None, None).signal, 3, "the image's");
        record.image_stop_signal = None;
        let order = |r: &Record, s, t| r.stop_request(s, t);
        assert_eq!(order(&record, None, None), StopRequest { signal: 2, timeout_ms: 5000 });
        record.config_mut().stop_config = Some(StopConfig {
            signal: Some("SIGTERM".into()),
            timeout: Some(Span::Text("10m".into())),
            ..StopConfig::default()
        });
        assert_eq!(order(&record, None, None), StopRequest { signal: 15, timeout_ms: 300_000 });
        assert_eq!(order(&record, Some(9), Some(0)), StopRequest { signal: 9, timeout_ms: 0 });
    }

    #[test]
    fn the_writable_layer_is_kept_as_configured() {
        let mut record = sample();
        let persist = |word: &str| Some(Rootfs { persist: Some(word.into()), ..Rootfs::default() });
        assert_eq!(record.persist(), Persist::Never);
        let guest = Guest { persist_rootfs: Some("always".into()), ..Guest::default() };
        record.config_mut().guest = Some(guest);
        assert_eq!(record.persist(), Persist::Always, "the earlier field");
        assert_eq!(record.scratch_bytes(), 8 << 30);
        record.config_mut().rootfs = Some(Rootfs { size_gb: Some(3), ..Rootfs::default() });
        assert_eq!((record.scratch_bytes(), record.persist()), (3 << 30, Persist::Always));
        record.config_mut().rootfs = persist("restart");
        let first = record.scratch_name();
        assert_eq!(record.scratch_name(), first);
        record.instance = InstanceId::new(9, 9);
        assert_ne!(record.scratch_name(), first, "an update begins afresh");
        record.config_mut().rootfs = persist("always");
        let always = record.scratch_name();
        record.instance = InstanceId::new(10, 9);
        assert_eq!(record.scratch_name(), always);
    }
}
