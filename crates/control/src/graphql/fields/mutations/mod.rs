//! `Mutations`: what changes something. Those of releases, builds and secrets, which clients of
//! earlier versions use, are in `releases`.

mod releases;

use super::app::App;
use super::org::Org;
use super::unbuilt::unbuilt;
use super::user::user;
use super::{tokens, wireguard};
use crate::access::Subject;
use crate::access::{create, delete, write};
use crate::graphql::answer::{Answer, Args, Fields};
use crate::graphql::session::Session;
use crate::{Error, apps, orgs};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::json;
use wire::machines::CreateApp;
use wire::orgs::{CreateOrg, Member};

/// The root of mutations.
pub(in crate::graphql) struct Mutations;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateAppInput {
    organization_id: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    network: Option<String>,
    #[serde(default)]
    app_role_id: Option<String>,
}

#[derive(Deserialize)]
struct CreateOrgInput {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OrgInput {
    organization_id: String,
    #[serde(default)]
    email: String,
    #[serde(default)]
    user_id: String,
}

#[async_trait]
impl Fields for Mutations {
    fn type_name(&self) -> &'static str {
        "Mutations"
    }

    async fn field(&self, session: &Session, name: &str, args: &Args) -> Result<Answer, Error> {
        // Each function declares what its caller needs.
        let session = &session.of_mutation(name);
        match name {
            "createApp" => create_app(session, args.input()?).await,
            "deleteApp" => delete_app(session, &args.required("appId")?).await,
            "createOrganization" => create_org(session, args.input()?).await,
            "deleteOrganization" => delete_org(session, args.input()?).await,
            "createOrganizationInvitation" => add_member(session, args.input()?).await,
            "deleteOrganizationMembership" => remove_member(session, args.input()?).await,
            // The operations compare the caller's tokens with the token.
            "createLimitedAccessToken" => {
                tokens::create(session, args.input()?).await.map(Answer::Json)
            }
            "deleteLimitedAccessToken" => {
                tokens::revoke(session, args.input()?).await.map(Answer::Json)
            }
            "addWireGuardPeer" => wireguard::add(session, args.input()?).await,
            "removeWireGuardPeer" => {
                let org = wireguard::remove(session, args.input()?).await?;
                let org = Org::from(orgs::show(&org));
                Ok(Answer::object([("organization", Answer::node(org))]))
            }
            "createRelease" => releases::create(session, args.input()?).await,
            "updateRelease" => releases::change(session, args.input()?).await,
            "createBuild" => releases::create_build(session, args.input()?).await,
            "finishBuild" => releases::finish_build(session, args.input()?).await,
            "setSecrets" => releases::set_secrets(session, args.input()?).await,
            "unsetSecrets" => releases::unset_secrets(session, args.input()?).await,
            "validateWireGuardPeers" => wireguard::validate(session, args.input()?).await,
            "logOut" => Ok(json!({ "ok": true }).into()),
            _ => Err(unbuilt(name)),
        }
    }
}

/// The operation checks the caller: it needs `create` of apps in the organization.
async fn create_app(session: &Session, input: CreateAppInput) -> Result<Answer, Error> {
    // Of the REST API this would be the organization that every platform has.
    if input.organization_id.is_empty() {
        return Err(Error::invalid("organizationId", "is required"));
    }
    let ask = CreateApp {
        app_name: input.name.unwrap_or_default(),
        org_slug: Some(input.organization_id),
        network: input.network,
        app_role_id: input.app_role_id,
        ..CreateApp::default()
    };
    let created = apps::create(&session.platform, ask).await?;
    let app = created.app.ok_or_else(|| Error::internal("the new app was not answered"))?;
    session.note_org(&app.organization.slug);
    Ok(Answer::object([("app", Answer::node(App::made(app)))]))
}

async fn delete_app(session: &Session, id: &str) -> Result<Answer, Error> {
    let app = App::read(session, id).await?;
    session.may_app(delete(Subject::App), app.name()).await?;
    let org = app.org();
    session.note_org(org.slug());
    apps::request_deletion(&session.platform, app.name()).await?;
    Ok(Answer::object([("organization", Answer::node(org))]))
}

async fn create_org(session: &Session, input: CreateOrgInput) -> Result<Answer, Error> {
    session.may(create(Subject::Platform), Default::default()).await?;
    let ask = CreateOrg { name: input.name, slug: None };
    let org = Org::from(orgs::create(&session.platform, ask).await?);
    session.note_org(org.slug());
    Ok(Answer::object([("organization", Answer::node(org))]))
}

async fn delete_org(session: &Session, input: OrgInput) -> Result<Answer, Error> {
    let slug = input.organization_id;
    session.may_org(delete(Subject::Org).of("deletion"), &slug).await?;
    session.note_org(&slug);
    orgs::delete(&session.platform, &slug).await?;
    Ok(json!({ "deletedOrganizationId": slug }).into())
}

async fn add_member(session: &Session, input: OrgInput) -> Result<Answer, Error> {
    let slug = input.organization_id;
    session.may_org(write(Subject::Org).of("membership"), &slug).await?;
    let org = Org::read(session, &slug).await?;
    session.note_org(&slug);
    let ask = Member { email: input.email, role: "member".into(), joined_at: None };
    let member = orgs::put_member(&session.platform, &slug, ask).await?;
    let invitation = Answer::object([
        ("id", json!(member.email).into()),
        ("email", json!(member.email).into()),
        ("createdAt", json!(member.joined_at).into()),
        ("redeemed", json!(true).into()),
        ("organization", Answer::node(org)),
    ]);
    Ok(Answer::object([("invitation", invitation)]))
}

async fn remove_member(session: &Session, input: OrgInput) -> Result<Answer, Error> {
    let slug = input.organization_id;
    session.may_org(write(Subject::Org).of("membership"), &slug).await?;
    let org = Org::read(session, &slug).await?;
    session.note_org(&slug);
    orgs::remove_member(&session.platform, &slug, &input.user_id).await?;
    let user = user(&input.user_id);
    Ok(Answer::object([("organization", Answer::node(org)), ("user", user.into())]))
}
