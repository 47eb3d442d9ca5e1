-- name: apply
insert into projections.finance as t
    (partition, generation, at, late, unit, kind, basis, granted, consumed, refunded, expired, revoked, unfunded)
select partition, generation, at, late, unit, kind, coalesce(basis, ''),
       granted, consumed, refunded, expired, revoked, unfunded
from unnest(
    string_to_array($2, $1)::integer[], string_to_array($3, $1)::integer[], string_to_array($4, $1),
    string_to_array($5, $1)::boolean[], string_to_array($6, $1), string_to_array($7, $1), string_to_array($8, $1),
    string_to_array($9, $1)::numeric[], string_to_array($10, $1)::numeric[], string_to_array($11, $1)::numeric[],
    string_to_array($12, $1)::numeric[], string_to_array($13, $1)::numeric[], string_to_array($14, $1)::numeric[]
) as u (partition, generation, at, late, unit, kind, basis, granted, consumed, refunded, expired, revoked, unfunded)
on conflict (partition, generation, at, late, unit, kind, basis) do update
set granted = t.granted + excluded.granted,
    consumed = t.consumed + excluded.consumed,
    refunded = t.refunded + excluded.refunded,
    expired = t.expired + excluded.expired,
    revoked = t.revoked + excluded.revoked,
    unfunded = t.unfunded + excluded.unfunded

-- name: grants
-- The origin of some grants, by their number among those that were asked for.
select k.number, g.kind, g.basis
from unnest(
    string_to_array($2, $1)::integer[], string_to_array($3, $1)::integer[], string_to_array($4, $1),
    string_to_array($5, $1)
) with ordinality as k (partition, generation, account, grant_id, number)
join projections.finance_grants g
  on g.partition = k.partition and g.generation = k.generation and g.account = k.account and g.grant_id = k.grant_id

-- name: digest
select coalesce(sum(('x' || left(md5(concat_ws(
    '|', at, late, unit, kind, basis, granted, consumed, refunded, expired, revoked, unfunded
)), 16))::bit(64)::bigint::numeric), 0)::text as digest
from projections.finance where partition = $1 and generation = $2

-- name: remove
delete from projections.finance where partition = $1 and generation = $2

-- name: remove_grants
delete from projections.finance_grants where partition = $1 and generation = $2

-- name: before
-- All that moved in whole hours before $2, and of the late facts what holds before $3.
select f.kind, f.basis, sum(f.granted) as granted, sum(f.consumed) as consumed, sum(f.refunded) as refunded,
       sum(f.expired) as expired, sum(f.revoked) as revoked, sum(f.unfunded) as unfunded
from projections.current c
join projections.finance f on f.generation = c.generation
where c.name = 'finance' and f.unit = $1 and case when f.late then f.at < $3 else f.at < $2 end
group by f.kind, f.basis

-- name: checkpoints
select k.partition, k.position, c.generation
from projections.current c
join projections.checkpoints k on k.name = c.name and k.generation = c.generation
where c.name = 'finance'
