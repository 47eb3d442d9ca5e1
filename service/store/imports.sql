-- name: booked
-- The first lines of commands, by keys of any partitions; a key that the log does not have is left out.
select e.partition, e.key, e.line
from unnest($1::integer[], $2::bytea[]) as k (partition, key)
join ledger.events e on e.partition = k.partition and e.key = k.key
