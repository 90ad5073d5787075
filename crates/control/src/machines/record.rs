//! Machine records brought up to date with what a host has.

use crate::retry::change_record;
use crate::{Error, Platform};
use model::address::MachineNumber;
use model::id::{InstanceId, MachineId};
use store::records::{self, MachineRecord};
use wire::machines::Machine;

/// The record, as errors name it.
const WHAT: &str = "the machine's record";

/// Brings the record of a machine up to date with its host's answer about it: that
/// it has been created, its version and its config. Doing it again changes nothing.
///
/// Returns false if the machine has no record.
pub(crate) async fn update_record(
    platform: &Platform,
    id: MachineId,
    machine: &Machine,
) -> Result<bool, Error> {
    let key = records::machine_key(id);
    change_record(platform, &key, WHAT, |record| updated(record, machine)).await
}

/// Records that the config of a machine is about to change without a new version, so
/// that the reconciler brings the record up to date if no other caller does.
pub(super) async fn expect_change(platform: &Platform, id: MachineId) -> Result<(), Error> {
    let key = records::machine_key(id);
    change_record(platform, &key, WHAT, |mut record: MachineRecord| {
        // A record without a version is never taken for one that is up to date.
        record.instance.take().map(|_| record)
    })
    .await
    .map(drop)
}

/// The record with a host's answer about the machine; `None` if that is what it has
/// already.
pub(super) fn updated(mut record: MachineRecord, machine: &Machine) -> Option<MachineRecord> {
    let instance: Option<InstanceId> = machine.instance_id.parse().ok();
    let same = record.created && record.instance == instance;
    // Two changes of labels at once may be read back in the one order and be recorded in
    // the other. Times of this form are in order as texts.
    if same && record.updated_at.as_ref().is_some_and(|at| *at > machine.updated_at) {
        return None;
    }
    let numbered = record.number.is_some() || machine.private_ip.is_empty();
    let config = machine.config.as_deref();
    if same && numbered && (config.is_none() || record.config.as_ref() == config) {
        return None;
    }
    (record.created, record.instance) = (true, instance);
    record.number = record.number.or_else(|| number_of(&machine.private_ip));
    if let Some(config) = config {
        record.config = Some(config.clone());
        record.updated_at = Some(machine.updated_at.clone());
    }
    Some(record)
}

/// The number in a 6PN address: machines of before numbers were allocated here
/// have had theirs from their host.
fn number_of(private_ip: &str) -> Option<MachineNumber> {
    let address: std::net::Ipv6Addr = private_ip.parse().ok()?;
    u64::try_from((address.to_bits() >> 16) & u128::from(u64::MAX)).ok().map(MachineNumber)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machines::list::unreachable_machine;
    use model::address::{Ipv4Pool, Slot, of_machine, uncompressed};
    use model::id::{AppId, Epoch, HostId, NetworkId};
    use wire::machines::MachineConfig;

    #[test]
    fn labels_that_were_read_back_earlier_do_not_replace_later_ones() {
        let instance = InstanceId::new(1, 1);
        let labelled = |label: &str, updated_at: &str| {
            let config = MachineConfig {
                metadata: Some([("a".to_owned(), label.to_owned())].into()),
                ..MachineConfig::default()
            };
            let record = MachineRecord {
                region: None,
                app: AppId(1),
                name: "m".parse().unwrap(),
                owner: HostId(0),
                epoch: Epoch(1),
                number: None,
                claimed_ms: 0,
                created: true,
                instance: None,
                config: None,
                updated_at: None,
            };
            let mut machine = unreachable_machine(MachineId::from_random(1), &record);
            machine.instance_id = instance.to_string();
            machine.updated_at = updated_at.to_owned();
            machine.config = Some(std::sync::Arc::new(config));
            (record, machine)
        };
        let (record, second) = labelled("2", "2026-01-01T00:00:02.000Z");
        let (_, first) = labelled("1", "2026-01-01T00:00:01.000Z");
        let record = updated(record, &second).unwrap();
        assert!(updated(record.clone(), &first).is_none());
        let (_, third) = labelled("3", "2026-01-01T00:00:03.000Z");
        let record = updated(record, &third).unwrap();
        assert_eq!(record.config.as_ref(), third.config.as_deref());
    }

    #[test]
    fn the_number_of_a_machine_is_in_its_address() {
        let pool = Ipv4Pool::new([172, 30, 0, 0].into(), 16).unwrap();
        let number = MachineNumber::allocated(5).unwrap();
        let address = of_machine(pool, Slot(9), NetworkId(7), number).unwrap().ipv6;
        assert_eq!(number_of(&uncompressed(address)), Some(number));
        let of_slot = MachineNumber::of_slot(HostId(2), Slot(3));
        let address = of_machine(pool, Slot(3), NetworkId(7), of_slot).unwrap().ipv6;
        assert_eq!(number_of(&uncompressed(address)), Some(of_slot));
        assert_eq!(number_of(""), None);
    }
}
