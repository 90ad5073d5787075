//! The owners of machines, as recorded and as the hosts have it.

use super::Cluster;
use super::platform::PATIENCE;
use host_api::{CallContext, CreateMachine, Images, Machines, Route, Routes};
use model::id::{Epoch, HostId, MachineId};
use std::collections::BTreeMap;
use store::records::{self, AppRecord, MachineRecord, OrgRecord, Stored, encode};
use store::{Compare, Op, Txn};

impl Cluster {
    /// The record of a machine.
    ///
    /// # Panics
    /// The store fails.
    pub async fn record(&self, id: MachineId) -> Option<MachineRecord> {
        self.stored(id).await.map(|stored| stored.record)
    }

    async fn stored(&self, id: MachineId) -> Option<Stored<MachineRecord>> {
        let found = records::get(self.store(), &records::machine_key(id)).await;
        found.expect("the store answers")
    }

    /// Gives a machine to another host: its record names the new owner with a new
    /// epoch, then that host creates it. The former owner is not notified.
    ///
    /// Control has no such operation yet, so this writes the record itself.
    ///
    /// # Panics
    /// There is no such machine, or the new owner does not take it.
    pub async fn move_machine(&self, id: MachineId, to: HostId) -> Epoch {
        let Stored { key, revision, mut record } =
            self.stored(id).await.expect("the machine has a record");
        record.owner = to;
        record.epoch = Epoch(record.epoch.0 + 1);
        let txn = Txn {
            compare: vec![Compare::Modified(key.clone(), revision)],
            then: vec![Op::put(&key, encode(&record))],
            otherwise: vec![],
        };
        let written = self.store().txn(txn).await.expect("the store answers");
        assert!(written.succeeded, "the record has changed meanwhile");
        let epoch = record.epoch;
        let create = self.create_again(id, record, to).await;
        let context = CallContext::control(PATIENCE).at(epoch);
        let created = Machines::create(self.remote(to), context, create).await;
        created.expect("the new owner takes the machine");
        epoch
    }

    async fn create_again(
        &self,
        id: MachineId,
        record: MachineRecord,
        host: HostId,
    ) -> CreateMachine {
        let apps: Vec<Stored<AppRecord>> =
            records::list(self.store(), records::APPS).await.expect("the store answers");
        let app = apps.into_iter().map(|app| app.record).find(|app| app.id == record.app);
        let app = app.expect("the machine's app exists");
        let org = records::get(self.store(), &records::org_key(&app.org)).await;
        let org: Option<Stored<OrgRecord>> = org.expect("the store answers");
        let org = org.expect("the app's organization exists").record;
        let config = record.config.expect("the record has the config");
        let context = CallContext::control(PATIENCE);
        let image = self.remote(host).resolve_image(context, config.image.clone()).await;
        CreateMachine {
            id,
            epoch: record.epoch,
            number: record.number.expect("the record has the number"),
            app: app.id,
            app_name: app.name,
            org: org.id,
            org_slug: org.slug.parse().expect("a slug"),
            network: app.network_number,
            name: record.name,
            region: record.region,
            config,
            image: image.expect("the host has the image"),
            container_images: BTreeMap::new(),
            skip_launch: false,
            cordoned: false,
            skip_secrets: false,
            lease: None,
        }
    }

    /// The table of a host as it gives it to edges.
    ///
    /// # Panics
    /// It cannot be reached.
    pub async fn routes_of(&self, host: HostId) -> Vec<Route> {
        let subscription = self.remote(host).routes(CallContext::control(PATIENCE)).await;
        subscription.expect("the host gives its table").snapshot.routes
    }

    /// One pass of every reconciler of the control plane.
    pub async fn reconcile(&self) {
        control::reconcile::pass(&self.platform).await;
    }
}
