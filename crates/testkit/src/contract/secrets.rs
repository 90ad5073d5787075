//! The part of the contract of `host_api::Host` that is about secrets.

use super::calls::{context, create, gone, state};
use host_api::{AppSecrets, Host, ScopedSecret, Stop};
use model::id::AppId;
use wire::secret::Secret;

fn version(version: u64) -> AppSecrets {
    let secret = ScopedSecret { name: "A".into(), scope: None, value: Secret::new("value") };
    AppSecrets { app: AppId(7), version, secrets: vec![secret] }
}

/// Secrets may be put before the machine is there, again, and in any order: each boot is
/// given the newest.
pub(super) async fn a_boot_is_given_the_newest_secrets(host: &dyn Host) {
    for number in [5, 5, 4] {
        host.put_secrets(context(), version(number)).await.expect("taken");
    }
    let create = create(host, 31).await;
    let id = create.id;
    host.create(context(), create).await.expect("created");
    state(host, id, &["started"]).await;
    let has = async || host.machine(context(), id).await.expect("it is there").secrets_version;
    assert_eq!(has().await, Some(5));
    host.put_secrets(context(), version(6)).await.expect("taken");
    assert_eq!(has().await, Some(5), "a running machine keeps what it has");
    host.restart(context(), id, Stop::default(), true).await.expect("restarted");
    state(host, id, &["started"]).await;
    assert_eq!(has().await, Some(6));
    gone(host, id).await;
}
