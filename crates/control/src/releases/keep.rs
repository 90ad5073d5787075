//! Which releases of an app are kept.

use model::id::ReleaseId;
use store::records::AppReleasesRecord;

/// Releases of one app that are kept.
pub const MAX_KEPT: usize = 50;

/// Makes room for one more, and returns those that are removed: the oldest that have ended, and if
/// none has, the oldest of all. The current one stays.
pub(super) fn make_room(record: &mut AppReleasesRecord) -> Vec<ReleaseId> {
    let current = record.newest_complete().map(|release| release.version);
    let mut removed = Vec::new();
    while record.releases.len() >= MAX_KEPT {
        let others = || {
            let all = record.releases.iter().enumerate();
            all.filter(|(_, release)| Some(release.version) != current)
        };
        let ended = others().find(|(_, release)| !release.status.is_in_progress());
        let Some((at, _)) = ended.or_else(|| others().next()) else { break };
        removed.push(record.releases.remove(at).id);
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::release::{Status, Strategy};
    use store::records::ReleaseRecord;

    /// As many as are kept, with these statuses from the oldest on, and `rest` after them.
    fn full(first: &[Status], rest: Status) -> AppReleasesRecord {
        let mut record = AppReleasesRecord::default();
        for version in 1..=u32::try_from(MAX_KEPT).unwrap() {
            record.last_version = version;
            record.releases.push(ReleaseRecord {
                id: ReleaseId::from_random(u128::from(version)),
                version,
                status: first.get(version as usize - 1).copied().unwrap_or(rest),
                strategy: Strategy::Rolling,
                image: String::new(),
                build_id: 0,
                user: String::new(),
                description: String::new(),
                reason: String::new(),
                created_ms: 0,
                updated_ms: 0,
            });
        }
        record
    }

    #[test]
    fn the_oldest_that_has_ended_makes_room_and_the_current_one_stays() {
        use Status::*;
        for (first, rest, expected) in [
            (&[][..], Complete, 1),
            (&[Complete], Failed, 2),
            (&[Complete, Complete], Failed, 1),
            (&[Complete, Pending, Running], Interrupted, 4),
            (&[Complete], Running, 2),
            (&[Pending], Pending, 1),
        ] {
            let mut record = full(first, rest);
            let removed = make_room(&mut record);
            assert_eq!(removed, [ReleaseId::from_random(expected)], "{first:?} {rest}");
            assert_eq!(record.releases.len(), MAX_KEPT - 1);
            assert!(make_room(&mut record).is_empty(), "there is room");
        }
    }
}
