-- Catalogs by version, and which one is in force since when (SEMANTICS.md section 1, "catalog").
--
-- A version's content never changes: the file is kept as written, with the hash of its content. What is in force is the
-- newest row of `activations`, an append-only history from number 1 without a gap; so an old catalog comes back by being
-- activated again, and "which prices held last Tuesday" has an answer. Both tables are small and belong to no partition.

create table ledger.catalogs (
    version text primary key,
    hash text not null check (hash ~ '^[0-9a-f]{64}$'), -- of the content, not of its layout
    source text not null,
    stored_at timestamptz not null default clock_timestamp()
);

create table ledger.activations (
    number bigint primary key,
    version text not null references ledger.catalogs (version),
    hash text not null,
    activated_at timestamptz not null,
    by text not null
);

-- The message names the table; it was written for the log alone.
create or replace function ledger.refuse_rewrite() returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    raise exception '%.% is append-only: % refused', tg_table_schema, tg_table_name, tg_op
        using errcode = 'restrict_violation';
end $$;
create trigger append_only before update or delete or truncate on ledger.catalogs
    for each statement execute function ledger.refuse_rewrite();
alter table ledger.catalogs enable always trigger append_only;
create trigger append_only before update or delete or truncate on ledger.activations
    for each statement execute function ledger.refuse_rewrite();
alter table ledger.activations enable always trigger append_only;

-- Stores a catalog and brings it into force; all or nothing, one after the other.
--
-- `again` says whether a catalog that was in force before may come back; a start does not ask for that, an operator does.
--
-- outcome 'activated' it is in force from now on
-- outcome 'in_force'  it was already; nothing was written
-- outcome 'known'     it was in force before, and another one is now; nothing was written, because `again` is false
-- outcome 'changed'   the version is stored with other content, whose hash is `stored_hash`; nothing was written
create function ledger.activate_catalog(
    in_version text, in_hash text, in_source text, in_by text, again boolean,
    out outcome text, out stored_hash text
) language plpgsql security definer set search_path = ledger, pg_temp as $$
declare
    newest activations;
begin
    perform 1 from identity for update; -- one activation at a time
    select c.hash into stored_hash from catalogs c where c.version = in_version;
    if stored_hash <> in_hash then
        outcome := 'changed';
        return;
    end if;
    if stored_hash is null then
        stored_hash := in_hash;
        insert into catalogs (version, hash, source) values (in_version, in_hash, in_source);
    end if;
    select a.number, a.version, a.hash, a.activated_at, a.by into newest
    from activations a order by a.number desc limit 1;
    if newest.version = in_version then
        outcome := 'in_force';
    elsif not again and exists (select from activations a where a.version = in_version) then
        outcome := 'known';
    else
        outcome := 'activated';
        insert into activations (number, version, hash, activated_at, by)
        values (
            coalesce(newest.number, 0) + 1, in_version, in_hash,
            greatest(clock_timestamp(), newest.activated_at), in_by
        );
    end if;
end $$;

grant select on ledger.catalogs, ledger.activations to credit_ledger_app;
revoke all on function ledger.activate_catalog from public;
grant execute on function ledger.activate_catalog to credit_ledger_app;
