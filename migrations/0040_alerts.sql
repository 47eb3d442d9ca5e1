-- Alerts and outgoing webhooks.
--
-- Where each account stands is a projection (projections/alerts.py), built in generations as any other. What it raises is
-- not built again: an alert is said once. So it goes into `alerts.outbox` in the transaction of the batch that raised it,
-- and `alerts.raised` says up to which position of each partition that was done; a generation that is built again passes
-- these positions and raises nothing. From the outbox alerts go to the stream of NATS and to webhooks.

create table projections.alerts (
    partition integer not null,
    generation integer not null,
    account text not null,
    state text not null,
    primary key (partition, generation, account)
) with (fillfactor = 50);

create schema alerts;

-- Up to which position alerts were raised and timers were set. What a ledger has seen before this migration is not told
-- any more; what is still to come of it is.
create table alerts.raised (
    partition integer primary key,
    raised bigint not null,
    timed bigint not null
) with (fillfactor = 20);
insert into alerts.raised (partition, raised, timed) select partition, position, 0 from ledger.heads;

-- Accounts to look at when their instant has come.
create table alerts.timers (
    partition integer not null,
    account text not null,
    kind text not null,
    subject text not null,
    at timestamptz not null,
    primary key (partition, account, kind, subject)
);
create index timers_at on alerts.timers (at);

-- What was raised. `number` is its place among all alerts, given when it is first sent on, without a gap.
create table alerts.outbox (
    id text primary key,
    partition integer not null,
    position bigint not null, -- 0: time raised it
    kind text not null,
    account text not null,
    raised_at timestamptz not null,
    data bytea not null,
    number bigint
);
create index outbox_unnumbered on alerts.outbox (raised_at, partition, position, id) where number is null;
create unique index outbox_number on alerts.outbox (number) where number is not null;

-- The last number that was given, and the last one that is in the stream.
create table alerts.numbers (
    one boolean primary key default true check (one),
    given bigint not null default 0,
    published bigint not null default 0
);
insert into alerts.numbers (one) values (true);

-- Receivers of webhooks as the settings have them, and up to which number alerts were handed to each.
create table alerts.endpoints (
    name text primary key,
    kinds text[], -- null: all
    accounts text[], -- prefixes; null: all
    handed bigint not null
);

-- The log of deliveries: what became of each alert at each receiver.
create table alerts.deliveries (
    endpoint text not null,
    alert text not null,
    number bigint not null,
    state text not null check (state in ('pending', 'delivered', 'given_up')),
    attempts integer not null default 0,
    begun_at timestamptz not null, -- from here the time is counted after which it is given up
    next_at timestamptz not null,
    taken_until timestamptz, -- an attempt is under way, unless its process ended
    last_at timestamptz,
    status integer, -- of the last answer; null: there was none
    error text,
    primary key (endpoint, alert)
) with (fillfactor = 70);
create index deliveries_pending on alerts.deliveries (endpoint, next_at, number) where state = 'pending';
create index deliveries_number on alerts.deliveries (number);

grant usage on schema alerts to credit_ledger_app;
grant select, insert, update, delete, truncate on projections.alerts to credit_ledger_app;
grant select, insert, update, delete on all tables in schema alerts to credit_ledger_app;
