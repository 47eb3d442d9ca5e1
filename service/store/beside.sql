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
    select 'ledger.heads' as name, (select min(partition) from ledger.heads) as least, (select max(partition) from ledger.heads) as most
    union all select 'ledger.events' as name, (select min(partition) from ledger.events) as least, (select max(partition) from ledger.events) as most
    union all select 'ledger.accounts' as name, (select min(partition) from ledger.accounts) as least, (select max(partition) from ledger.accounts) as most
    union all select 'ledger.items' as name, (select min(partition) from ledger.items) as least, (select max(partition) from ledger.items) as most
    union all select 'projections.accounts' as name, (select min(partition) from projections.accounts) as least, (select max(partition) from projections.accounts) as most
    union all select 'projections.alerts' as name, (select min(partition) from projections.alerts) as least, (select max(partition) from projections.alerts) as most
    union all select 'projections.finance' as name, (select min(partition) from projections.finance) as least, (select max(partition) from projections.finance) as most
    union all select 'projections.history' as name, (select min(partition) from projections.history) as least, (select max(partition) from projections.history) as most
    union all select 'projections.holds_endless' as name, (select min(partition) from projections.holds_endless) as least, (select max(partition) from projections.holds_endless) as most
    union all select 'projections.holds_expired' as name, (select min(partition) from projections.holds_expired) as least, (select max(partition) from projections.holds_expired) as most
    union all select 'projections.holds_made' as name, (select min(partition) from projections.holds_made) as least, (select max(partition) from projections.holds_made) as most
    union all select 'projections.holds_settled' as name, (select min(partition) from projections.holds_settled) as least, (select max(partition) from projections.holds_settled) as most
    union all select 'projections.usage' as name, (select min(partition) from projections.usage) as least, (select max(partition) from projections.usage) as most
) t
where t.least < 0 or t.most >= $1
order by t.name
