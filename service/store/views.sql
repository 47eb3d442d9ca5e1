-- name: checkpoints
-- How far the generation that is read has come in each partition.
select k.partition, k.position
from projections.current c
join projections.checkpoints k on k.name = c.name and k.generation = c.generation
where c.name = $1
order by k.partition

-- name: generation
select generation from projections.current where name = $1

-- name: recorded
-- A partition's lines from one instant to another, until a position.
select e.line from ledger.events e
where e.partition = $1 and e.position > ledger.position_at($1, $2)
  and e.position <= least(ledger.position_at($1, $3), $4::bigint)
order by e.position limit $5
