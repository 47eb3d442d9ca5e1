-- name: has_unnumbered
select exists (select from alerts.outbox where number is null) as found

-- name: lock_numbers
select given, published from alerts.numbers for update

-- name: number
-- Gives the next numbers behind $1, in the order in which alerts came about; what commits later gets a later one.
with picked as (
    select id, row_number() over (order by raised_at, partition, position, id) as place
    from (select id, raised_at, partition, position from alerts.outbox where number is null
          order by raised_at, partition, position, id limit $2) o
)
update alerts.outbox o set number = $1 + picked.place from picked where o.id = picked.id

-- name: note_given
update alerts.numbers set given = given + $1

-- name: published
select published, given from alerts.numbers

-- name: note_published
update alerts.numbers set published = $1 where published < $1

-- name: behind
select id, number, kind, account, raised_at, data from alerts.outbox where number > $1 order by number limit $2

-- name: register
-- A receiver as the settings have it; a new one is told what comes from now on.
insert into alerts.endpoints (name, kinds, accounts, handed)
select $1, $2, $3, given from alerts.numbers
on conflict (name) do update set kinds = excluded.kinds, accounts = excluded.accounts

-- name: hand
-- Hands the next alerts to a receiver, unless another process is at it; those of before $3 are too old to begin with.
with place as (
    select e.name, e.handed, e.kinds, e.accounts from alerts.endpoints e where e.name = $1 for update skip locked
),
next as (
    select o.id, o.number, o.raised_at,
           (p.kinds is null or o.kind = any (p.kinds))
           and (p.accounts is null
                or exists (select from unnest(p.accounts) as a (prefix) where left(o.account, length(a.prefix)) = a.prefix))
           as is_wanted
    from place p
    cross join lateral (
        select o.id, o.number, o.raised_at, o.kind, o.account
        from alerts.outbox o where o.number > p.handed order by o.number limit $4
    ) o
),
made as (
    insert into alerts.deliveries (endpoint, alert, number, state, begun_at, next_at)
    select $1, id, number, 'pending', $2, $2 from next where is_wanted and raised_at >= $3
    on conflict do nothing
),
moved as (
    update alerts.endpoints set handed = (select max(number) from next)
    where name = $1 and exists (select from next)
)
select count(*) as found from next

-- name: claim
-- Takes deliveries that are due, for as long as an attempt may last; if this process ends meanwhile they come up again.
update alerts.deliveries d
set attempts = d.attempts + 1, taken_until = $3
from (
    select endpoint, alert from alerts.deliveries
    where endpoint = $1 and state = 'pending' and next_at <= $2 and (taken_until is null or taken_until <= $2)
    order by next_at, number limit $4 for update skip locked
) due
join alerts.outbox o on o.id = due.alert
where d.endpoint = due.endpoint and d.alert = due.alert
returning d.alert, d.attempts, d.begun_at, o.number, o.kind, o.account, o.raised_at, o.data

-- name: settle
-- What became of an attempt; one that was asked for again meanwhile stays so.
update alerts.deliveries set state = $3, next_at = $4, taken_until = null, last_at = $5, status = $6, error = $7
where endpoint = $1 and alert = $2 and attempts = $8

-- name: hasten
-- A receiver that was away is back: what waits for it is due now.
update alerts.deliveries set next_at = $2 where endpoint = $1 and state = 'pending' and next_at > $2

-- name: backlog
select endpoint, count(*) as waiting, min(begun_at) as oldest from alerts.deliveries where state = 'pending' group by endpoint

-- name: unpublished
select count(*) as waiting, min(raised_at) as oldest from alerts.outbox
where number is null or number > (select published from alerts.numbers)

-- name: deliveries
select d.endpoint, d.alert, d.state, d.attempts, d.begun_at, d.next_at, d.last_at, d.status, d.error
from alerts.deliveries d
where ($1::text is null or d.endpoint = $1) and ($2::text is null or d.state = $2)
order by d.number desc, d.endpoint limit $3

-- name: replay
-- Lets alerts be sent again, from the beginning of their time; those that were never handed to a receiver too.
insert into alerts.deliveries as d (endpoint, alert, number, state, begun_at, next_at)
select e.name, o.id, o.number, 'pending', $1, $1
from alerts.endpoints e
join alerts.outbox o
  on o.number is not null
  and (o.id = any ($3::text[])
       or ($4::timestamptz is not null and o.raised_at >= $4 and (e.kinds is null or o.kind = any (e.kinds))
           and (e.accounts is null or exists (
               select from unnest(e.accounts) as a (prefix) where left(o.account, length(a.prefix)) = a.prefix))))
where $2::text is null or e.name = $2
on conflict (endpoint, alert) do update
set state = 'pending', attempts = 0, begun_at = excluded.begun_at, next_at = excluded.next_at

-- name: endpoints
select name from alerts.endpoints order by name

-- name: forget_deliveries
delete from alerts.deliveries d
using (select o.number from alerts.outbox o where o.raised_at < $1 and o.number is not null order by o.number limit $2) old
where d.number = old.number and d.state <> 'pending'

-- name: forget_alerts
delete from alerts.outbox o
using (
    select o.id from alerts.outbox o
    where o.raised_at < $1 and o.number is not null
      and not exists (select from alerts.deliveries d where d.number = o.number)
    order by o.number limit $2
) old
where o.id = old.id
