-- name: apply
insert into projections.usage as t
    (partition, generation, account, hour, unit, operation, actor, count, used, charged, unfunded, refunded)
select partition, generation, coalesce(account, ''), hour, unit, coalesce(operation, ''), actor,
       count, used, charged, unfunded, refunded
from unnest(
    string_to_array($2, $1)::integer[], string_to_array($3, $1)::integer[], string_to_array($4, $1),
    string_to_array($5, $1), string_to_array($6, $1), string_to_array($7, $1), string_to_array($8, $1),
    string_to_array($9, $1)::numeric[], string_to_array($10, $1)::numeric[], string_to_array($11, $1)::numeric[],
    string_to_array($12, $1)::numeric[], string_to_array($13, $1)::numeric[]
) as u (partition, generation, account, hour, unit, operation, actor, count, used, charged, unfunded, refunded)
on conflict (partition, generation, account, hour, unit, operation, actor) do update
set count = t.count + excluded.count,
    used = t.used + excluded.used,
    charged = t.charged + excluded.charged,
    unfunded = t.unfunded + excluded.unfunded,
    refunded = t.refunded + excluded.refunded

-- name: digest
select coalesce(sum(('x' || left(md5(concat_ws(
    '|', account, hour, unit, operation, actor, count, used, charged, unfunded, refunded
)), 16))::bit(64)::bigint::numeric), 0)::text as digest
from projections.usage where partition = $1 and generation = $2

-- name: remove
delete from projections.usage where partition = $1 and generation = $2

-- name: of_account
-- The work of an account in whole hours, with how far the projection has come.
select k.position, u.hour, u.unit, u.operation, u.actor, u.count, u.used, u.charged, u.unfunded, u.refunded
from projections.current c
join projections.checkpoints k on k.partition = $1 and k.name = c.name and k.generation = c.generation
left join projections.usage u
  on u.partition = $1 and u.generation = c.generation and u.account = $2 and u.hour >= $3 and u.hour < $4
where c.name = 'usage'

-- name: of_all
-- The same of every partition, all accounts together.
select k.partition, k.position, u.hour, u.unit, u.operation, u.actor,
       u.count, u.used, u.charged, u.unfunded, u.refunded
from projections.current c
join projections.checkpoints k on k.name = c.name and k.generation = c.generation
left join projections.usage u
  on u.partition = k.partition and u.generation = c.generation and u.account = '' and u.hour >= $1 and u.hour < $2
where c.name = 'usage'

-- name: of_prefixes
-- The same of the accounts whose ids begin with one of $3.
select k.partition, k.position, u.hour, u.unit, u.operation, u.actor,
       u.count, u.used, u.charged, u.unfunded, u.refunded
from projections.current c
join projections.checkpoints k on k.name = c.name and k.generation = c.generation
left join lateral (
    select u.hour, u.unit, u.operation, u.actor, sum(u.count) as count, sum(u.used) as used,
           sum(u.charged) as charged, sum(u.unfunded) as unfunded, sum(u.refunded) as refunded
    from projections.usage u
    where u.partition = k.partition and u.generation = c.generation and u.account <> ''
      and u.hour >= $1 and u.hour < $2
      and exists (select from unnest($3::text[]) as p (prefix) where left(u.account, length(p.prefix)) = p.prefix)
    group by u.hour, u.unit, u.operation, u.actor
) u on true
where c.name = 'usage'
