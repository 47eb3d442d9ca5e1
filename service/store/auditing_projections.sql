-- name: reached
-- The projections of some versions that are read, and how far they are in a partition.
select c.name, c.generation, k.position
from projections.current c
join projections.generations g on g.name = c.name and g.generation = c.generation
join unnest($2::text[], $3::integer[]) as ours (name, version) on ours.name = g.name and ours.version = g.version
join projections.checkpoints k on k.partition = $1 and k.name = c.name and k.generation = c.generation
order by c.name

-- name: lines_until
select position, line from ledger.events
where partition = $1 and position > $2 and position <= $3 order by position limit $4

-- name: history_rows
select account, term, position from projections.history where partition = $1 and generation = $2

-- name: usage_rows
select account, hour, unit, operation, actor, count, used, charged, unfunded, refunded
from projections.usage where partition = $1 and generation = $2

-- name: finance_rows
select at, late, unit, kind, basis, granted, consumed, refunded, expired, revoked, unfunded
from projections.finance where partition = $1 and generation = $2

-- name: accounts_rows
select account, plan, status, opened_at from projections.accounts where partition = $1 and generation = $2
