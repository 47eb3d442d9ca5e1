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

-- name: register_partitions
-- Makes room for the heartbeat of each partition, and for how far its alerts are.
with raised as (
    insert into alerts.raised (partition, raised, timed) select partition, 0, 0 from ledger.heads
    on conflict do nothing
)
insert into projections.readers (partition, looked_at)
select partition, clock_timestamp() from ledger.heads
on conflict do nothing

-- name: behind
-- Each partition's head, and where our slowest generations stand: of those near the one that is furthest, and of those
-- more than $3 lines behind it, which are built.
with ours as (
    select k.partition, k.position, max(k.position) over (partition by k.partition) as furthest
    from projections.checkpoints k
    join projections.generations g on g.name = k.name and g.generation = k.generation
    join unnest($1::text[], $2::integer[]) as ours (name, version) on ours.name = g.name and ours.version = g.version
)
select h.partition, h.position as head,
       coalesce(min(o.position) filter (where o.position >= o.furthest - $3), h.position) as near,
       min(o.position) filter (where o.position < o.furthest - $3) as far
from ledger.heads h
left join ours o on o.partition = h.partition
group by h.partition, h.position
order by h.partition

-- name: lock
-- Takes our generations of some partitions, the near ones or (when $5) those that are more than $4 lines behind the one
-- that is furthest; those that another transaction is at are left to it. Where they stand, the slowest first.
select k.partition, k.name, k.generation, k.position
from (
    select k.partition, max(k.position) as furthest
    from projections.checkpoints k
    join projections.generations g on g.name = k.name and g.generation = k.generation
    join unnest($2::text[], $3::integer[]) as ours (name, version) on ours.name = g.name and ours.version = g.version
    where k.partition = any ($1)
    group by k.partition
) f
join projections.checkpoints k on k.partition = f.partition
join projections.generations g on g.name = k.name and g.generation = k.generation
join unnest($2::text[], $3::integer[]) as ours (name, version) on ours.name = g.name and ours.version = g.version
where (k.position < f.furthest - $4) = $5
order by k.partition, k.position, k.name, k.generation
for update of k skip locked

-- name: flush_later
-- What this transaction writes may be lost with the database's machine, all of it together; it is made again then.
set local synchronous_commit = off

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
-- Lines of accounts that were recorded at some instants.
select e.line
from unnest($1::integer[], $2::text[], $3::timestamptz[]) as k (partition, account, recorded_at)
cross join lateral (
    select ledger.position_at(k.partition, k.recorded_at) as low,
           ledger.position_at(k.partition, k.recorded_at + interval '1 microsecond') as high
) b
join ledger.events e
  on e.partition = k.partition and e.account = k.account and e.position > b.low and e.position <= b.high

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

-- name: position
-- How far the generation that is read has come in a partition.
select k.position
from projections.current c
join projections.checkpoints k on k.partition = $2 and k.name = c.name and k.generation = c.generation
where c.name = $1

-- name: partitions
select partition from ledger.heads order by partition
