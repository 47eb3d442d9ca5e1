"""The test double: the same facade, the real rules, no servers.

    from credit_ledger_client.testing import LedgerDouble

    async def test_a_video_costs_twenty():
        async with LedgerDouble(catalog) as ledger:
            await ledger.change_plan("team-42", "starter")
            async with ledger.hold("team-42", "generate_video"):
                ...
            assert (await ledger.balance("team-42")).available == 480

It decides with the ledger's own domain, so it says no when the ledger would, in the same words. Time stands still until
`advance` moves it; holds are renewed and run out by that clock. Needs the extra `testing`, the service's distribution,
of which only the pure domain is used.
"""

from credit_ledger_client.testing.double import LedgerDouble

__all__ = ["LedgerDouble"]
