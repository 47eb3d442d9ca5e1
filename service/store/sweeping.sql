-- name: due
-- Accounts with something due, the longest due first in each partition, at most $3 of each; without those in $4.
select d.partition, d.account, d.next_due_at
from unnest($1::integer[]) as p (partition)
cross join lateral (
    select a.partition, a.account, a.next_due_at
    from ledger.accounts a
    where a.partition = p.partition and a.next_due_at <= $2 and a.account <> all ($4::text[])
    order by a.next_due_at
    limit $3
) d
order by d.next_due_at

-- name: postpone
select ledger.postpone($1, $2, $3, $4)
