//! The hosts of the platform: the owner of a machine called, or all hosts at once,
//! always with a deadline, so that one that is away holds nothing up.

use crate::lookup::{self, Machine};
use crate::{Error, Platform, placement};
use futures_util::future::join_all;
use host_api::{CallContext, Host, HostError, HostInfo, KnownHost};
use model::id::{HostId, MachineId};
use rt::Backoff;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Time that a host has to answer a question.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Time that a host has to take up a change.
pub(crate) const CHANGE_TIMEOUT: Duration = Duration::from_secs(60);

/// Pauses before a host whose stream has ended is asked again.
pub(crate) fn pauses() -> Backoff {
    Backoff::new(Duration::from_millis(200), Duration::from_secs(10))
}

/// A region that has hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Code.
    pub code: String,
    /// How many machines of a size there is memory for.
    pub capacity: u64,
}

/// Answers of some hosts, and the hosts that did not answer.
#[derive(Debug)]
pub(crate) struct Answers<T> {
    pub(crate) answered: Vec<(HostId, T)>,
    pub(crate) failed: Vec<(HostId, HostError)>,
}

impl<T> Answers<T> {
    /// The answers; a failure only if there is none.
    pub(crate) fn some(self) -> Result<Vec<T>, Error> {
        let Self { answered, mut failed } = self;
        match failed.pop() {
            Some((_, err)) if answered.is_empty() => Err(err.into()),
            _ => Ok(answered.into_iter().map(|(_, answer)| answer).collect()),
        }
    }
}

/// Ends a call to a host when its time is over, also if the host does not.
pub(crate) async fn within<T>(
    time: Duration,
    call: impl Future<Output = Result<T, HostError>>,
) -> Result<T, HostError> {
    tokio::time::timeout(time, call).await.unwrap_or_else(|_| {
        Err(HostError::DeadlineExceeded(format!("the host did not answer within {time:.0?}")))
    })
}

/// Asks all hosts at once.
pub(crate) async fn ask_all<T, F: Future<Output = Result<T, HostError>>>(
    platform: &Platform,
    ask: impl Fn(Arc<dyn Host>) -> F,
) -> Answers<T> {
    let asked = platform.hosts().all().into_iter().map(|KnownHost { id, host }| {
        let call = within(READ_TIMEOUT, ask(host));
        async move { (id, call.await) }
    });
    let mut answers = Answers { answered: Vec::new(), failed: Vec::new() };
    for (id, answer) in join_all(asked).await {
        match answer {
            Ok(answer) => answers.answered.push((id, answer)),
            Err(err) => {
                tracing::warn!(host = id.0, error = %err, "a host did not answer");
                answers.failed.push((id, err));
            }
        }
    }
    answers
}

/// The host of a number.
pub(crate) fn get(platform: &Platform, id: HostId) -> Result<Arc<dyn Host>, Error> {
    platform.hosts().get(id).ok_or_else(|| {
        HostError::unreachable(format!("host {id}, which owns the machine, is not known")).into()
    })
}

/// Whether a call is sent again when its answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeat {
    AfterLostAnswer,
    Never,
}

impl Machine {
    /// Calls the host that owns the machine, within `time`, for what may be done twice. If
    /// the ownership has changed since the record was read, the store's record is read,
    /// once. A call whose answer was lost is repeated, once.
    pub(crate) async fn call<T, F: Future<Output = Result<T, HostError>>>(
        &self,
        platform: &Platform,
        time: Duration,
        call: impl Fn(Arc<dyn Host>, CallContext, MachineId) -> F,
    ) -> Result<T, Error> {
        let context = platform.context(time);
        let context = match platform.request() {
            Some(request) => context.keyed(request.as_str()),
            None => context,
        };
        self.call_keyed(platform, context, Repeat::AfterLostAnswer, call).await
    }

    /// The same for what must not be done twice: its repetition has the same key.
    pub(crate) async fn call_once<T, F: Future<Output = Result<T, HostError>>>(
        &self,
        platform: &Platform,
        time: Duration,
        call: impl Fn(Arc<dyn Host>, CallContext, MachineId) -> F,
    ) -> Result<T, Error> {
        let random = || format!("{:032x}", platform.rng().wide_bits());
        let key = platform.request().map_or_else(random, |request| request.as_str().to_owned());
        let context = platform.context(time).keyed(key);
        self.call_keyed(platform, context, Repeat::AfterLostAnswer, call).await
    }

    /// The same for what must not be sent twice, since its host does not recognise a repetition.
    pub(crate) async fn call_unrepeated<T, F: Future<Output = Result<T, HostError>>>(
        &self,
        platform: &Platform,
        time: Duration,
        call: impl Fn(Arc<dyn Host>, CallContext, MachineId) -> F,
    ) -> Result<T, Error> {
        self.call_keyed(platform, platform.context(time), Repeat::Never, call).await
    }

    async fn call_keyed<T, F: Future<Output = Result<T, HostError>>>(
        &self,
        platform: &Platform,
        context: CallContext,
        repeat: Repeat,
        call: impl Fn(Arc<dyn Host>, CallContext, MachineId) -> F,
    ) -> Result<T, Error> {
        let attempt = async |owner: &Self| {
            let host = get(platform, owner.record.owner)?;
            let context = context.clone().at(owner.record.epoch);
            let ask = || {
                let (host, context) = (host.clone(), context.clone());
                within(context.deadline.remaining(), call(host, context, owner.id))
            };
            Ok::<_, Error>(match ask().await {
                Err(lost @ HostError::Unavailable { may_have_run: true, .. })
                    if repeat == Repeat::AfterLostAnswer =>
                {
                    match ask().await {
                        // The first call may have been carried out all the same.
                        Err(HostError::Unavailable { .. } | HostError::DeadlineExceeded(_)) => {
                            Err(lost)
                        }
                        repeated => repeated,
                    }
                }
                answer => answer,
            })
        };
        let first = attempt(self).await?;
        let Err(err) = first else { return first.map_err(Error::from) };
        if !err.is_about_ownership() {
            return Err(err.into());
        }
        match lookup::by_id_in_store(platform, self.id).await? {
            Some(now) if now.record.epoch != self.record.epoch => Ok(attempt(&now).await??),
            _ => Err(err.into()),
        }
    }
}

/// What each host that answers is and has.
///
/// # Errors
/// No host answered.
pub async fn infos(platform: &Platform) -> Result<Vec<HostInfo>, Error> {
    let context = platform.context(READ_TIMEOUT);
    let ask = |host: Arc<dyn Host>| {
        let context = context.clone();
        async move { host.info(context).await }
    };
    let answers = ask_all(platform, ask).await;
    let regions = answers.answered.iter().map(|(host, info)| (*host, info.region.clone()));
    platform.host_regions().extend(regions);
    answers.some()
}

/// Regions of the hosts, as each last answered in the life of this process.
pub(crate) fn last_regions(platform: &Platform) -> BTreeMap<HostId, String> {
    platform.host_regions().clone()
}

/// The same with the memory that the VMs really hold, which takes time to measure.
///
/// # Errors
/// No host answered.
pub async fn infos_with_usage(platform: &Platform) -> Result<Vec<HostInfo>, Error> {
    let context = platform.context(READ_TIMEOUT);
    let ask = |host: Arc<dyn Host>| {
        let context = context.clone();
        async move { host.info_with_usage(context).await }
    };
    ask_all(platform, ask).await.some()
}

/// Regions that have hosts, by code, and the code of the one that is used where none is
/// named. Their capacity is counted in machines of `memory_mb`; a host counts for each of its codes.
///
/// # Errors
/// No host answered.
pub async fn regions(platform: &Platform, memory_mb: u32) -> Result<(Vec<Region>, String), Error> {
    let infos = infos(platform).await?;
    let mut regions: BTreeMap<&str, u64> = BTreeMap::new();
    for host in &infos {
        let capacity = placement::free(host) / u64::from(memory_mb.max(1));
        placement::codes(host).for_each(|code| *regions.entry(code).or_default() += capacity);
    }
    let regions = regions.into_iter();
    let regions = regions.map(|(code, capacity)| Region { code: code.to_owned(), capacity });
    Ok((regions.collect(), placement::nearest(&infos).to_owned()))
}
