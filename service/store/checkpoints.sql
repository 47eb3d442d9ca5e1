-- name: latest
select number, note from ledger.checkpoints order by number desc limit 1

-- name: add
select ledger.add_checkpoint($1, $2, $3, $4, $5, $6, $7)

-- name: leaves
-- The leaf hashes of lines (RFC 9162: SHA-256 over a zero byte and the line), made here so that only 32 bytes travel.
select sha256('\x00'::bytea || line) as leaf from ledger.events
where partition = $1 and position > $2 and position <= $3 order by position

-- name: subtrees
select root from ledger.subtrees
where partition = $1 and level = $2 and number >= $3 and number < $4 order by number
