"""Snakemake: rules with `script`, `input` and `params`, and its default rerun triggers.

The triggers are mtime, params, input, software-env and code; the code is the script's
(https://snakemake.readthedocs.io/en/stable/executing/cli.html). What a script imports is not
looked at, so the second form has that as input. The environment variable is a parameter.
"""

from benchmarks.staleness_peers.peer import Peer
from benchmarks.staleness_peers.scripts import MODULES, READS, SCRIPTS


def _peer(name: str, setup: str, inputs: dict[str, list[str]]) -> Peer:
    rules = ["import os"]
    for stage in ("total", "clean", "load"):  # the first is what is asked for
        rules.append(
            f"rule {stage}:\n"
            f"    input: {inputs[stage]!r}\n"
            f"    output: '{stage}.json'\n"
            + ("    params: mode=os.environ.get('MODE')\n" if stage == "total" else "")
            + f"    script: 'steps/{stage}.py'"
        )
    files = {**SCRIPTS, "Snakefile": "\n\n".join(rules) + "\n"}
    return Peer(name, "snakemake", setup, files, ("snakemake", "--cores", "1", "--quiet"))


# The script itself is no input: Snakemake compares its date with that of the output.
_DATA = {stage: files[1:] for stage, files in READS.items()}
PEERS = [
    _peer("Snakemake", "`script`, data as `input`, the variable in `params`", _DATA),
    _peer("Snakemake, all listed", "the same, each module and `requirements.txt` as `input`",
          {stage: _DATA[stage] + MODULES[stage] for stage in READS}),
]  # fmt: skip
