-- name: head
select position, hash, recorded_at from ledger.heads where partition = $1

-- name: lines
-- The next lines of a partition with the columns that stand beside them.
select position, account, type, kind, recorded_at, key, line, hash from ledger.events
where partition = $1 and position > $2 order by position limit $3

-- name: is_projected
-- Whether any projection is read.
select exists (select from projections.current)

-- name: accounts
-- The next snapshots of a partition.
select account, position, next_due_at, state from ledger.accounts
where partition = $1 and account > $2 order by account limit $3

-- name: items
-- The next holds, consumptions and ended grants of a partition.
select account, kind, id, due_at, state from ledger.items
where partition = $1 and (account, kind, id) > ($2, $3, $4) order by account, kind, id limit $5

-- name: event
-- The line of one event.
select line, hash from ledger.events where partition = $1 and position = $2

-- name: has_account
select exists (select from ledger.accounts where partition = $1 and account = $2)

-- name: has_item
select exists (select from ledger.items where partition = $1 and account = $2 and kind = $3 and id = $4)

-- name: position_at
select ledger.position_at($1, $2)

-- name: account_lines
-- The next lines of an account.
select position, line from ledger.events
where partition = $1 and account = $2 and position > $3 order by position limit $4
