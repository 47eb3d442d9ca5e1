-- name: digest
select coalesce(sum(('x' || left(md5(concat_ws('|', account, term, position)), 16))::bit(64)::bigint::numeric), 0)::text as digest
from projections.history where partition = $1 and generation = $2

-- name: remove
delete from projections.history where partition = $1 and generation = $2

-- name: page_desc
-- An account's lines beyond position $4, newest first, that were recorded from $6 to $7 and may have one of the terms $5:
-- those that the projection has seen by its index, those behind its checkpoint all, for the caller to look at.
with seen as (
    select max(c.generation) as generation, coalesce(max(k.position), 0) as position
    from projections.current c
    join projections.checkpoints k on k.partition = $1 and k.name = c.name and k.generation = c.generation
    where c.name = 'history'
),
bounds as (
    select seen.generation, seen.position as seen,
           greatest($3::bigint, case when $6::timestamptz is null then 0 else ledger.position_at($1, $6) end) as low,
           least($4::bigint, case when $7::timestamptz is null then $4 else ledger.position_at($1, $7) + 1 end) as high
    from seen
),
tail as (
    select e.position from bounds b cross join lateral (
        select e.position from ledger.events e
        where e.partition = $1 and e.account = $2 and e.position > greatest(b.low, b.seen) and e.position < b.high
        order by e.position desc limit $8
    ) e
),
indexed as (
    select distinct h.position from bounds b cross join unnest($5::text[]) as t (term) cross join lateral (
        select h.position from projections.history h
        where h.partition = $1 and h.generation = b.generation and h.account = $2 and h.term = t.term
          and h.position > b.low and h.position < least(b.high, b.seen + 1)
        order by h.position desc limit $8
    ) h
),
found as (
    select position from (select position from tail union all select position from indexed) f
    order by position desc limit $8
)
select e.position, e.line, e.hash
from found f join ledger.events e on e.partition = $1 and e.position = f.position
order by e.position desc

-- name: page_asc
-- The same, oldest first.
with seen as (
    select max(c.generation) as generation, coalesce(max(k.position), 0) as position
    from projections.current c
    join projections.checkpoints k on k.partition = $1 and k.name = c.name and k.generation = c.generation
    where c.name = 'history'
),
bounds as (
    select seen.generation, seen.position as seen,
           greatest($3::bigint, case when $6::timestamptz is null then 0 else ledger.position_at($1, $6) end) as low,
           least($4::bigint, case when $7::timestamptz is null then $4 else ledger.position_at($1, $7) + 1 end) as high
    from seen
),
tail as (
    select e.position from bounds b cross join lateral (
        select e.position from ledger.events e
        where e.partition = $1 and e.account = $2 and e.position > greatest(b.low, b.seen) and e.position < b.high
        order by e.position limit $8
    ) e
),
indexed as (
    select distinct h.position from bounds b cross join unnest($5::text[]) as t (term) cross join lateral (
        select h.position from projections.history h
        where h.partition = $1 and h.generation = b.generation and h.account = $2 and h.term = t.term
          and h.position > b.low and h.position < least(b.high, b.seen + 1)
        order by h.position limit $8
    ) h
),
found as (
    select position from (select position from tail union all select position from indexed) f
    order by position limit $8
)
select e.position, e.line, e.hash
from found f join ledger.events e on e.partition = $1 and e.position = f.position
order by e.position

-- name: plain_desc
-- An account's lines between two positions, newest first, that were recorded from $5 to $6.
select e.position, e.line, e.hash from ledger.events e
where e.partition = $1 and e.account = $2
  and e.position > greatest($3::bigint, case when $5::timestamptz is null then 0 else ledger.position_at($1, $5) end)
  and e.position < least($4::bigint, case when $6::timestamptz is null then $4 else ledger.position_at($1, $6) + 1 end)
order by e.position desc limit $7

-- name: plain_asc
-- The same, oldest first.
select e.position, e.line, e.hash from ledger.events e
where e.partition = $1 and e.account = $2
  and e.position > greatest($3::bigint, case when $5::timestamptz is null then 0 else ledger.position_at($1, $5) end)
  and e.position < least($4::bigint, case when $6::timestamptz is null then $4 else ledger.position_at($1, $6) + 1 end)
order by e.position limit $7
