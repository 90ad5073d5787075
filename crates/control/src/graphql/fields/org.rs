//! Organizations.

use super::super::answer::{Answer, Args, Fields};
use super::super::session::Session;
use super::{tokens, user, wireguard};
use crate::access::Subject;
use crate::access::{base, is_permitted, read};
use crate::{Error, apps, lookup, orgs};
use async_trait::async_trait;
use macaroon::{Access, Action};
use serde_json::{Value, json};

/// An organization.
#[derive(Clone)]
pub(super) struct Org {
    slug: String,
    name: String,
    number: i32,
}

impl From<wire::orgs::Org> for Org {
    fn from(org: wire::orgs::Org) -> Self {
        Self { slug: org.slug, name: org.name, number: org.internal_numeric_id }
    }
}

impl From<wire::machines::Organization> for Org {
    fn from(org: wire::machines::Organization) -> Self {
        Self { slug: org.slug, name: org.name, number: org.internal_numeric_id }
    }
}

impl Org {
    /// An organization that the caller may read, or of which it may read an app, by its slug, which
    /// is its id.
    ///
    /// # Errors
    /// There is none, or it may not.
    pub(super) async fn read(session: &Session, slug: &str) -> Result<Self, Error> {
        let platform = &session.platform;
        let org = match session.may_org(read(Subject::Org), slug).await {
            Ok(()) => orgs::show(&orgs::get(platform, slug).await?),
            Err(err) => apps::organization_of_apps(platform, slug).await?.ok_or(err)?,
        };
        Ok(org.into())
    }

    /// Its slug.
    pub(super) fn slug(&self) -> &str {
        &self.slug
    }

    /// Whether the caller may manage members, as admins do.
    async fn viewer_role(&self, session: &Session) -> Result<&'static str, Error> {
        let platform = &session.platform;
        let id = u64::from(lookup::org(platform, &self.slug).await?.id.0);
        let feature = Some("membership".to_owned());
        let access =
            Access { org: Some(id), org_feature: feature, ..base(platform, Action::WRITE) };
        Ok(if is_permitted(platform, &access) { "admin" } else { "member" })
    }

    async fn members(&self, session: &Session) -> Result<Value, Error> {
        session.may_org(read(Subject::Org).of("membership"), &self.slug).await?;
        let members = orgs::members(&session.platform, &self.slug).await?.members;
        let edges = members.into_iter().map(|member| {
            json!({
                "cursor": member.email,
                "joinedAt": member.joined_at,
                "role": member.role,
                "node": user::user(&member.email),
            })
        });
        Ok(json!({ "edges": edges.collect::<Vec<_>>() }))
    }
}

#[async_trait]
impl Fields for Org {
    fn type_name(&self) -> &'static str {
        "Organization"
    }

    async fn field(&self, session: &Session, name: &str, args: &Args) -> Result<Answer, Error> {
        Ok(Answer::Json(match name {
            "id" | "slug" | "rawSlug" => json!(self.slug),
            "internalNumericId" => json!(self.number.to_string()),
            "name" => json!(self.name),
            "type" if self.slug == orgs::DEFAULT_ORG => json!("PERSONAL"),
            "type" => json!("SHARED"),
            "paidPlan" | "billable" => json!(true),
            "billingStatus" => json!("CURRENT"),
            "provisionsBetaExtensions" | "allowAllCrossNetworkReplays" => json!(false),
            "remoteBuilderImage" => json!(""),
            "viewerRole" => json!(self.viewer_role(session).await?),
            "members" => self.members(session).await?,
            "limitedAccessTokens" => {
                session.may_org(read(Subject::Org).of("tokens"), &self.slug).await?;
                tokens::list(session, &self.slug, None).await?
            }
            "wireGuardPeers" => wireguard::list(session, &self.slug).await?,
            "wireGuardPeer" => wireguard::one(session, &self.slug, &args.required("name")?).await?,
            "delegatedWireGuardTokens" | "loggedCertificates" | "addOns" => json!({ "nodes": [] }),
            "allowedReplaySourceOrgSlugs" => json!([]),
            "addOnSsoLink" | "remoteBuilderApp" | "extensionSsoLink" => Value::Null,
            _ => return Err(Error::internal(format!("Organization has no field {name}"))),
        }))
    }
}
