-- name: apply
insert into projections.accounts as t (partition, generation, account, plan, status, opened_at)
select partition, generation, account, plan, coalesce(status, 'active'), coalesce(opened_at, '')
from unnest($1::integer[], $2::integer[], $3::text[], $4::text[], $5::text[], $6::text[])
    as u (partition, generation, account, plan, status, opened_at)
on conflict (partition, generation, account) do update
set plan = excluded.plan

-- name: apply_status
update projections.accounts t set status = u.status
from unnest($1::integer[], $2::integer[], $3::text[], $4::text[]) as u (partition, generation, account, status)
where t.partition = u.partition and t.generation = u.generation and t.account = u.account

-- name: digest
select coalesce(sum(('x' || left(md5(concat_ws(
    '|', account, plan, status, opened_at
)), 16))::bit(64)::bigint::numeric), 0)::text as digest
from projections.accounts where partition = $1 and generation = $2

-- name: remove
delete from projections.accounts where partition = $1 and generation = $2

-- name: page_desc
-- Accounts behind the one of $3 (opened at $2), the newest first, on a plan, with one of some prefixes.
select a.account, a.opened_at, a.plan, a.status
from projections.current c
join projections.checkpoints k on k.name = c.name and k.generation = c.generation
cross join lateral (
    select a.account, a.opened_at, a.plan, a.status
    from projections.accounts a
    where a.partition = k.partition and a.generation = c.generation
      and ($2::text is null or (a.opened_at, a.account) < ($2, $3))
      and ($4::text is null or a.plan = $4)
      and ($5::text is null or left(a.account, length($5)) = $5)
      and ($6::text[] is null
           or exists (select from unnest($6::text[]) as p (prefix) where left(a.account, length(p.prefix)) = p.prefix))
    order by a.opened_at desc, a.account desc limit $1
) a
where c.name = 'accounts'
order by a.opened_at desc, a.account desc limit $1

-- name: page_asc
-- The same, the oldest first.
select a.account, a.opened_at, a.plan, a.status
from projections.current c
join projections.checkpoints k on k.name = c.name and k.generation = c.generation
cross join lateral (
    select a.account, a.opened_at, a.plan, a.status
    from projections.accounts a
    where a.partition = k.partition and a.generation = c.generation
      and ($2::text is null or (a.opened_at, a.account) > ($2, $3))
      and ($4::text is null or a.plan = $4)
      and ($5::text is null or left(a.account, length($5)) = $5)
      and ($6::text[] is null
           or exists (select from unnest($6::text[]) as p (prefix) where left(a.account, length(p.prefix)) = p.prefix))
    order by a.opened_at, a.account limit $1
) a
where c.name = 'accounts'
order by a.opened_at, a.account limit $1
