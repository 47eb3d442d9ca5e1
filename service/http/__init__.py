"""The HTTP interface: the only package that imports aiohttp.

`routes.py` is the table of what there is; `router.py` finds a row by its path; `endpoints.py` turns a row into the
function that serves it, with `export.py` for the log and `operations.py` for health and metrics; `incoming.py` reads
requests and `answers.py` writes responses; `server.py` binds it all to a port. Start reading with `routes.py`.
"""
