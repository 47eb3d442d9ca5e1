-- name: activate
-- The only way to a catalog in force; see ledger.activate_catalog.
select outcome, stored_hash from ledger.activate_catalog($1, $2, $3, $4, $5)

-- name: newest
-- Which catalog is in force; asked every second by every process.
select number from ledger.activations order by number desc limit 1

-- name: in_force
select a.number, c.version, c.hash, c.source, a.activated_at, a.by
from ledger.activations a
join ledger.catalogs c on c.version = a.version
order by a.number desc
limit 1

-- name: past
-- The last $1 activations with their catalogs, the newest first.
select a.activated_at, c.version, c.hash, c.source
from ledger.activations a
join ledger.catalogs c on c.version = a.version
order by a.number desc
limit $1

-- name: stored
select version, hash, source from ledger.catalogs where version = $1

-- name: history
-- Every catalog with the times it came into force, the newest first.
select a.number, a.version, a.hash, a.activated_at, a.by
from ledger.activations a
order by a.number desc
limit $1
