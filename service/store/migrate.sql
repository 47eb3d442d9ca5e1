-- name: be_patient
-- How long a migration waits for a lock. Commands wait behind it when it waits for a table that they use.
select set_config('lock_timeout', $1, true)

-- name: lock
-- One migration at a time, whoever starts it.
select pg_advisory_xact_lock(7203184025531)

-- name: prepare
-- What a migration needs before the first one.
create schema if not exists ledger;
create table if not exists ledger.migrations (
    name text primary key,
    checksum text not null,
    applied_at timestamptz not null default now()
)

-- name: applied
select name, checksum from ledger.migrations

-- name: record
insert into ledger.migrations (name, checksum) values ($1, $2)

-- name: partitions
select partitions from ledger.identity

-- name: create_identity
insert into ledger.identity (partitions) values ($1)

-- name: create_heads
-- Every partition starts at position 0 with the hash of nothing.
insert into ledger.heads (partition, position, hash, recorded_at)
select p, 0, $2, to_timestamp(0) from generate_series(0, $1 - 1) as p
