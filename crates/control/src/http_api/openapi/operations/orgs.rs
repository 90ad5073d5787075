//! Organizations, their members and tokens.

use crate::http_api::openapi::operation::{Content, Operation, delete, get, post, schema_of};
use axum::http::StatusCode;
use wire::audit::AuditPage;
use wire::machines::{Done, OrgMachines, WatchEvent};
use wire::orgs::{CreateOrg, Member, MemberList, Org, OrgList};
use wire::tokens::{CreateToken, CreatedToken, TokenList};
use wire::uiex::{UiexOrgList, UiexOrgShown};

pub(super) fn all() -> Vec<Operation> {
    let org = (StatusCode::CREATED, Content::Json(schema_of::<Org>));
    let token = (StatusCode::CREATED, Content::Json(schema_of::<CreatedToken>));
    vec![
        get("/api/v1/organizations", "listOrganizations", "List organizations, as flyctl asks")
            .answers::<UiexOrgList>(),
        get("/api/v1/organizations/{org}", "getOrganization", "Show one, as flyctl asks")
            .answers::<UiexOrgShown>(),
        get("/v1/orgs", "listOrgs", "List the organizations that the token may read")
            .answers::<OrgList>()
            .addition(),
        post("/v1/orgs", "createOrg", "Create an organization")
            .takes::<CreateOrg>()
            .answers_with(org.0, org.1)
            .addition(),
        get("/v1/orgs/{org}", "getOrg", "Show an organization").answers::<Org>().addition(),
        delete("/v1/orgs/{org}", "deleteOrg", "Delete an organization without apps")
            .answers::<Done>()
            .addition(),
        get("/v1/orgs/{org}/machines", "listOrgMachines", "List machines over all apps")
            .flag("include_deleted", "Also destroyed ones, as long as they are remembered.")
            .flag("include_leases", "Show the lease of each, without its nonce. (addition)")
            .flag("summary", "Without config and events.")
            .list("state", "Only in one of these states.")
            .text("region", "Only in this region.")
            .text("updated_after", "Only those that have changed since (RFC 3339).")
            .text("cursor", "`next_cursor` of the page before.")
            .number("limit", "At most so many; 1000 at most.")
            .answers::<OrgMachines>(),
        get("/v1/orgs/{org}/watch", "watchOrg", "Follow the events of the organization's machines")
            .text("last_event_id", "As the header `Last-Event-ID`: continue after this event.")
            .answers_events::<WatchEvent>()
            .addition(),
        get("/v1/orgs/{org}/members", "listMembers", "List the members of an organization")
            .answers::<MemberList>()
            .addition(),
        post("/v1/orgs/{org}/members", "putMember", "Add a member, or change the role of one")
            .takes::<Member>()
            .answers::<Member>()
            .addition(),
        delete("/v1/orgs/{org}/members/{email}", "removeMember", "Remove a member")
            .answers::<Done>()
            .addition(),
        get("/v1/orgs/{org}/tokens", "listTokens", "List the tokens of an organization")
            .text("app", "Only of this app.")
            .answers::<TokenList>()
            .addition(),
        post("/v1/orgs/{org}/tokens", "createToken", "Make a token")
            .takes::<CreateToken>()
            .answers_with(token.0, token.1)
            .addition(),
        delete("/v1/orgs/{org}/tokens/{token}", "revokeToken", "Revoke a token")
            .answers::<Done>()
            .addition(),
        get("/v1/orgs/{org}/audit", "listAudit", "The audit log of an organization, newest first")
            .text("cursor", "`next_cursor` of the page before.")
            .number("limit", "At most so many.")
            .answers::<AuditPage>()
            .addition(),
    ]
}
