"""The flow `digitflow-audit`: a sample of the cache, computed once more."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from pydantic import Field

from digitflow.flows.ending import ended
from digitflow.storage.digests import digest_json
from digitflow.storage.store import Store
from digitflow.tasks.recomputation.audit import SAMPLE, headline, is_red, share_of
from digitflow.tasks.recomputation.audit import audit as audit_records
from digitflow.tasks.recomputation.recompute import Recomputed
from digitflow.tasks.reporting.artifacts import table_artifact

_Seed = Annotated[int, Field(ge=0, lt=2**63)]


@flow(
    name="digitflow-audit",
    log_prints=False,
    persist_result=False,
    result_serializer="json",
)
def audit(sample: str = SAMPLE, stage: str | None = None, seed: _Seed | None = None) -> State[Any]:
    """Compute a sample of the cached stages once more, and compare the outputs.

    Args:
        sample: Share of the records, such as 5%. Accepted ones are always among them.
        stage: Only records of this stage.
        seed: Another seed chooses other records. Default: one that follows from the run's name.
    """
    share = share_of(sample)
    if seed is None:
        # So each week has another sample, and any of them can be asked for again.
        seed = int(digest_json(flow_run.name)[:8], 16)
    log = get_run_logger()

    def say(found: Recomputed | None, done: int, total: int) -> None:
        what = "" if found is None else f": {found.record.label} {found.verdict}"
        log.info("%d of %d%s", done, total, what)

    store = Store()
    store.connect()
    found = audit_records(store, share=share, seed=seed, stage=stage, say=say)
    text = headline(found)
    table_artifact(
        [_row(each) for each in found],
        key="digitflow-audit",
        description=f"{text}. Again: digitflow audit --sample {sample} --seed {seed}",
    )
    return ended(
        Failed(name="Different", message=text) if is_red(found) else Completed(message=text)
    )


def _row(found: Recomputed) -> dict[str, str]:
    return {
        "verdict": found.verdict,
        "stage": found.record.label,
        "key": found.record.key,
        "accepted": "" if found.record.accepted is None else "yes",
        "details": "; ".join([*filter(None, [found.why]), *found.details]),
    }
