-- name: catalogs
-- Every catalog, with a hash with which it was activated that is not its own, if there is one.
select c.version, c.hash, c.source,
       (select a.hash from ledger.activations a where a.version = c.version
        order by a.hash = c.hash, a.number limit 1) as activated
from ledger.catalogs c order by c.version

-- name: elsewhere
-- Tables with rows of partitions that the ledger does not have, each with one of them; totals over all partitions count such
-- rows. The first and the last partition of each are at the ends of an index.
select t.name, case when t.least < 0 then t.least else t.most end as partition
from (
    select 'ledger.heads', min(partition), max(partition) from ledger.heads
    union all select 'ledger.events', min(partition), max(partition) from ledger.events
    union all select 'ledger.accounts', min(partition), max(partition) from ledger.accounts
    union all select 'ledger.items', min(partition), max(partition) from ledger.items
    union all select 'projections.accounts', min(partition), max(partition) from projections.accounts
    union all select 'projections.alerts', min(partition), max(partition) from projections.alerts
    union all select 'projections.finance', min(partition), max(partition) from projections.finance
    union all select 'projections.history', min(partition), max(partition) from projections.history
    union all select 'projections.holds_endless', min(partition), max(partition) from projections.holds_endless
    union all select 'projections.holds_expired', min(partition), max(partition) from projections.holds_expired
    union all select 'projections.holds_made', min(partition), max(partition) from projections.holds_made
    union all select 'projections.holds_settled', min(partition), max(partition) from projections.holds_settled
    union all select 'projections.usage', min(partition), max(partition) from projections.usage
) t (name, least, most)
where t.least < 0 or t.most >= $1
order by t.name
