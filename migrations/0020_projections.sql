-- Projections: what people look at, folded from the log by the projector (service/projector.py).
--
-- Everything here can be thrown away and built again from `ledger.events`, so the application may write it. A projection
-- is built in generations side by side: each row belongs to one, `current` names the one that is read, and a switch is
-- the change of one row of it. `checkpoints` says how far each generation is in each partition; rows and checkpoint
-- change in one transaction, so every event is in a generation exactly once.

create schema projections;

create table projections.generations (
    name text not null,
    generation integer not null,
    version integer not null, -- of the fold that makes it; another version's generations are left alone
    created_at timestamptz not null default clock_timestamp(),
    differs boolean, -- whether it said something else than the one of its version that it replaced; null: not compared
    primary key (name, generation)
);

create table projections.current (
    name text primary key,
    generation integer not null
);

create table projections.checkpoints (
    partition integer not null,
    name text not null,
    generation integer not null,
    position bigint not null,
    primary key (partition, name, generation)
) with (fillfactor = 20);

-- One reader works on a partition at a time: it holds this row's lock while it does. `looked_at` is its heartbeat.
create table projections.readers (
    partition integer primary key,
    looked_at timestamptz not null
) with (fillfactor = 20);

-- The events of an account by what a list may ask for (projections/history.py).
create table projections.history (
    partition integer not null,
    generation integer not null,
    account text not null,
    term text not null,
    position bigint not null,
    primary key (partition, generation, account, term, position)
);

-- Work by hour, operation and actor (projections/usage.py); the account '' is the whole partition.
create table projections.usage (
    partition integer not null,
    generation integer not null,
    account text not null,
    hour text not null,
    unit text not null,
    operation text not null, -- '' when the work named none
    actor text not null,
    count numeric not null,
    used numeric not null,
    charged numeric not null,
    unfunded numeric not null,
    refunded numeric not null,
    primary key (partition, generation, account, hour, unit, operation, actor)
) with (fillfactor = 70);

-- Movements of credits by hour, kind of grant and cost basis (projections/finance.py). `at` is the hour, and of a fact
-- that was written in a later hour than the one in which it holds (`late`) its very instant.
create table projections.finance (
    partition integer not null,
    generation integer not null,
    at text not null,
    late boolean not null,
    unit text not null,
    kind text not null,
    basis text not null,
    granted numeric not null,
    consumed numeric not null,
    refunded numeric not null,
    expired numeric not null,
    revoked numeric not null,
    unfunded numeric not null,
    primary key (partition, generation, at, late, unit, kind, basis)
) with (fillfactor = 70);

-- Of which kind each grant is, and what was paid for it.
create table projections.finance_grants (
    partition integer not null,
    generation integer not null,
    account text not null,
    grant_id text not null,
    kind text not null,
    basis text not null,
    primary key (partition, generation, account, grant_id)
);

-- Which accounts there are (projections/accounts.py).
create table projections.accounts (
    partition integer not null,
    generation integer not null,
    account text not null,
    plan text not null,
    status text not null,
    opened_at text not null,
    primary key (partition, generation, account)
) with (fillfactor = 80);
create index accounts_opened on projections.accounts (partition, generation, opened_at, account);
create index accounts_plan on projections.accounts (partition, generation, plan, opened_at, account);

-- How many lines of a partition were recorded before an instant: a binary search, because `recorded_at` never goes back
-- inside a partition and positions have no gaps.
create function ledger.position_at(in_partition integer, instant timestamptz) returns bigint
language plpgsql stable set search_path = ledger, pg_temp as $$
declare
    low bigint := 0;
    high bigint;
    middle bigint;
begin
    select h.position into high from heads h where h.partition = in_partition;
    while low < high loop
        middle := (low + high + 1) / 2;
        if (select e.recorded_at < instant from events e where e.partition = in_partition and e.position = middle) then
            low := middle;
        else
            high := middle - 1;
        end if;
    end loop;
    return low;
end $$;

grant usage on schema projections to credit_ledger_app;
grant select, insert, update, delete, truncate on all tables in schema projections to credit_ledger_app;
grant execute on function ledger.position_at to credit_ledger_app;
