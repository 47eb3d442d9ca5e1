-- name: rebuild
-- Begins a generation beside those that there are.
with made as (
    insert into projections.generations (name, generation, version)
    select $1, max(g.generation) + 1, $2 from projections.generations g where g.name = $1
    returning name, generation
),
begun as (
    insert into projections.checkpoints (partition, name, generation, position)
    select h.partition, made.name, made.generation, 0 from made cross join ledger.heads h
)
select generation from made

-- name: versions
-- The generation that is read, its version, and that of a newer one, which nobody else may compare meanwhile.
select c.generation, old.version as version, new.version as other_version
from projections.current c
join projections.generations old on old.name = c.name and old.generation = c.generation
join projections.generations new on new.name = c.name and new.generation = $2
where c.name = $1 and c.generation < $2
for update of new skip locked

-- name: stand
-- Where two generations stand in each partition.
select k.partition, k.generation, k.position from projections.checkpoints k
where k.name = $1 and k.generation = any ($2)
order by k.partition, k.generation

-- name: hold
-- The same, and neither moves until the transaction ends.
select k.partition, k.generation, k.position from projections.checkpoints k
where k.name = $1 and k.generation = any ($2)
order by k.partition, k.generation
for update

-- name: switch
with switched as (
    update projections.current set generation = $3 where name = $1 and generation = $2 returning name
)
update projections.generations g set differs = $4 from switched s where g.name = s.name and g.generation = $3

-- name: replaced
-- Generations that were replaced, and whose rows are not all gone.
select g.name, g.generation
from projections.generations g
join projections.current c on c.name = g.name and g.generation < c.generation
order by g.name, g.generation

-- name: end
-- From here on nothing is added to a generation: who is at it is waited for.
delete from projections.checkpoints where name = $1 and generation = $2

-- name: forget
delete from projections.generations where name = $1 and generation = $2
