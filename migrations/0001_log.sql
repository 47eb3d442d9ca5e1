-- The log and what hangs on it (docs/explanation/architecture.md).
--
-- `events` is the truth: append-only, gapless positions in each partition, every line chained to the one before it.
-- `heads` says where each partition ends; `accounts` and `items` are the inline projection that decisions read. All four
-- change in one place, `ledger.append`, in one transaction. Every key begins with the partition.

create table ledger.identity (
    one boolean primary key default true check (one),
    id uuid not null default gen_random_uuid(),
    partitions integer not null check (partitions between 1 and 1024),
    created_at timestamptz not null default now()
);

create table ledger.heads (
    partition integer primary key,
    position bigint not null,
    hash bytea not null,
    recorded_at timestamptz not null
) with (fillfactor = 10);

create table ledger.events (
    partition integer not null,
    position bigint not null,
    account text not null,
    type text not null,
    kind text not null,
    recorded_at timestamptz not null,
    key bytea, -- 16 bytes of SHA-256 over account and idempotency key; on the first event of a caller's command only
    line bytea not null,
    hash bytea not null,
    primary key (partition, position)
);
alter table ledger.events alter column line set storage external;
create index events_account on ledger.events (partition, account, position);
create unique index events_key on ledger.events (partition, key) where key is not null;

create table ledger.accounts (
    partition integer not null,
    account text not null,
    position bigint not null,
    state bytea not null,
    next_due_at timestamptz, -- never later than the first due fact; only ever made earlier, until that instant passed
    primary key (partition, account)
) with (fillfactor = 60);
alter table ledger.accounts alter column state set storage external;
create index accounts_due on ledger.accounts (partition, next_due_at) where next_due_at is not null;

create table ledger.items (
    partition integer not null,
    account text not null,
    kind text not null,
    id text not null,
    due_at timestamptz, -- when an open hold ends for good; null for all else
    state bytea not null,
    primary key (partition, account, kind, id)
) with (fillfactor = 80);
alter table ledger.items alter column state set storage external;
create index items_due on ledger.items (partition, account, due_at) where due_at is not null;

-- The log refuses to be rewritten, whoever asks.
create function ledger.refuse_rewrite() returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    raise exception 'ledger.events is append-only: % refused', tg_op using errcode = 'restrict_violation';
end $$;
create trigger append_only before update or delete or truncate on ledger.events
    for each statement execute function ledger.refuse_rewrite();
alter table ledger.events enable always trigger append_only;

-- Appends a batch to one partition if, and only if, the head is the one that the writer expects. All or nothing.
--
-- outcome 'written'    the batch is in the log; `keys` are those of `absent_keys` that the log has
-- outcome 'stale'      another writer was faster; nothing was written, the head returned is the one to start from
-- outcome 'known_keys' some keys are in the log already, `keys` names them; nothing was written
-- outcome 'known_items' an item that the batch creates exists already; nothing was written
-- outcome 'clock_skew' the writer's clock is more than 5 s ahead of the database's; nothing was written
create function ledger.append(
    in_partition integer,
    expected_position bigint,
    expected_hash bytea,
    in_recorded_at timestamptz,
    event_accounts text[], event_types text[], event_kinds text[],
    event_keys bytea[], event_lines bytea[], event_hashes bytea[],
    account_ids text[], account_positions bigint[], account_states bytea[], account_dues timestamptz[],
    item_accounts text[], item_kinds text[], item_ids text[], item_dues timestamptz[], item_states bytea[], item_created boolean[],
    absent_keys bytea[],
    out outcome text, out head_position bigint, out head_hash bytea, out head_recorded_at timestamptz, out keys bytea[]
) language plpgsql security definer set search_path = ledger, pg_temp as $$
declare
    added integer := cardinality(event_lines);
    violated text;
begin
    if in_recorded_at > clock_timestamp() + interval '5 seconds' then
        outcome := 'clock_skew';
        return;
    end if;
    begin
        update heads h
        set position = expected_position + added, hash = event_hashes[added], recorded_at = in_recorded_at
        where h.partition = in_partition and h.position = expected_position and h.hash = expected_hash
          and h.recorded_at <= in_recorded_at;
        if not found then
            select 'stale', h.position, h.hash, h.recorded_at
            into outcome, head_position, head_hash, head_recorded_at
            from heads h where h.partition = in_partition;
            return;
        end if;

        insert into events (partition, position, account, type, kind, recorded_at, key, line, hash)
        select in_partition, expected_position + e.ordinal, e.account, e.type, e.kind, in_recorded_at, e.key, e.line, e.hash
        from unnest(event_accounts, event_types, event_kinds, event_keys, event_lines, event_hashes)
            with ordinality as e (account, type, kind, key, line, hash, ordinal);

        insert into accounts as a (partition, account, position, state, next_due_at)
        select in_partition, n.account, n.position, n.state, n.next_due_at
        from unnest(account_ids, account_positions, account_states, account_dues)
            as n (account, position, state, next_due_at)
        on conflict (partition, account) do update
        set position = excluded.position,
            state = excluded.state,
            next_due_at = case
                when a.next_due_at <= in_recorded_at then excluded.next_due_at
                else least(a.next_due_at, excluded.next_due_at)
            end;

        insert into items (partition, account, kind, id, due_at, state)
        select in_partition, i.account, i.kind, i.id, i.due_at, i.state
        from unnest(item_accounts, item_kinds, item_ids, item_dues, item_states, item_created)
            as i (account, kind, id, due_at, state, created)
        where i.created;

        insert into items (partition, account, kind, id, due_at, state)
        select in_partition, i.account, i.kind, i.id, i.due_at, i.state
        from unnest(item_accounts, item_kinds, item_ids, item_dues, item_states, item_created)
            as i (account, kind, id, due_at, state, created)
        where not i.created
        on conflict (partition, account, kind, id) do update
        set due_at = excluded.due_at, state = excluded.state;
    exception when unique_violation then
        get stacked diagnostics violated = constraint_name;
        if violated = 'items_pkey' then
            outcome := 'known_items';
        elsif violated = 'events_key' then
            select 'known_keys', array_agg(e.key) into outcome, keys
            from events e where e.partition = in_partition and e.key = any (event_keys);
        else
            raise;
        end if;
        return;
    end;
    outcome := 'written';
    if cardinality(absent_keys) > 0 then
        select array_agg(e.key) into keys from events e where e.partition = in_partition and e.key = any (absent_keys);
    end if;
end $$;

-- What the application may do: read, and append. It owns nothing.
do $$
begin
    create role credit_ledger_app nologin; -- shared by all databases of the server
exception when duplicate_object or unique_violation then
    null;
end $$;
grant usage on schema ledger to credit_ledger_app;
grant select on all tables in schema ledger to credit_ledger_app;
revoke all on function ledger.append from public;
grant execute on function ledger.append to credit_ledger_app;
