-- name: catalogs
-- Every catalog, with a hash with which it was activated that is not its own, if there is one.
select c.version, c.hash, c.source,
       (select a.hash from ledger.activations a where a.version = c.version
        order by a.hash = c.hash, a.number limit 1) as activated
from ledger.catalogs c order by c.version

-- name: elsewhere
-- Tables with rows of partitions that the ledger does not have, each with the first of them.
select 'heads' as name, min(partition) as partition from ledger.heads where partition < 0 or partition >= $1
having count(*) > 0
union all
select 'events', min(partition) from ledger.events where partition < 0 or partition >= $1 having count(*) > 0
union all
select 'accounts', min(partition) from ledger.accounts where partition < 0 or partition >= $1 having count(*) > 0
union all
select 'items', min(partition) from ledger.items where partition < 0 or partition >= $1 having count(*) > 0
