-- name: heads
-- Where every partition ends, as of one instant.
select partition, position from ledger.heads order by partition

-- name: page
-- The next lines of a partition, by position: at most $6 of them, and no more once $7 bytes are passed. A line that the
-- filters leave out is null, so that a rare type costs a bounded walk and not one query over the whole partition.
with walked as (
    select e.position,
           case when ($4::text is null or e.type = $4)
                 and ($5::text[] is null
                      or exists (select from unnest($5::text[]) as p (prefix)
                                 where left(e.account, length(p.prefix)) = p.prefix))
                then e.line end as line
    from ledger.events e
    where e.partition = $1 and e.position > $2 and e.position <= $3
    order by e.position
    limit $6
)
select w.position, w.line
from (
    select position, line,
           sum(octet_length(line)) over (order by position rows between unbounded preceding and 1 preceding) as bytes_before
    from walked
) w
where coalesce(w.bytes_before, 0) < $7
order by w.position

-- name: account_page
-- The same for the lines of one account, found by the index on account and position.
with walked as (
    select e.position,
           case when $5::text is null or e.type = $5 then e.line end as line
    from ledger.events e
    where e.partition = $1 and e.account = $4 and e.position > $2 and e.position <= $3
    order by e.position
    limit $6
)
select w.position, w.line
from (
    select position, line,
           sum(octet_length(line)) over (order by position rows between unbounded preceding and 1 preceding) as bytes_before
    from walked
) w
where coalesce(w.bytes_before, 0) < $7
order by w.position
