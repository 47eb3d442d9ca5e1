-- Which checkpoints are kept (service/checkpoints/checkpointer.py): all of the last 24 hours, and of each hour before that
-- the last one. A busy ledger signs one each second; what was true at the end of an hour proves what was before it.
--
-- The rule is in the trigger, so nobody can delete more than it allows, whatever rights he has. Nothing is changed, and
-- the last checkpoint always stays.

create index checkpoints_made_at on ledger.checkpoints (made_at);

drop trigger append_only on ledger.checkpoints;
create trigger append_only before update or truncate on ledger.checkpoints
    for each statement execute function ledger.refuse_rewrite();
alter table ledger.checkpoints enable always trigger append_only;

create function ledger.refuse_forgetting() returns trigger language plpgsql
    set search_path = ledger, pg_temp as $$
begin
    if old.made_at < clock_timestamp() - interval '24 hours' and exists (
        select from (select c.made_at from checkpoints c where c.number > old.number order by c.number limit 1) next
        where date_trunc('hour', next.made_at, 'UTC') = date_trunc('hour', old.made_at, 'UTC')
    ) then
        return old;
    end if;
    raise exception 'checkpoint % is kept: it is the last one of its hour, or of the last 24 hours', old.number
        using errcode = 'restrict_violation';
end $$;
create trigger kept before delete on ledger.checkpoints for each row execute function ledger.refuse_forgetting();
alter table ledger.checkpoints enable always trigger kept;

-- Deletes up to `in_limit` checkpoints that need not be kept, the oldest first, and returns how many.
create function ledger.thin_checkpoints(in_limit integer) returns bigint
    language plpgsql security definer set search_path = ledger, pg_temp as $$
declare
    deleted bigint;
begin
    delete from checkpoints where number in (
        select o.number
        from (
            select c.number, c.made_at, lead(c.made_at) over (order by c.number) as next_at
            from checkpoints c
            where c.made_at < clock_timestamp() - interval '24 hours'
        ) o
        where date_trunc('hour', o.made_at, 'UTC') = date_trunc('hour', o.next_at, 'UTC')
        order by o.number limit in_limit
    );
    get diagnostics deleted = row_count;
    return deleted;
end $$;

revoke all on function ledger.thin_checkpoints from public;
grant execute on function ledger.thin_checkpoints to credit_ledger_app;
