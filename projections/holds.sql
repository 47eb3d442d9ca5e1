-- name: apply_made
insert into projections.holds_made as t (partition, generation, hour, unit, operation, actor, holds, amount)
select partition, generation, hour, unit, coalesce(operation, ''), actor, holds, amount
from unnest(
    string_to_array($2, $1)::integer[], string_to_array($3, $1)::integer[], string_to_array($4, $1),
    string_to_array($5, $1), string_to_array($6, $1), string_to_array($7, $1),
    string_to_array($8, $1)::numeric[], string_to_array($9, $1)::numeric[]
) as u (partition, generation, hour, unit, operation, actor, holds, amount)
on conflict (partition, generation, hour, unit, operation, actor) do update
set holds = t.holds + excluded.holds, amount = t.amount + excluded.amount

-- name: apply_settled
insert into projections.holds_settled as t
    (partition, generation, hour, unit, operation, percent, holds, reserved, actual)
select partition, generation, hour, unit, coalesce(operation, ''), percent, holds, reserved, actual
from unnest(
    string_to_array($2, $1)::integer[], string_to_array($3, $1)::integer[], string_to_array($4, $1),
    string_to_array($5, $1), string_to_array($6, $1), string_to_array($7, $1)::integer[],
    string_to_array($8, $1)::numeric[], string_to_array($9, $1)::numeric[], string_to_array($10, $1)::numeric[]
) as u (partition, generation, hour, unit, operation, percent, holds, reserved, actual)
on conflict (partition, generation, hour, unit, operation, percent) do update
set holds = t.holds + excluded.holds,
    reserved = t.reserved + excluded.reserved,
    actual = t.actual + excluded.actual

-- name: apply_expired
insert into projections.holds_expired as t
    (partition, generation, account, hour, unit, operation, actor, holds, amount, seconds, settled_late)
select partition, generation, account, hour, unit, coalesce(operation, ''), actor,
       holds, amount, seconds, settled_late
from unnest(
    string_to_array($2, $1)::integer[], string_to_array($3, $1)::integer[], string_to_array($4, $1),
    string_to_array($5, $1), string_to_array($6, $1), string_to_array($7, $1), string_to_array($8, $1),
    string_to_array($9, $1)::numeric[], string_to_array($10, $1)::numeric[], string_to_array($11, $1)::numeric[],
    string_to_array($12, $1)::numeric[]
) as u (partition, generation, account, hour, unit, operation, actor, holds, amount, seconds, settled_late)
on conflict (partition, generation, account, hour, unit, operation, actor) do update
set holds = t.holds + excluded.holds,
    amount = t.amount + excluded.amount,
    seconds = t.seconds + excluded.seconds,
    settled_late = t.settled_late + excluded.settled_late

-- name: apply_endless
insert into projections.holds_endless
    (partition, generation, account, reservation_id, operation, actor, occupies, created_at)
select partition, generation, account, reservation_id, operation, actor, occupies, created_at
from unnest($1::integer[], $2::integer[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])
    as u (partition, generation, account, reservation_id, operation, actor, occupies, created_at)

-- name: apply_occupies
update projections.holds_endless t set occupies = u.occupies
from unnest($1::integer[], $2::integer[], $3::text[], $4::text[], $5::text[])
    as u (partition, generation, account, reservation_id, occupies)
where t.partition = u.partition and t.generation = u.generation and t.account = u.account
  and t.reservation_id = u.reservation_id

-- name: apply_ended
delete from projections.holds_endless t
using unnest($1::integer[], $2::integer[], $3::text[], $4::text[]) as u (partition, generation, account, reservation_id)
where t.partition = u.partition and t.generation = u.generation and t.account = u.account
  and t.reservation_id = u.reservation_id

-- name: digest
select coalesce(sum(('x' || left(md5(row), 16))::bit(64)::bigint::numeric), 0)::text as digest
from (
    select concat_ws('|', 'made', hour, unit, operation, actor, holds, amount) as row
    from projections.holds_made where partition = $1 and generation = $2
    union all
    select concat_ws('|', 'settled', hour, unit, operation, percent, holds, reserved, actual)
    from projections.holds_settled where partition = $1 and generation = $2
    union all
    select concat_ws('|', 'expired', account, hour, unit, operation, actor, holds, amount, seconds, settled_late)
    from projections.holds_expired where partition = $1 and generation = $2
    union all
    select concat_ws('|', 'endless', account, reservation_id, operation, actor, occupies, created_at)
    from projections.holds_endless where partition = $1 and generation = $2
) every

-- name: remove_made
delete from projections.holds_made where partition = $1 and generation = $2

-- name: remove_settled
delete from projections.holds_settled where partition = $1 and generation = $2

-- name: remove_expired
delete from projections.holds_expired where partition = $1 and generation = $2

-- name: remove_endless
delete from projections.holds_endless where partition = $1 and generation = $2

-- name: settled
-- What lines of a unit came to, in some hours, by operation and percent.
select s.operation, s.percent, sum(s.holds) as holds, sum(s.reserved) as reserved, sum(s.actual) as actual
from projections.current c
join projections.checkpoints k on k.name = c.name and k.generation = c.generation
join projections.holds_settled s on s.partition = k.partition and s.generation = c.generation
where c.name = 'holds' and s.unit = $1 and s.hour >= $2 and s.hour < $3
group by s.operation, s.percent

-- name: made
-- The holds of a unit that were made in some hours, by operation and actor.
select m.operation, m.actor, sum(m.holds) as holds, sum(m.amount) as amount
from projections.current c
join projections.checkpoints k on k.name = c.name and k.generation = c.generation
join projections.holds_made m on m.partition = k.partition and m.generation = c.generation
where c.name = 'holds' and m.unit = $1 and m.hour >= $2 and m.hour < $3
group by m.operation, m.actor

-- name: expired
-- The holds of a unit that expired in some hours, by operation and actor.
select e.operation, e.actor, sum(e.holds) as holds, sum(e.amount) as amount, sum(e.seconds) as seconds,
       sum(e.settled_late) as settled_late
from projections.current c
join projections.checkpoints k on k.name = c.name and k.generation = c.generation
join projections.holds_expired e on e.partition = k.partition and e.generation = c.generation
where c.name = 'holds' and e.unit = $1 and e.hour >= $2 and e.hour < $3
group by e.operation, e.actor

-- name: expired_of_accounts
-- The accounts in which most expired unsettled, in some hours.
select e.account, sum(e.holds) as holds, sum(e.amount) as amount, sum(e.seconds) as seconds,
       sum(e.settled_late) as settled_late
from projections.current c
join projections.checkpoints k on k.name = c.name and k.generation = c.generation
join projections.holds_expired e on e.partition = k.partition and e.generation = c.generation
where c.name = 'holds' and e.unit = $1 and e.hour >= $2 and e.hour < $3
group by e.account
order by sum(e.holds) - sum(e.settled_late) desc, sum(e.amount) desc, e.account
limit $4

-- name: endless
-- The oldest open holds without an end that were made before $1.
select o.account, o.reservation_id, o.operation, o.actor, o.occupies, o.created_at
from projections.current c
join projections.checkpoints k on k.name = c.name and k.generation = c.generation
cross join lateral (
    select h.account, h.reservation_id, h.operation, h.actor, h.occupies, h.created_at
    from projections.holds_endless h
    where h.partition = k.partition and h.generation = c.generation and h.created_at < $1
    order by h.created_at, h.account, h.reservation_id limit $2
) o
where c.name = 'holds'
order by o.created_at, o.account, o.reservation_id
limit $2
