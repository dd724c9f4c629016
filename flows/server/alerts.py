"""Automations that tell somebody when a person should look, and the block that tells them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from digitflow.flows.server.deploy import NIGHTLY
from digitflow.flows.server.endpoint import ServiceError
from digitflow.tasks.data.datasets.places import problem_with

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.blocks.abstract import NotificationBlock
    from prefect.client.orchestration import SyncPrefectClient

# What the block is called on the server; made again, it is replaced.
BLOCK = "digitflow-alerts"
PREFIX = "digitflow alerts: "

# A night's 24 hours, and two for what it takes and for the change to summer time.
_HOURS_WITHOUT_A_VERDICT = 26
_VERDICTS = ("Promoted", "Unchanged", "Rejected", "Held", "Unconfirmed")

_Trigger = dict[str, Any]


def make_alerts(url: str, pool: str, nightly: str) -> list[str]:
    """Make the block and the automations on the server, or bring them up to date.

    Parameters
    ----------
    url
        Where to tell: an Apprise URL (``mailto://…``, ``slack://…``), a service's own webhook that
        Apprise knows, or any other ``http(s)://`` address, which is sent JSON with `subject` and
        `body`.
    pool
        Work pool whose runs are looked at.
    nightly
        Deployment that is to come to a verdict every day.

    Returns
    -------
    list of str
        What is told, for people.

    Raises
    ------
    ServiceError
        If nobody can be told by such a URL.
    """
    check_address(url)
    from prefect.client.orchestration import get_client
    from prefect.events.actions import SendNotification
    from prefect.events.schemas.automations import AutomationCore

    block = _block(url)
    alerts = _alerts(pool, nightly)
    with get_client(sync_client=True) as client:
        document = cast("UUID", block.save(BLOCK, overwrite=True))
        for name, description, trigger, subject, body in alerts:
            automation = AutomationCore.model_validate(
                {
                    "name": PREFIX + name,
                    "description": description,
                    "trigger": {"type": "event", "threshold": 1, **trigger},
                    "actions": [
                        SendNotification(block_document_id=document, subject=subject, body=body)
                    ],
                }
            )
            _create_or_update(client, automation)
    return [name for name, *_ in alerts]


def check_address(url: str) -> None:
    """Refuse a URL by which nobody can be told.

    Raises
    ------
    ServiceError
        The message does not repeat the URL: it may hold a password.
    """
    if url.isprintable() and " " not in url and (_is_apprise(url) or _is_webhook(url)):
        return
    scheme, colon, _ = url.partition(":")
    found = f"one that begins with {scheme}:" if colon and scheme.isalnum() else "something else"
    message = (
        "--notify: expected an Apprise URL, such as one that begins with mailto:, or the http(s) "
        f"address of a webhook, found {found}; Apprise's documentation lists its URLs"
    )
    raise ServiceError(message)


def _is_apprise(url: str) -> bool:
    from apprise import Apprise

    return bool(Apprise().add(url))


def _is_webhook(url: str) -> bool:
    return url.startswith(("http://", "https://")) and problem_with(url) is None


def _block(url: str) -> NotificationBlock:
    """Return the block that tells by this URL."""
    from prefect.blocks.notifications import CustomWebhookNotificationBlock, SlackWebhook

    fields: dict[str, Any]
    if _is_apprise(url):
        # Of the blocks that Prefect brings, the one that hands on any URL that Apprise takes.
        fields = {"url": url, "notify_type": "warning"}
        return SlackWebhook(**fields)
    # The URL may be its own password: it is substituted from what Prefect keeps as a secret.
    fields = {
        "name": "digitflow",
        "url": "{{ address }}",
        "json_data": {"subject": "{{ subject }}", "body": "{{ body }}"},
        "secrets": {"address": url},
    }
    return CustomWebhookNotificationBlock(**fields)


def _alerts(pool: str, nightly: str) -> list[tuple[str, str, _Trigger, str, str]]:
    """Return name, description, trigger, subject and body of each automation."""
    of_pool = {"prefect.resource.role": "work-pool", "prefect.resource.name": pool}
    of_nightly = {"prefect.resource.role": "deployment", "prefect.resource.name": nightly}
    runs = {"prefect.resource.id": "prefect.flow-run.*"}
    at_once = {"posture": "Reactive", "within": 0}
    return [
        (
            "a model was rejected or held",
            "The gate said no, or the data is in doubt: digitflow status",
            {**at_once, "expect": ["digitflow.model.rejected", "digitflow.model.held"]},
            "{{ event.payload['headline'] }}",
            "The champion stays. What differs from it: digitflow why "
            "v{{ event.payload['version'] }}",
        ),
        (
            "a champion was moved by hand",
            "Somebody rolled back, or put a version in quarantine or a model on hold.",
            {
                **at_once,
                "expect": [
                    "digitflow.model.rolled-back",
                    "digitflow.model.quarantined",
                    "digitflow.model.on-hold",
                ],
            },
            "{{ event.resource['prefect.resource.name'] }}: {{ event.event }}",
            "By {{ event.payload['by'] }}: {{ event.payload['reason'] }}",
        ),
        (
            "pictures have drifted",
            "What people send differs from the test set: digitflow drift",
            {**at_once, "expect": ["digitflow.model.drifted"]},
            "{{ event.payload['headline'] }}",
            "Signs and counts are in the artifact digitflow-drift.",
        ),
        (
            "a run failed",
            "It failed, stays crashed, or could not confirm its data.",
            {
                **at_once,
                "match": runs,
                "match_related": of_pool,
                "expect": [
                    f"prefect.flow-run.{state}" for state in ("Failed", "Crashed", "Unconfirmed")
                ],
            },
            "digitflow run {{ flow_run.name }} ended as {{ flow_run.state.name }}",
            "{{ flow_run.state.message }}",
        ),
        (
            f"no verdict for {_HOURS_WITHOUT_A_VERDICT} hours"
            + ("" if nightly == NIGHTLY else f": {nightly}"),
            f"{nightly} has come to no verdict: is a worker up, and the schedule active?",
            {
                "posture": "Proactive",
                "within": _HOURS_WITHOUT_A_VERDICT * 3600,
                "match": runs,
                "match_related": of_nightly,
                "expect": [f"prefect.flow-run.{state}" for state in _VERDICTS],
            },
            f"{nightly} has come to no verdict for {_HOURS_WITHOUT_A_VERDICT} hours",
            "Is a worker up, and the schedule active? digitflow status says what was last.",
        ),
    ]


def _create_or_update(client: SyncPrefectClient, automation: Any) -> None:
    found = client.read_automations_by_name(automation.name)
    if found:
        client.update_automation(found[0].id, automation)
    else:
        client.create_automation(automation)
