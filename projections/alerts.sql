-- name: known
-- What generations know of accounts.
select k.partition, k.generation, k.account, a.state
from unnest($1::integer[], $2::integer[], $3::text[]) as k (partition, generation, account)
join projections.alerts a on a.partition = k.partition and a.generation = k.generation and a.account = k.account

-- name: apply
insert into projections.alerts as t (partition, generation, account, state)
select partition, generation, account, state
from unnest($1::integer[], $2::integer[], $3::text[], $4::text[]) as u (partition, generation, account, state)
on conflict (partition, generation, account) do update set state = excluded.state

-- name: digest
select coalesce(sum(('x' || left(md5(concat_ws(
    '|', account, state
)), 16))::bit(64)::bigint::numeric), 0)::text as digest
from projections.alerts where partition = $1 and generation = $2

-- name: remove
delete from projections.alerts where partition = $1 and generation = $2
