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

-- The n-th of the pieces that stand behind each other in `whole`; `ends` begins with 0 and says where each one ends.
create function ledger.piece(whole bytea, ends integer[], n integer) returns bytea
language sql immutable parallel safe
return substring(whole, ends[n] + 1, ends[n + 1] - ends[n]);

-- Appends batches, each to another partition, if and only if every partition's head is the one that its writer expects.
-- All or nothing; the batches stand in the order of their partitions.
--
-- outcome 'written'     the batches are in the log; `keys` are those of `absent_keys` that the log has
-- outcome 'separately'  one of several batches cannot be written; nothing was, each is to be appended alone
-- and of a single batch
-- outcome 'stale'       another writer was faster; nothing was written
-- outcome 'known_keys'  some keys are in the log already, `keys` names them; nothing was written
-- outcome 'known_items' an item that the batch creates exists already; nothing was written
-- outcome 'clock_skew'  the writer's clock is more than 5 s ahead of the database's; nothing was written
create function ledger.append(
    -- A row for each batch; its events are those behind the first `event_firsts`.
    partitions integer[], expected_positions bigint[], expected_hashes bytea, recorded_ats timestamptz[],
    event_firsts integer[], event_counts integer[],
    -- A column comes as one value, all rows behind each other, because an array costs the client a multiple. Text is
    -- separated by line feeds, numbers and instants by commas (nothing: null). Of bytes, `*_ends` says where each row
    -- ends; a hash has 32 bytes, a key 16 (zeros: none), the number of a batch or kind, from 1, one.
    event_batches bytea, event_accounts text, event_kinds bytea, type_names text[], kind_names text[],
    event_keys bytea, event_hashes bytea, event_lines bytea, event_ends text,
    account_batches bytea, account_ids text, account_positions text, account_dues text,
    account_states bytea, account_ends text,
    -- The first `items_created` items are new, the others exist. An id may be any text, so its separator is named.
    items_created integer, item_batches bytea, item_accounts text, item_kinds bytea, item_kind_names text[],
    item_ids text, item_id_separator text, item_dues text, item_states bytea, item_ends text,
    absent_keys bytea[],
    out outcome text, out keys bytea[]
) language plpgsql security definer set search_path = ledger, pg_temp as $$
declare
    batches constant integer := cardinality(partitions);
    no_key constant bytea := decode(repeat('00', 16), 'hex');
    earliest constant timestamptz := (select min(r) from unnest(recorded_ats) as r);
    accounts_of_events constant text[] := string_to_array(event_accounts, E'\n');
    line_ends constant integer[] := string_to_array(event_ends, ',')::integer[];
    account_state_ends constant integer[] := string_to_array(account_ends, ',')::integer[];
    accounts_of_items constant text[] := string_to_array(item_accounts, E'\n');
    ids_of_items constant text[] := string_to_array(item_ids, item_id_separator);
    dues_of_items constant text[] := string_to_array(item_dues, ',', '');
    item_state_ends constant integer[] := string_to_array(item_ends, ',')::integer[];
    changed integer;
    violated text;
begin
    if (select max(r) from unnest(recorded_ats) as r) > clock_timestamp() + interval '5 seconds' then
        outcome := case when batches = 1 then 'clock_skew' else 'separately' end;
        return;
    end if;
    begin
        if batches > 1 then
            perform from heads h where h.partition = any (partitions) order by h.partition for update;
        end if;

        update heads h
        set position = b.position + b.added,
            hash = substring(event_hashes, (b.first + b.added) * 32 - 31, 32),
            recorded_at = b.recorded_at
        from unnest(partitions, expected_positions, recorded_ats, event_firsts, event_counts)
            with ordinality as b (partition, position, recorded_at, first, added, n)
        where h.partition = b.partition and h.position = b.position and h.recorded_at <= b.recorded_at
          and h.hash = substring(expected_hashes, b.n::integer * 32 - 31, 32);
        get diagnostics changed = row_count;
        if changed < batches then
            raise exception 'stale' using errcode = 'CL001';
        end if;

        insert into events (partition, position, account, type, kind, recorded_at, key, line, hash)
        select partitions[b], expected_positions[b] + n - event_firsts[b], account,
               type_names[get_byte(event_kinds, n - 1)], kind_names[get_byte(event_kinds, n - 1)], recorded_ats[b],
               nullif(substring(event_keys, n * 16 - 15, 16), no_key),
               piece(event_lines, line_ends, n), substring(event_hashes, n * 32 - 31, 32)
        from (select account, ordinal::integer as n, get_byte(event_batches, ordinal::integer - 1) as b
              from unnest(accounts_of_events) with ordinality as u (account, ordinal)) e;

        insert into accounts as a (partition, account, position, state, next_due_at)
        select partitions[get_byte(account_batches, n - 1)], account, position::bigint,
               piece(account_states, account_state_ends, n), due::timestamptz
        from (select account, position, due, ordinal::integer as n
              from unnest(string_to_array(account_ids, E'\n'), string_to_array(account_positions, ','),
                          string_to_array(account_dues, ',', ''))
                  with ordinality as u (account, position, due, ordinal)) e
        on conflict (partition, account) do update
        set position = excluded.position,
            state = excluded.state,
            next_due_at = case
                when a.next_due_at <= earliest then excluded.next_due_at
                else least(a.next_due_at, excluded.next_due_at)
            end;

        if items_created > 0 then
            insert into items (partition, account, kind, id, due_at, state)
            select partitions[get_byte(item_batches, n - 1)], account, item_kind_names[get_byte(item_kinds, n - 1)], id,
                   due::timestamptz, piece(item_states, item_state_ends, n)
            from (select account, id, due, ordinal::integer as n
                  from unnest(accounts_of_items, ids_of_items, dues_of_items)
                      with ordinality as u (account, id, due, ordinal)
                  where ordinal <= items_created) i;
        end if;

        if items_created < cardinality(accounts_of_items) then
            insert into items (partition, account, kind, id, due_at, state)
            select partitions[get_byte(item_batches, n - 1)], account, item_kind_names[get_byte(item_kinds, n - 1)], id,
                   due::timestamptz, piece(item_states, item_state_ends, n)
            from (select account, id, due, ordinal::integer as n
                  from unnest(accounts_of_items, ids_of_items, dues_of_items)
                      with ordinality as u (account, id, due, ordinal)
                  where ordinal > items_created) i
            on conflict (partition, account, kind, id) do update
            set due_at = excluded.due_at, state = excluded.state;
        end if;
    exception
        when sqlstate 'CL001' then
            outcome := case when batches = 1 then 'stale' else 'separately' end;
            return;
        when unique_violation then
            get stacked diagnostics violated = constraint_name;
            if violated not in ('items_pkey', 'events_key') then
                raise;
            elsif batches > 1 then
                outcome := 'separately';
            elsif violated = 'items_pkey' then
                outcome := 'known_items';
            else
                select 'known_keys', array_agg(e.key) into outcome, keys
                from events e
                where e.partition = any (partitions) and e.key = any (array(
                    select substring(event_keys, n * 16 - 15, 16) from generate_series(1, cardinality(accounts_of_events)) as n
                ));
            end if;
            return;
    end;
    outcome := 'written';
    if cardinality(absent_keys) > 0 then
        select array_agg(e.key) into keys
        from events e where e.partition = any (partitions) and e.key = any (absent_keys);
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
