//! The part of the contract of `host_api::Host` that is about leases.

use super::calls::{context, create, gone, started, state};
use host_api::{
    AcquireLease, CallContext, ChangeMetadata, CreateMachine, Host, HostError, MachineFilter,
    Source, Stop, UpdateMachine,
};
use model::id::MachineId;
use std::collections::BTreeMap;

fn wanted(nonce: &str) -> AcquireLease {
    let description = Some(format!("work of {nonce}"));
    let (nonce, owner) = (nonce.to_owned(), format!("owner of {nonce}"));
    AcquireLease { nonce, owner, description, ttl_ms: 600_000 }
}

fn with(nonce: &str) -> CallContext {
    CallContext { lease_nonce: Some(nonce.into()), ..context() }
}

fn is_leased<T: std::fmt::Debug>(answer: Result<T, HostError>) {
    let held = matches!(&answer, Err(HostError::Leased { owner, .. }) if owner == "owner of a");
    assert!(held, "{answer:?}");
}

/// A lease guards the changes of users whose call does not carry its nonce.
pub(super) async fn a_lease_guards_the_machine(host: &dyn Host) {
    let id = started(host, 13).await;
    assert_eq!(host.lease(context(), id).await, Ok(None));
    // The nonce of a lease that is gone is ignored.
    host.cordon(with("old"), id, true).await.expect("there is no lease");
    let granted = host.acquire_lease(context(), id, wanted("a")).await.expect("granted");
    assert_eq!((granted.nonce.as_deref(), granted.owner.as_str()), (Some("a"), "owner of a"));
    assert_eq!(granted.description, "work of a");
    assert_eq!(host.lease(context(), id).await, Ok(Some(granted.clone())));
    let machine = host.machine(context(), id).await.expect("it is there");
    assert_eq!(granted.version, machine.version);
    is_leased(host.acquire_lease(context(), id, wanted("b")).await);
    is_leased(host.acquire_lease(with("b"), id, wanted("b")).await);
    for context in [context(), with("b")] {
        is_leased(host.start(context.clone(), id).await);
        is_leased(host.stop(context.clone(), id, Stop::default()).await);
        is_leased(host.suspend(context.clone(), id).await);
        is_leased(host.restart(context.clone(), id, Stop::default(), true).await);
        is_leased(host.cordon(context.clone(), id, false).await);
        is_leased(host.destroy(context.clone(), id, true).await);
        is_leased(host.release_lease(context.clone(), id).await);
        let update = UpdateMachine {
            id,
            container_images: BTreeMap::new(),
            config: machine.config.as_deref().cloned().expect("it has a config"),
            image: machine.image_ref.clone(),
            skip_launch: false,
            current_version: None,
            cordoned: None,
            lease: None,
            skip_secrets: false,
            labels: None,
        };
        is_leased(host.update(context, update).await);
    }
    let after = host.machine(context(), id).await.expect("it is there");
    assert_eq!((after.state.as_str(), after.cordoned), ("started", true), "nothing was done");
    assert_eq!(after.version, machine.version);
    a_lease_leaves_the_rest_alone(host, id).await;
    let renewed = host.acquire_lease(with("a"), id, wanted("c")).await.expect("renewed");
    assert_eq!(renewed.nonce.as_deref(), Some("a"), "the nonce stays");
    let again = host.acquire_lease(context(), id, wanted("a")).await.expect("repeated");
    assert_eq!(again.nonce.as_deref(), Some("a"));
    host.cordon(with("a"), id, false).await.expect("its holder may");
    host.release_lease(with("a"), id).await.expect("released");
    host.release_lease(with("a"), id).await.expect("there is none");
    assert_eq!(host.lease(context(), id).await, Ok(None));
    host.stop(context(), id, Stop::default()).await.expect("it is free");
    state(host, id, &["stopped"]).await;
    gone(host, id).await;
    // Clients that destroy a machine twice ask for its lease first.
    let late = host.acquire_lease(context(), id, wanted("d")).await.expect("granted");
    assert_eq!(host.lease(context(), id).await, Ok(Some(late)));
    host.release_lease(with("d"), id).await.expect("released");
}

/// Labels, signals and the platform's own changes.
async fn a_lease_leaves_the_rest_alone(host: &dyn Host, id: MachineId) {
    let label = BTreeMap::from([("role".to_owned(), Some("primary".to_owned()))]);
    let change = ChangeMetadata::Merge(label);
    host.change_metadata(context(), id, change, None).await.expect("labels are not guarded");
    host.signal(context(), id, 18).await.expect("signals are not guarded");
    for source in [Source::Host, Source::Proxy] {
        let own = CallContext { source, ..context() };
        host.cordon(own.clone(), id, false).await.expect("the platform does not wait");
        host.cordon(own, id, true).await.expect("the platform does not wait");
    }
    assert_eq!(host.wake(CallContext { source: Source::Proxy, ..context() }, id).await, Ok(()));
}

/// A machine may be leased by the create, and by an update, that ask for it.
pub(super) async fn a_lease_comes_with_a_create(host: &dyn Host) {
    let create = CreateMachine { lease: Some(wanted("a")), ..create(host, 14).await };
    let id = create.id;
    let made = host.create(context(), create.clone()).await.expect("created");
    assert_eq!(made.nonce.as_deref(), Some("a"));
    let again = host.create(context(), create.clone()).await.expect("repeated");
    assert_eq!(again.nonce.as_deref(), Some("a"));
    state(host, id, &["started"]).await;
    is_leased(host.stop(context(), id, Stop::default()).await);
    // The update that follows has a config that was read before.
    let label = |key: &str| BTreeMap::from([(key.to_owned(), Some("1".to_owned()))]);
    let kept = ChangeMetadata::Merge(label("kept"));
    host.change_metadata(context(), id, kept, None).await.expect("labelled");
    let update = UpdateMachine {
        id,
        container_images: BTreeMap::new(),
        config: create.config,
        image: create.image,
        skip_launch: false,
        current_version: None,
        cordoned: None,
        lease: Some(wanted("b")),
        skip_secrets: false,
        labels: Some(ChangeMetadata::Merge(label("added"))),
    };
    let updated = host.update(with("a"), update).await.expect("its holder may");
    let labels =
        updated.config.as_ref().and_then(|config| config.metadata.clone()).unwrap_or_default();
    assert!(labels.contains_key("kept") && labels.contains_key("added"), "{labels:?}");
    assert_eq!(updated.nonce.as_deref(), Some("a"), "its lease is renewed");
    assert_eq!(host.machine(context(), id).await.expect("it is there").nonce, None);
    let lists = MachineFilter { leases: true, ..Default::default() };
    let listed = host.machines(context(), lists).await.expect("list");
    let lease = listed[0].lease.clone().expect("a list shows the lease if it is asked to");
    assert_eq!((lease.nonce, lease.owner.as_str()), (None, "owner of a"));
    host.release_lease(with("a"), id).await.expect("released");
    gone(host, id).await;
}
