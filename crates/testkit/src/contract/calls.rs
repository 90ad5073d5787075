//! Calls that several parts of the contract of `host_api::Host` make.

use host_api::{CallContext, Caller, CreateMachine, Deadline, Host, Source, WaitFor};
use model::address::MachineNumber;
use model::id::{AppId, Epoch, MachineId, NetworkId, OrgId};
use std::collections::BTreeMap;
use std::time::Duration;
use wire::machines::MachineConfig;

pub(super) fn context() -> CallContext {
    let caller = Caller::Token("contract".into());
    CallContext::new(caller, Source::User, Deadline::within(Duration::from_secs(20)))
}

/// A create of machine `n` at epoch 1.
pub(super) async fn create(host: &dyn Host, n: u64) -> CreateMachine {
    let image = host.resolve_image(context(), "app".into()).await.expect("`app` is known");
    let config = MachineConfig { image: "app".into(), ..MachineConfig::default() };
    CreateMachine {
        id: MachineId::from_random(0xc0_0000 + n),
        epoch: Epoch(1),
        number: MachineNumber::allocated(n).expect("a small number"),
        app: AppId(7),
        app_name: "contract".parse().expect("a name"),
        org: OrgId(1),
        org_slug: "personal".parse().expect("a slug"),
        network: NetworkId(3),
        name: format!("machine-{n}").parse().expect("a name"),
        region: None,
        config,
        image,
        container_images: BTreeMap::new(),
        skip_launch: false,
        cordoned: false,
        lease: None,
        skip_secrets: false,
    }
}

pub(super) async fn state(host: &dyn Host, id: MachineId, states: &[&str]) -> String {
    let states = states.iter().map(|state| (*state).to_owned()).collect();
    let wait = WaitFor { states, timeout_ms: 15_000, ..WaitFor::default() };
    host.wait(context(), id, wait).await.expect("the state is reached").state
}

/// Creates machine `n` of `app` on a host that has none of that number, and
/// waits until it is started.
///
/// # Panics
/// The host refuses it.
pub async fn create_machine(host: &dyn Host, n: u64) -> MachineId {
    started(host, n).await
}

pub(super) async fn started(host: &dyn Host, n: u64) -> MachineId {
    let create = create(host, n).await;
    let id = create.id;
    host.create(context(), create).await.expect("created");
    state(host, id, &["started"]).await;
    id
}

pub(super) async fn gone(host: &dyn Host, id: MachineId) {
    host.destroy(context(), id, true).await.expect("destroyed");
    state(host, id, &["destroyed"]).await;
}
