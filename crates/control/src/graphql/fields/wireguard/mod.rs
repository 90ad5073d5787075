//! WireGuard peers.

use super::super::answer::Answer;
use super::super::session::Session;
use crate::access::{Subject, delete, read};
use crate::wireguard::{self, AddPeer, Added};
use crate::{Error, lookup};
use model::address::uncompressed;
use serde::Deserialize;
use serde_json::{Value, json};
use store::records::{OrgRecord, WireGuardPeerRecord};

/// What needs a permission of its own, as the tokens of clients name it.
const FEATURE: &str = "wg";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AddInput {
    organization_id: String,
    name: String,
    pubkey: String,
    #[serde(default)]
    region: Option<String>,
    #[serde(default)]
    network: Option<String>,
    #[serde(default)]
    nats: Option<bool>,
    #[serde(default)]
    ephemeral: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RemoveInput {
    organization_id: String,
    name: String,
    #[serde(default)]
    nats: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ValidateInput {
    peer_ips: Vec<String>,
}

/// The operation checks the caller.
pub(super) async fn add(session: &Session, input: AddInput) -> Result<Answer, Error> {
    refuse("nats", input.nats)?;
    refuse("ephemeral", input.ephemeral)?;
    let ask = AddPeer {
        org: input.organization_id,
        name: input.name,
        public_key: input.pubkey,
        region: input.region,
        network: input.network,
    };
    let org = ask.org.clone();
    let Added { peer, endpoint, gateway_key } = wireguard::add(&session.platform, ask).await?;
    session.note_org(&org);
    Ok(json!({
        "peerip": uncompressed(peer.address),
        "endpointip": endpoint.to_string(),
        "pubkey": gateway_key,
    })
    .into())
}

/// The organization that it was of.
pub(super) async fn remove(session: &Session, input: RemoveInput) -> Result<OrgRecord, Error> {
    refuse("nats", input.nats)?;
    let slug = input.organization_id;
    session.may_org(delete(Subject::Org).of(FEATURE), &slug).await?;
    let org = lookup::org(&session.platform, &slug).await?;
    session.note_org(&slug);
    wireguard::remove(&session.platform, &org, &input.name).await?;
    Ok(org)
}

/// It only reads, so that every valid token may: an agent cannot be brought up without.
pub(super) async fn validate(session: &Session, input: ValidateInput) -> Result<Answer, Error> {
    let invalid = wireguard::invalid_addresses(&session.platform, input.peer_ips).await?;
    Ok(json!({ "invalidPeerIps": invalid }).into())
}

/// The peers of an organization.
pub(super) async fn list(session: &Session, slug: &str) -> Result<Value, Error> {
    session.may_org(read(Subject::Org).of(FEATURE), slug).await?;
    let org = lookup::org(&session.platform, slug).await?;
    let peers = wireguard::list(&session.platform, &org).await?;
    Ok(json!({ "nodes": peers.iter().map(show).collect::<Vec<_>>() }))
}

/// One of them.
pub(super) async fn one(session: &Session, slug: &str, name: &str) -> Result<Value, Error> {
    session.may_org(read(Subject::Org).of(FEATURE), slug).await?;
    let org = lookup::org(&session.platform, slug).await?;
    let found = wireguard::get(&session.platform, &org, name).await?;
    Ok(show(&found.record))
}

fn show(peer: &WireGuardPeerRecord) -> Value {
    json!({
        "id": peer.name,
        "name": peer.name,
        "pubkey": peer.public_key,
        "region": peer.region,
        "peerip": uncompressed(peer.address),
    })
}

fn refuse(field: &str, given: Option<bool>) -> Result<(), Error> {
    if given == Some(true) {
        return Err(Error::unsupported(field, "is not supported for WireGuard peers"));
    }
    Ok(())
}
