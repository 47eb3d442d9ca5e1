-- name: following
-- The lines right behind some positions, where there are any.
select e.partition, e.position, e.line
from unnest($1::integer[], $2::bigint[]) as k (partition, position)
join ledger.events e on e.partition = k.partition and e.position = k.position + 1

-- name: raised
-- Up to which position alerts were raised and timers were set, of the partitions in which that is not up to $2.
select r.partition, r.raised, r.timed
from unnest($1::integer[], $2::bigint[]) as e (partition, position)
join alerts.raised r on r.partition = e.partition and least(r.raised, r.timed) < e.position
order by r.partition
for update of r

-- name: note_raised
insert into alerts.raised (partition, raised, timed)
select partition, position, position from unnest($1::integer[], $2::bigint[]) as u (partition, position)
on conflict (partition) do update
set raised = greatest(alerts.raised.raised, excluded.raised), timed = greatest(alerts.raised.timed, excluded.timed)

-- name: raise
insert into alerts.outbox (id, partition, position, kind, account, raised_at, data)
select id, partition, position, kind, account, raised_at, data
from unnest(
    $1::text[], $2::integer[], $3::bigint[], $4::text[], $5::text[], $6::timestamptz[], $7::bytea[]
) as u (id, partition, position, kind, account, raised_at, data)
on conflict do nothing

-- name: set_timers
insert into alerts.timers (partition, account, kind, subject, at)
select partition, account, kind, subject, at
from unnest($1::integer[], $2::text[], $3::text[], $4::text[], $5::timestamptz[])
    as u (partition, account, kind, subject, at)
on conflict do nothing

-- name: due_timers
-- Timers whose instant has come, with the accounts as they are; those that another process looks at are left to it.
select t.partition, t.account, t.kind, t.subject, t.at, a.state
from alerts.timers t
left join ledger.accounts a on a.partition = t.partition and a.account = t.account
where t.at <= $1
order by t.at
limit $2
for update of t skip locked

-- name: remove_timers
delete from alerts.timers t
using unnest($1::integer[], $2::text[], $3::text[], $4::text[]) as u (partition, account, kind, subject)
where t.partition = u.partition and t.account = u.account and t.kind = u.kind and t.subject = u.subject
