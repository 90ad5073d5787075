//! Organizations and their members.

use crate::{Client, Error, SHORT};
use reqwest::Method;
use wire::orgs::{CreateOrg, Member, MemberList, Org, OrgList};

impl Client {
    /// The organizations that the token may read.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn orgs(&self) -> Result<OrgList, Error> {
        self.json(self.call(Method::GET, &["v1", "orgs"]).within(SHORT)).await
    }

    /// One organization.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn org(&self, org: &str) -> Result<Org, Error> {
        self.json(self.call(Method::GET, &["v1", "orgs", org]).within(SHORT)).await
    }

    /// Makes an organization.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_org(&self, ask: &CreateOrg) -> Result<Org, Error> {
        self.json(self.call(Method::POST, &["v1", "orgs"]).within(SHORT).body(ask)).await
    }

    /// Deletes an organization without apps.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_org(&self, org: &str) -> Result<(), Error> {
        self.done(self.call(Method::DELETE, &["v1", "orgs", org]).within(SHORT)).await
    }

    /// Members of an organization.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn members(&self, org: &str) -> Result<MemberList, Error> {
        self.json(self.call(Method::GET, &["v1", "orgs", org, "members"]).within(SHORT)).await
    }

    /// Adds a member, or changes its role.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn put_member(&self, org: &str, member: &Member) -> Result<Member, Error> {
        let call = self.call(Method::POST, &["v1", "orgs", org, "members"]);
        self.json(call.within(SHORT).body(member)).await
    }

    /// Removes a member.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn remove_member(&self, org: &str, email: &str) -> Result<(), Error> {
        let path = ["v1", "orgs", org, "members", email];
        self.done(self.call(Method::DELETE, &path).within(SHORT)).await
    }
}
