"""The OpenAPI 3.1 document of the ledger's HTTP interface, and the page that shows it.

`document.py` puts it together from the table of routes; `inputs.py` has what is sent, made from the classes that check
it; `answers.py` and `reported.py` what is answered, `problems.py` what is refused, `examples.py` the examples of both;
`page.py` shows all of it to people. The aiohttp side is in `service.http`.
"""
