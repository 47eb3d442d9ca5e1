-- name: is_empty
-- Whether a database has nothing of a ledger.
select not exists (select from pg_namespace where nspname in ('ledger', 'projections'))

-- name: create_role
-- The role that a dump grants rights to; roles belong to the server and are in no dump of a database.
do $$
begin
    create role credit_ledger_app nologin;
exception when duplicate_object or unique_violation then
    null;
end $$
