"""DVC: stages in `dvc.yaml`, whose `deps` are what each reads.

Its documentation lists the script and the data, or a folder with the source code
(https://dvc.org/doc/command-reference/stage/add). What a script imports is not looked at, so the
second form lists that as well. An environment variable cannot be a dependency.
"""

import json

from benchmarks.staleness_peers.peer import Peer
from benchmarks.staleness_peers.scripts import MODULES, READS, SCRIPTS


def _peer(name: str, setup: str, deps: dict[str, list[str]]) -> Peer:
    stages = {
        stage: {"cmd": f"python steps/{stage}.py", "deps": files, "outs": [f"{stage}.json"]}
        for stage, files in deps.items()
    }
    # YAML takes JSON.
    files = {**SCRIPTS, "dvc.yaml": json.dumps({"stages": stages}, indent=1)}
    return Peer(name, "dvc", setup, files, ("dvc", "repro", "--quiet"),
                ("dvc", "init", "--no-scm", "--quiet"))  # fmt: skip


PEERS = [
    _peer("DVC", "`deps`: script and data", READS),
    _peer("DVC, all listed", "the same, each module that it uses, and `requirements.txt`",
          {stage: READS[stage] + MODULES[stage] for stage in READS}),
]  # fmt: skip
