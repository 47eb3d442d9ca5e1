-- name: register
-- Takes up a projection of this release: its first generation is read at once, one of a new version when it has caught up.
with known as (
    insert into projections.generations (name, generation, version)
    select $1, coalesce(max(g.generation), 0) + 1, $2 from projections.generations g
    where g.name = $1
    having count(*) filter (where g.version = $2) = 0
    on conflict do nothing
    returning name, generation
),
first as (
    insert into projections.current (name, generation)
    select name, generation from known where generation = 1
    on conflict do nothing
)
insert into projections.checkpoints (partition, name, generation, position)
select h.partition, known.name, known.generation, 0 from known cross join ledger.heads h

-- name: register_readers
insert into projections.readers (partition, looked_at)
select partition, clock_timestamp() from ledger.heads
on conflict do nothing

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

-- name: behind
-- How far the slowest projection of each partition has come, with the partition's head.
select h.partition, h.position as head, coalesce(min(k.position), h.position) as reached
from ledger.heads h
left join (
    projections.checkpoints k
    join projections.generations g on g.name = k.name and g.generation = k.generation
    join unnest($1::text[], $2::integer[]) as ours (name, version) on ours.name = g.name and ours.version = g.version
) on k.partition = h.partition
group by h.partition, h.position
order by h.partition

-- name: lock_readers
-- Those of some partitions that no other process is at.
select partition from projections.readers where partition = any ($1) order by partition for update skip locked

-- name: checkpoints
-- Where each generation of our versions stands in some partitions.
select k.partition, k.name, k.generation, k.position
from projections.checkpoints k
join projections.generations g on g.name = k.name and g.generation = k.generation
join unnest($2::text[], $3::integer[]) as ours (name, version) on ours.name = g.name and ours.version = g.version
where k.partition = any ($1)
order by k.partition, k.position, k.name, k.generation

-- name: lines
-- The next lines behind some positions, a limit for each.
select k.number, e.position, e.line
from unnest($1::integer[], $2::bigint[], $3::integer[]) with ordinality as k (partition, position, lines_max, number)
cross join lateral (
    select e.position, e.line from ledger.events e
    where e.partition = k.partition and e.position > k.position and e.position <= k.position + k.lines_max
    order by e.position limit k.lines_max
) e
order by k.number, e.position

-- name: heads
select partition, position from ledger.heads where partition = any ($1)

-- name: advance
update projections.checkpoints k set position = g.position
from unnest($1::integer[], $2::text[], $3::integer[], $4::bigint[]) as g (partition, name, generation, position)
where k.partition = g.partition and k.name = g.name and k.generation = g.generation

-- name: looked
update projections.readers set looked_at = clock_timestamp() where partition = any ($1)

-- name: work
-- What a hold or consumption is, by which the event that made it is found again.
select i.partition, i.account, i.id, i.state
from unnest($1::integer[], $2::text[], $3::text[]) as k (partition, account, id)
join ledger.items i on i.partition = k.partition and i.account = k.account and i.kind = 'work' and i.id = k.id

-- name: lines_recorded_at
-- An account's lines that were recorded at an instant.
select e.line from ledger.events e
where e.partition = $1 and e.account = $2 and e.recorded_at = $3 and e.position > ledger.position_at($1, $3)
  and e.position <= ledger.position_at($1, $3::timestamptz + interval '1 microsecond')
order by e.position

-- name: generations
-- Every generation: whether it is the one that is read, and how far it is.
select g.name, g.generation, g.version, c.generation is not null as is_current,
       sum(k.position)::bigint as position, sum(h.position)::bigint as head,
       max(case when k.position < h.position
           then extract(epoch from clock_timestamp() - (
               select e.recorded_at from ledger.events e
               where e.partition = k.partition and e.position = k.position + 1))
           else 0 end)::float8 as lag_seconds,
       bool_and(k.position >= coalesce(other.position, 0)) as has_caught_up,
       g.differs
from projections.generations g
left join projections.current c on c.name = g.name and c.generation = g.generation
left join projections.current now_read on now_read.name = g.name
join projections.checkpoints k on k.name = g.name and k.generation = g.generation
left join projections.checkpoints other
  on other.partition = k.partition and other.name = g.name and other.generation = now_read.generation
join ledger.heads h on h.partition = k.partition
group by g.name, g.generation, g.version, g.differs, c.generation
order by g.name, g.generation

-- name: lag
-- Of each partition and projection that is read: how many events are missing, and for how long the first of them has been.
select k.partition, k.name, h.position - k.position as events,
       case when k.position < h.position
           then greatest(extract(epoch from clock_timestamp() - (
               select e.recorded_at from ledger.events e
               where e.partition = k.partition and e.position = k.position + 1)), 0)
           else 0 end::float8 as seconds
from projections.current c
join projections.checkpoints k on k.name = c.name and k.generation = c.generation
join ledger.heads h on h.partition = k.partition

-- name: heartbeats
select partition, extract(epoch from clock_timestamp() - looked_at)::float8 as seconds from projections.readers

-- name: lock_generations
-- Holds all readers, so that nothing moves while two generations are compared; returns where both stand.
select k.partition, k.generation, k.position
from projections.readers r
join projections.checkpoints k on k.partition = r.partition and k.name = $1 and k.generation = any ($2)
order by r.partition
for update of r

-- name: versions
-- The generation that is read, its version, and that of another generation.
select c.generation, old.version as version, new.version as other_version
from projections.current c
join projections.generations old on old.name = c.name and old.generation = c.generation
join projections.generations new on new.name = c.name and new.generation = $2
where c.name = $1 and c.generation < $2

-- name: switch
with compared as (
    update projections.generations set differs = $3 where name = $1 and generation = $2
)
update projections.current set generation = $2 where name = $1

-- name: forget
with gone as (
    delete from projections.checkpoints where name = $1 and generation = $2
)
delete from projections.generations where name = $1 and generation = $2

-- name: position
-- How far the generation that is read has come in a partition.
select k.position
from projections.current c
join projections.checkpoints k on k.partition = $2 and k.name = c.name and k.generation = c.generation
where c.name = $1

-- name: partitions
select partition from ledger.heads order by partition
