"""joblib.Memory: functions that are cached by their arguments and their own source.

It compares the function's source with the last one and is made for functions without side effects
(https://joblib.readthedocs.io/en/latest/memory.html), so what a stage reads besides is an argument.
"""

from benchmarks.staleness_peers.peer import CALLS, Peer, functions

PEERS = [
    Peer(
        "joblib",
        "joblib",
        "`@memory.cache`; the data's digest and the variable are arguments",
        functions(
            'from joblib import Memory\n\nmemory = Memory("cache", verbose=0)',
            "@memory.cache",
            {
                "load": "def load(sha256, *, skip: int = 0):",
                "total": "def total(numbers, mode_now):",
            },
            CALLS + "\n\npipeline()\n",
        ),
    )
]
