//! The tables of `host.db`, as migrations in order.

/// Each is run once; a released one never changes.
pub(crate) const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE machines (
        id     TEXT PRIMARY KEY,
        app    TEXT NOT NULL,
        name   TEXT NOT NULL,
        state  TEXT NOT NULL,
        slot   INTEGER UNIQUE,
        record TEXT NOT NULL
    ) STRICT;
    -- Two machines of one app never share a name while both exist.
    CREATE UNIQUE INDEX machine_names ON machines (app, name) WHERE state <> 'destroyed';
    CREATE TABLE events (
        id      TEXT PRIMARY KEY,
        machine TEXT NOT NULL,
        event   TEXT NOT NULL
    ) STRICT;
    CREATE INDEX machine_events ON events (machine, id);
    CREATE TABLE versions (
        machine TEXT NOT NULL,
        version TEXT NOT NULL,
        config  TEXT NOT NULL,
        PRIMARY KEY (machine, version)
    ) STRICT;
",
    "
    -- Addresses follow from the slot: it rests after its machine is destroyed.
    CREATE TABLE released_slots (
        slot        INTEGER PRIMARY KEY,
        released_ms INTEGER NOT NULL
    ) STRICT;
",
    "
    -- An app's name may be used again by another app; its id never is. Rows of the
    -- first version get their id when the host starts.
    ALTER TABLE machines ADD COLUMN app_id INTEGER;
    DROP INDEX machine_names;
    CREATE UNIQUE INDEX machine_names ON machines (app_id, name) WHERE state <> 'destroyed';
    -- Calls that have been carried out, by their idempotency keys.
    CREATE TABLE calls (
        key     TEXT PRIMARY KEY,
        done_ms INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX calls_by_age ON calls (done_ms);
    -- How often the worker has been started on this host.
    CREATE TABLE starts (epoch INTEGER NOT NULL) STRICT;
    INSERT INTO starts VALUES (0);
",
    "
    -- Events are numbered in the order of their commits, so that a reader can continue where it
    -- stopped. Every event up to `removed_events` of its machine may have been removed; those of
    -- machines that are not here any more have numbers up to `removed`.
    ALTER TABLE events ADD COLUMN number INTEGER;
    UPDATE events SET number = rowid;
    CREATE UNIQUE INDEX events_by_number ON events (number);
    CREATE TABLE event_numbers (last INTEGER NOT NULL, removed INTEGER NOT NULL) STRICT;
    INSERT INTO event_numbers SELECT coalesce(max(number), 0), 0 FROM events;
    ALTER TABLE machines ADD COLUMN removed_events INTEGER NOT NULL DEFAULT 0;
",
    "
    -- The last lease of each machine; one that has expired may still be renewed.
    CREATE TABLE leases (
        machine     TEXT PRIMARY KEY,
        nonce       TEXT NOT NULL,
        owner       TEXT NOT NULL,
        description TEXT NOT NULL,
        expires_ms  INTEGER NOT NULL
    ) STRICT;
    -- How long destroyed machines are remembered counts from when they were destroyed.
    ALTER TABLE machines ADD COLUMN destroyed_ms INTEGER;
    UPDATE machines SET destroyed_ms = json_extract(record, '$.updated_ms')
        WHERE state = 'destroyed' AND json_valid(record);
    CREATE INDEX destroyed_machines ON machines (destroyed_ms) WHERE state = 'destroyed';
",
    "
    -- Until when the schedule of a machine has been dealt with; another `spec` begins again.
    CREATE TABLE schedules (
        machine TEXT PRIMARY KEY,
        spec    TEXT NOT NULL,
        done_ms INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE runs (
        id      TEXT PRIMARY KEY,
        machine TEXT NOT NULL,
        run     TEXT NOT NULL
    ) STRICT;
    CREATE INDEX machine_runs ON runs (machine, id);
",
    "
    -- Secrets of the apps of this host's machines, all of an app in one value, sealed with
    -- a key that is not in this database.
    CREATE TABLE sealed_secrets (
        app_id  INTEGER PRIMARY KEY,
        version INTEGER NOT NULL,
        sealed  BLOB NOT NULL,
        put_ms  INTEGER NOT NULL
    ) STRICT;
",
    "
    -- The number of the last line of each log that has been delivered to each sink.
    CREATE TABLE log_exports (
        sink   TEXT NOT NULL,
        log    TEXT NOT NULL,
        number INTEGER NOT NULL,
        PRIMARY KEY (sink, log)
    ) STRICT, WITHOUT ROWID;
",
    "
    -- Volumes of this host. `machine` is the one that has it: a volume is attached in the
    -- transaction that records a machine's config, and nowhere else.
    CREATE TABLE volumes (
        id      TEXT PRIMARY KEY,
        app_id  INTEGER NOT NULL,
        state   TEXT NOT NULL,
        machine TEXT,
        record  TEXT NOT NULL
    ) STRICT;
    CREATE INDEX volumes_by_machine ON volumes (machine) WHERE machine NOT NULL;
",
];
