-- Signed checkpoints: what the log was at an instant, so that nobody can change it afterwards unseen (service/checkpoints).
--
-- `checkpoints` is an append-only list from number 1 without a gap. `subtrees` keeps the Merkle roots of whole subtrees of
-- 256 and 65,536 lines of a partition, so that a tree is known again after a restart, and a proof is found, without
-- reading the log; they can be computed again from it at any time.

create table ledger.checkpoints (
    number bigint primary key,
    note text not null,
    made_at timestamptz not null
);
create trigger append_only before update or delete or truncate on ledger.checkpoints
    for each statement execute function ledger.refuse_rewrite();
alter table ledger.checkpoints enable always trigger append_only;

create table ledger.subtrees (
    partition integer not null,
    level integer not null check (level in (8, 16)),
    number bigint not null, -- from 0: the subtree begins at line number * 2^level
    root bytea not null check (octet_length(root) = 32),
    primary key (partition, level, number)
);
create trigger append_only before update or delete or truncate on ledger.subtrees
    for each statement execute function ledger.refuse_rewrite();
alter table ledger.subtrees enable always trigger append_only;

-- Adds a checkpoint, and the subtrees that became whole since the last one; false when there is one of this number.
create function ledger.add_checkpoint(
    in_number bigint, in_note text, in_made_at timestamptz,
    partitions integer[], levels integer[], numbers bigint[], roots bytea[]
) returns boolean language plpgsql security definer set search_path = ledger, pg_temp as $$
begin
    if in_number <> (select coalesce(max(c.number), 0) + 1 from checkpoints c) then
        return false;
    end if;
    insert into checkpoints (number, note, made_at) values (in_number, in_note, in_made_at)
    on conflict (number) do nothing;
    if not found then
        return false;
    end if;
    insert into subtrees (partition, level, number, root)
    select * from unnest(partitions, levels, numbers, roots)
    on conflict (partition, level, number) do nothing;
    return true;
end $$;

grant select on ledger.checkpoints, ledger.subtrees to credit_ledger_app;
revoke all on function ledger.add_checkpoint from public;
grant execute on function ledger.add_checkpoint to credit_ledger_app;
