-- Holds as they are looked at together (projections/holds.py): built from `ledger.events` like all projections.

-- Holds by the hour in which they were made; one with several lines counts once for each.
create table projections.holds_made (
    partition integer not null,
    generation integer not null,
    hour text not null,
    unit text not null,
    operation text not null, -- '' when the hold named none
    actor text not null,
    holds numeric not null,
    amount numeric not null,
    primary key (partition, generation, hour, unit, operation, actor)
) with (fillfactor = 70);

-- What lines came to, as percent of what was reserved for them, by the hour in which they were settled.
create table projections.holds_settled (
    partition integer not null,
    generation integer not null,
    hour text not null,
    unit text not null,
    operation text not null,
    percent integer not null,
    holds numeric not null,
    reserved numeric not null,
    actual numeric not null,
    primary key (partition, generation, hour, unit, operation, percent)
) with (fillfactor = 70);

-- What expired unsettled and what was settled late after all, under the operation and the actor of the hold.
create table projections.holds_expired (
    partition integer not null,
    generation integer not null,
    account text not null,
    hour text not null,
    unit text not null,
    operation text not null,
    actor text not null,
    holds numeric not null,
    amount numeric not null,
    seconds numeric not null,
    settled_late numeric not null,
    primary key (partition, generation, account, hour, unit, operation, actor)
) with (fillfactor = 70);
create index holds_expired_hour on projections.holds_expired (partition, generation, hour);

-- Open holds without an end.
create table projections.holds_endless (
    partition integer not null,
    generation integer not null,
    account text not null,
    reservation_id text not null,
    operation text not null,
    actor text not null,
    occupies text not null, -- JSON
    created_at text not null,
    primary key (partition, generation, account, reservation_id)
);
create index holds_endless_created on projections.holds_endless (partition, generation, created_at);

grant select, insert, update, delete, truncate on projections.holds_made, projections.holds_settled,
    projections.holds_expired, projections.holds_endless to credit_ledger_app;
