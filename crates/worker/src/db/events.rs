//! Events of machines, each with its number on this host.
//!
//! Invariant: numbers grow in the order of the commits and are never given twice. An event that
//! is not there any more has a number up to `machines.removed_events` of its machine, or up to
//! `event_numbers.removed` if the machine is not there either.

use super::host_db::HostDb;
use host_api::{EventFilter, FeedEvent};
use model::id::{AppId, EventId, MachineId, OrgId};
use rusqlite::{Connection, Row, ToSql, params};
use sqlite::Error;
use wire::machines::MachineEvent;

/// Events kept per machine; older ones are removed.
const KEPT_EVENTS: u32 = 200;
/// Those of them that are of health checks, which may flap.
const KEPT_CHECK_EVENTS: u32 = 10;
/// Kind of the event of a health check that has changed its status.
pub(crate) const CHECK_EVENT: &str = "check";

/// The numbers of a host's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventNumbers {
    /// The number that was given last.
    pub(crate) last: u64,
    /// Events up to this number may have been removed, of those that pass the filter.
    pub(crate) removed: u64,
}

/// Events in the order of their numbers.
#[derive(Debug)]
pub(crate) struct EventPage {
    pub(crate) events: Vec<FeedEvent>,
    /// All that pass the filter up to this number have been read.
    pub(crate) upto: u64,
    /// There may be more.
    pub(crate) more: bool,
}

impl HostDb {
    /// Newest first, older than `before`.
    pub(crate) async fn events(
        &self,
        machine: MachineId,
        limit: usize,
        before: Option<EventId>,
    ) -> Result<Vec<MachineEvent>, Error> {
        let rows = self.0.read(move |conn| {
            let sql = "SELECT event FROM events WHERE machine = ?1 AND (?3 IS NULL OR id < ?3)
                       ORDER BY id DESC LIMIT ?2";
            let mut query = conn.prepare(sql)?;
            let before = before.map(|event| event.to_string());
            let args = params![machine.to_string(), limit as i64, before];
            let rows = query.query_map(args, |row| row.get::<_, String>(0))?;
            rows.collect::<Result<Vec<_>, _>>().map_err(Error::from)
        });
        // Events are only shown: one that does not parse is left out.
        let parse = |text: &String| {
            let parsed = serde_json::from_str(text);
            parsed
                .inspect_err(|err| tracing::warn!(%machine, error = %err, "event is damaged"))
                .ok()
        };
        Ok(rows.await?.iter().filter_map(parse).collect())
    }

    /// The numbers as of now.
    pub(crate) async fn event_numbers(&self, filter: EventFilter) -> Result<EventNumbers, Error> {
        self.0
            .read(move |conn| {
                let sql = format!(
                    "SELECT last, max(removed, coalesce(
                        (SELECT max(removed_events) FROM machines m WHERE {MATCHES}), 0))
                     FROM event_numbers"
                );
                let numbers = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
                let (last, removed) = conn.query_row(&sql, matching(&filter), numbers)?;
                Ok(EventNumbers { last: last as u64, removed: removed as u64 })
            })
            .await
    }

    /// The oldest events after `after` that pass the filter, at most `limit`. Their region is the
    /// code that the machine was asked for, or empty.
    pub(crate) async fn events_after(
        &self,
        after: u64,
        filter: EventFilter,
        limit: usize,
    ) -> Result<EventPage, Error> {
        self.0
            .read(move |conn| {
                // One snapshot for both statements.
                let snapshot = conn.unchecked_transaction()?;
                let last: i64 =
                    snapshot.query_row("SELECT last FROM event_numbers", [], |row| row.get(0))?;
                let sql = format!(
                    "SELECT e.number, e.event, m.id, m.app, m.name, m.app_id,
                            json_extract(m.record, '$.org_id'), json_extract(m.record, '$.region')
                     FROM events e JOIN machines m ON m.id = e.machine
                     WHERE {MATCHES} AND e.number > ?4 AND m.app_id NOT NULL
                     ORDER BY e.number LIMIT ?5"
                );
                let mut query = snapshot.prepare_cached(&sql)?;
                let [machine, app, org] = matching(&filter);
                let args = params![machine, app, org, after as i64, limit as i64];
                let (mut events, mut seen, mut rows) = (Vec::new(), 0, query.query(args)?);
                let mut newest = after;
                while let Some(row) = rows.next()? {
                    (seen, newest) = (seen + 1, row.get::<_, i64>(0)? as u64);
                    match parse(row) {
                        Ok(event) => events.push(event),
                        Err(why) => tracing::warn!(number = newest, error = why, "bad event"),
                    }
                }
                let more = seen == limit;
                Ok(EventPage { events, upto: if more { newest } else { last as u64 }, more })
            })
            .await
    }
}

/// The machine `m` passes a filter with the parameters of [`matching`].
const MATCHES: &str = "(?1 IS NULL OR m.id = ?1) AND (?2 IS NULL OR m.app_id = ?2)
    AND (?3 IS NULL OR json_extract(m.record, '$.org_id') = ?3)";

fn matching(filter: &EventFilter) -> [Box<dyn ToSql>; 3] {
    [
        Box::new(filter.machine.map(|machine| machine.to_string())),
        Box::new(filter.app.map(|AppId(app)| app)),
        Box::new(filter.org.map(|OrgId(org)| org)),
    ]
}

fn parse(row: &Row<'_>) -> Result<FeedEvent, String> {
    let column = |err: rusqlite::Error| err.to_string();
    let text = |n: usize| row.get::<_, String>(n).map_err(column);
    let id = |err: model::id::BadId| err.to_string();
    Ok(FeedEvent {
        number: row.get::<_, i64>(0).map_err(column)? as u64,
        event: serde_json::from_str(&text(1)?).map_err(|err| err.to_string())?,
        machine: text(2)?.parse().map_err(id)?,
        app_name: text(3)?.parse().map_err(id)?,
        machine_name: text(4)?.parse().map_err(id)?,
        app: AppId(row.get(5).map_err(column)?),
        org: OrgId(row.get(6).map_err(column)?),
        region: row.get::<_, Option<String>>(7).map_err(column)?.unwrap_or_default(),
    })
}

/// Adds events of a machine, oldest first, and removes those beyond what is kept of one.
pub(super) fn add(conn: &Connection, machine: &str, events: &[MachineEvent]) -> Result<(), Error> {
    if events.is_empty() {
        return Ok(());
    }
    let next = "UPDATE event_numbers SET last = last + 1 RETURNING last";
    let insert = "INSERT INTO events (id, machine, event, number) VALUES (?1, ?2, ?3, ?4)";
    for event in events {
        let text = serde_json::to_string(event).expect("plain data serializes");
        let number: i64 = conn.prepare_cached(next)?.query_row([], |row| row.get(0))?;
        conn.prepare_cached(insert)?.execute(params![event.id, machine, text, number])?;
    }
    remove_surplus(conn, machine, "machine = ?1", KEPT_EVENTS)?;
    if events.iter().any(|event| event.kind == CHECK_EVENT) {
        let of_checks = format!("machine = ?1 AND json_extract(event, '$.type') = '{CHECK_EVENT}'");
        remove_surplus(conn, machine, &of_checks, KEPT_CHECK_EVENTS)?;
    }
    Ok(())
}

/// Removes all events of a machine that is removed itself.
pub(super) fn remove_of(conn: &Connection, machine: &str) -> Result<(), Error> {
    let newest = remove_where(conn, "machine = ?1", params![machine])?;
    let note = "UPDATE event_numbers SET removed = max(removed, ?1)";
    conn.prepare_cached(note)?.execute([newest])?;
    Ok(())
}

/// Removes events of a machine that stays.
fn remove_surplus(
    conn: &Connection,
    machine: &str,
    condition: &str,
    kept: u32,
) -> Result<(), Error> {
    let oldest_kept =
        format!("SELECT id FROM events WHERE {condition} ORDER BY id DESC LIMIT 1 OFFSET ?2");
    let surplus = format!("{condition} AND id <= ({oldest_kept})");
    let newest = remove_where(conn, &surplus, params![machine, kept])?;
    if newest > 0 {
        let note = "UPDATE machines SET removed_events = max(removed_events, ?2) WHERE id = ?1";
        conn.prepare_cached(note)?.execute(params![machine, newest])?;
    }
    Ok(())
}

/// Removes events; the greatest number of them, or 0.
fn remove_where(conn: &Connection, condition: &str, args: &[&dyn ToSql]) -> Result<i64, Error> {
    let newest = format!("SELECT coalesce(max(number), 0) FROM events WHERE {condition}");
    let newest: i64 = conn.prepare_cached(&newest)?.query_row(args, |row| row.get(0))?;
    if newest > 0 {
        conn.prepare_cached(&format!("DELETE FROM events WHERE {condition}"))?.execute(args)?;
    }
    Ok(newest)
}
