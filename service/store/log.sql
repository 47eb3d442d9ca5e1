-- name: append
-- The only write there is; see ledger.append.
select outcome, keys
from ledger.append(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25,
    $26, $27, $28, $29, $30, $31, $32
)

-- name: head
select position, hash, recorded_at from ledger.heads where partition = $1

-- name: touched
-- The accounts that other writers touched behind a position, with the head as of the same instant. `follows` is false
-- when the line at the position is not the one of the hash: the log is another one, as after a backup was restored.
select h.position, h.hash, h.recorded_at,
       $2 = 0 or exists (select from ledger.events e
                         where e.partition = $1 and e.position = $2 and e.hash = $3) as follows,
       array(select distinct e.account from ledger.events e
             where e.partition = $1 and e.position > $2 and e.position <= h.position) as accounts
from ledger.heads h where h.partition = $1

-- name: hash_at
select hash from ledger.events where partition = $1 and position = $2

-- name: load
-- All that a batch needs and the cache has not: whole accounts, single items, and of some accounts the open holds that
-- end until an instant, with the instant at which the next one does. The limit keeps a plan that was made while there were
-- no items, and lives until somebody analyzes them, from reading all items of the partition each time.
select 'account' as what, a.account, null as kind, null as id, a.state, null::timestamptz as due_at
from ledger.accounts a where a.partition = $1 and a.account = any ($2)
union all
select 'item', k.account, k.kind, k.id, i.state, null
from unnest($3::text[], $4::text[], $5::text[]) as k (account, kind, id)
cross join lateral (
    select i.state from ledger.items i
    where i.partition = $1 and i.account = k.account and i.kind = k.kind and i.id = k.id
    limit 1
) i
union all
select 'item', i.account, i.kind, i.id, i.state, null
from ledger.items i where i.partition = $1 and i.account = any ($6) and i.due_at <= $7
union all
select 'next_due', d.account, null, null, null,
       (select min(i.due_at) from ledger.items i where i.partition = $1 and i.account = d.account and i.due_at > $7)
from unnest($6::text[]) as d (account)

-- name: keys
-- Which of some keys the log has, with the head as of the same instant.
select h.position, h.hash, h.recorded_at,
       array(select e.key from ledger.events e where e.partition = $1 and e.key = any ($2)) as keys
from ledger.heads h where h.partition = $1

-- name: position_of_key
select position from ledger.events where partition = $1 and key = $2

-- name: lines_from
select line, hash from ledger.events where partition = $1 and position >= $2 order by position limit $3

-- name: account_lines_forward
-- An account's lines behind a position, oldest first.
select position, line, hash from ledger.events
where partition = $1 and account = $2 and position > $3 and recorded_at <= $4
order by position limit $5

-- name: identity
select id::text as id, partitions from ledger.identity

-- name: clock
select clock_timestamp() as now

-- name: snapshots
-- The snapshots of many accounts at once, for reads that were gathered.
select a.account, a.state
from unnest($1::integer[], $2::text[]) as k (partition, account)
join ledger.accounts a on a.partition = k.partition and a.account = k.account
