-- name: reached
-- The projections of some versions that are read, and how far they are in a partition; where nothing says so, nowhere.
select c.name, c.generation, coalesce(k.position, 0) as position
from projections.current c
join projections.generations g on g.name = c.name and g.generation = c.generation
join unnest($2::text[], $3::integer[]) as ours (name, version) on ours.name = g.name and ours.version = g.version
left join projections.checkpoints k on k.partition = $1 and k.name = c.name and k.generation = c.generation
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

-- name: alerts_rows
select account, state from projections.alerts where partition = $1 and generation = $2

-- name: holds_rows
-- The rows of all four kinds, in columns of their own where they have any.
select 'made' as kind, '' as account, hour, unit, operation, actor, '' as id,
       concat_ws('|', holds, amount) as figures
from projections.holds_made where partition = $1 and generation = $2
union all
select 'settled', '', hour, unit, operation, percent::text, '', concat_ws('|', holds, reserved, actual)
from projections.holds_settled where partition = $1 and generation = $2
union all
select 'expired', account, hour, unit, operation, actor, '', concat_ws('|', holds, amount, seconds, settled_late)
from projections.holds_expired where partition = $1 and generation = $2
union all
select 'endless', account, '', '', '', '', reservation_id, concat_ws('|', operation, actor, occupies, created_at)
from projections.holds_endless where partition = $1 and generation = $2
