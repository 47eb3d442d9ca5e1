-- name: known
-- What generations know of accounts, each by its number among those that were asked for.
select k.number, a.state
from unnest(string_to_array($2, $1)::integer[], string_to_array($3, $1)::integer[], string_to_array($4, $1))
    with ordinality as k (partition, generation, account, number)
join projections.alerts a on a.partition = k.partition and a.generation = k.generation and a.account = k.account

-- name: apply
insert into projections.alerts as t (partition, generation, account, state)
select partition, generation, account, state
from unnest(
    string_to_array($2, $1)::integer[], string_to_array($3, $1)::integer[], string_to_array($4, $1),
    string_to_array($5, $1)
) as u (partition, generation, account, state)
on conflict (partition, generation, account) do update set state = excluded.state

-- name: digest
select coalesce(sum(('x' || left(md5(concat_ws(
    '|', account, state
)), 16))::bit(64)::bigint::numeric), 0)::text as digest
from projections.alerts where partition = $1 and generation = $2

-- name: remove
delete from projections.alerts where partition = $1 and generation = $2
