-- What the sweeper needs beside `append`: putting off a look that would find nothing (service/sweeper.py).
--
-- `accounts.next_due_at` is a lower bound: a hold that was settled leaves the instant at which it would have expired
-- behind. A sweep that finds nothing due then says when to look again. It changes no account and no balance, only the
-- column that sweeps look at, and only for an account to which nothing happened since the sweep read it.

create function ledger.postpone(
    in_partition integer, account_ids text[], account_positions bigint[], account_dues timestamptz[]
) returns void language sql security definer set search_path = ledger, pg_temp as $$
    update accounts a set next_due_at = n.next_due_at
    from unnest(account_ids, account_positions, account_dues) as n (account, position, next_due_at)
    where a.partition = in_partition and a.account = n.account and a.position = n.position
      and (n.next_due_at is null or a.next_due_at < n.next_due_at);
$$;
revoke all on function ledger.postpone from public;
grant execute on function ledger.postpone to credit_ledger_app;
