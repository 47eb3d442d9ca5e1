-- The log goes on when its own head is ahead of the clock.
--
-- Nothing is recorded more than 5 s ahead of this server's clock. But a head may be: its events were recorded while the
-- clock was wrong, and then it was set back. Time stands still for such a partition (`recorded_at` is the head's) until
-- the clock has caught up, instead of refusing every command until then.
do $$
declare
    before constant text := pg_get_functiondef('ledger.append'::regproc);
    bound constant text := 'if (select max(r) from unnest(recorded_ats) as r) > clock_timestamp() + interval ''5 seconds'' then';
    after constant text := replace(before, bound,
        'if (select max(r) from unnest(recorded_ats) as r) > clock_timestamp() + interval ''5 seconds''
       and exists (select from unnest(partitions, recorded_ats) as b (partition, recorded_at)
                   join heads h on h.partition = b.partition
                   where b.recorded_at > greatest(h.recorded_at, clock_timestamp() + interval ''5 seconds'')) then');
begin
    if after = before then
        raise exception 'ledger.append is not the one of migration 0001';
    end if;
    execute after;
end $$;
