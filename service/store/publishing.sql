-- name: lease
select held, held_epoch, kept_stream, kept_positions from ledger.lease_publishing($1, $2, $3, $4, $5)

-- name: leave
select ledger.leave_publishing($1)

-- name: heads
-- Where every partition ends, as of one instant.
select partition, position from ledger.heads order by partition

-- name: behind
-- The next lines of some partitions, each behind its position, by partition and position; at most $3 of each.
select e.partition, e.position, e.account, e.type, e.kind, e.recorded_at, e.line, e.hash
from unnest($1::integer[], $2::bigint[]) as p (partition, position)
cross join lateral (
    select partition, position, account, type, kind, recorded_at, line, hash
    from ledger.events
    where partition = p.partition and position > p.position
    order by position
    limit $3
) e
order by e.partition, e.position

-- name: hashes
-- The hashes of the lines at some places; where the log ends before, there is none.
select e.partition, e.hash
from unnest($1::integer[], $2::bigint[]) as p (partition, position)
join ledger.events e on e.partition = p.partition and e.position = p.position

-- name: oldest
-- When the first of the lines behind some places was recorded.
select min(e.recorded_at) as recorded_at
from unnest($1::integer[], $2::bigint[]) as p (partition, position)
join ledger.events e on e.partition = p.partition and e.position = p.position + 1
