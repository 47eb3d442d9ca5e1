-- Who publishes the log, and how far it came (service/publisher.py).
--
-- One process at a time publishes and takes durable commands, the one that holds the lease in the single row of
-- `publishing`. The lease keeps processes out of each other's way; what makes a second publisher harmless is that the
-- stream refuses it. How far the stream reaches is asked of the stream itself; `positions` (of partition 0, 1, ...) only
-- tells a partition whose messages grew too old for a stream with limits from one that was never published. They belong
-- to the stream that was created at `stream`.

create table ledger.publishing (
    one boolean primary key default true check (one),
    holder text not null default '',
    epoch bigint not null default 0, -- one more at each change of the holder
    until timestamptz not null default '-infinity',
    stream text not null default '',
    positions bigint[] not null default '{}'
);
insert into ledger.publishing (one) values (true);

-- Takes the lease for some seconds, or renews it; `held` says whether the caller has it now. With `by_force` it is taken
-- from whoever has it. The positions are kept when they are named, by the holder only.
create function ledger.lease_publishing(
    in_holder text, in_seconds double precision, by_force boolean, in_stream text, in_positions bigint[],
    out held boolean, out held_epoch bigint, out kept_stream text, out kept_positions bigint[]
) language plpgsql security definer set search_path = ledger, pg_temp as $$
begin
    update publishing p
    set epoch = p.epoch + case when p.holder = in_holder then 0 else 1 end,
        holder = in_holder,
        until = clock_timestamp() + make_interval(secs => in_seconds),
        stream = coalesce(in_stream, p.stream),
        positions = coalesce(in_positions, p.positions)
    where p.holder = in_holder or p.until < clock_timestamp() or by_force
    returning p.epoch, p.stream, p.positions into held_epoch, kept_stream, kept_positions;
    held := found;
end $$;

-- Gives the lease up, so that the next one need not wait for its end.
create function ledger.leave_publishing(in_holder text) returns void
language sql security definer set search_path = ledger, pg_temp as $$
    update publishing set until = '-infinity' where holder = in_holder;
$$;

grant select on ledger.publishing to credit_ledger_app;
revoke all on function ledger.lease_publishing from public;
revoke all on function ledger.leave_publishing from public;
grant execute on function ledger.lease_publishing, ledger.leave_publishing to credit_ledger_app;
