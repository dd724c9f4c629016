"""Prefect's own cache policies, with results that are persisted.

DEFAULT is INPUTS + TASK_SOURCE + RUN_ID, so that nothing is kept from one run to the next; without
RUN_ID it is (https://docs.prefect.io/v3/concepts/caching). What a stage reads besides is an
argument, since the inputs are the key.
"""

from benchmarks.staleness_peers.peer import CALLS, Peer, functions


def _peer(name: str, policy: str) -> Peer:
    files = functions(
        "from prefect import task\nfrom prefect.cache_policies import DEFAULT, INPUTS, TASK_SOURCE",
        f"@task(persist_result=True, cache_policy={policy})",
        {
            "load": "def load(sha256, *, skip: int = 0):",
            "total": "def total(numbers, mode_now):",
        },
        CALLS + "\n\nfrom prefect import flow\n\nflow(pipeline)()\n",
    )
    files["steps.py"] = files["steps.py"].replace(
        f"{policy})\ndef total", f'{policy}, tags=("sums",))\ndef total'
    )
    setup = f"`cache_policy={policy}`; the data's digest and the variable are arguments"
    return Peer(name, "prefect", setup, files, served=True)


PEERS = [
    _peer("Prefect, DEFAULT", "DEFAULT"),
    _peer("Prefect, INPUTS + TASK_SOURCE", "INPUTS + TASK_SOURCE"),
]
