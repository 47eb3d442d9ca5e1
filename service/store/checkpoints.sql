-- name: latest
select number, note from ledger.checkpoints order by number desc limit 1

-- name: note
select note from ledger.checkpoints where number = $1

-- name: after
select number, note from ledger.checkpoints where number > $1 order by number limit $2

-- name: kept
select number, note, made_at, clock_timestamp() as now from ledger.checkpoints
where number > $1 order by number limit $2

-- name: add
select ledger.add_checkpoint($1, $2, $3, $4, $5, $6, $7)

-- name: thin
select ledger.thin_checkpoints($1)

-- name: leaves
-- The leaf hashes of lines (RFC 9162: SHA-256 over a zero byte and the line), made here so that only 32 bytes travel.
select sha256('\x00'::bytea || line) as leaf from ledger.events
where partition = $1 and position > $2 and position <= $3 order by position

-- name: subtrees
select root from ledger.subtrees
where partition = $1 and level = $2 and number >= $3 and number < $4 order by number

-- name: leaves_of
-- The leaf hashes of the lines of some ranges, which do not overlap, by their indexes from 0.
select e.position - 1 as index, sha256('\x00'::bytea || e.line) as leaf
from unnest($2::bigint[], $3::bigint[]) as range (first, last)
join ledger.events e on e.partition = $1 and e.position > range.first and e.position <= range.last

-- name: subtrees_of
select number, root from ledger.subtrees where partition = $1 and level = $2 and number = any($3::bigint[])
