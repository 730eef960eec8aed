"""`loyalpro deliveries`: lists, details, retries and cancellations of deliveries."""

import threading
from typing import Annotated, Any

import typer

from loyalpro.cli.api_client import ApiClient
from loyalpro.cli.remote import (
    DEFAULT_SERVER,
    ApiKey,
    AsJson,
    Limit,
    Server,
    connected,
    fetch_first,
    print_json,
)

app = typer.Typer(
    help="List and follow deliveries, show one, retry or cancel it.", no_args_is_help=True, rich_markup_mode="markdown"
)

DeliveryId = Annotated[str, typer.Argument(help="The id of a delivery: dlv_...")]
Endpoint = Annotated[str | None, typer.Option(help="Only deliveries to this endpoint: we_...")]
Status = Annotated[
    str | None,
    typer.Option(
        help="Only deliveries with this status: pending, succeeded, exhausted, canceled or parked.", show_default=False
    ),
]
_PAUSE_S = 0.5
_MAX_FOLLOWED = 100


@app.command(epilog="Examples: `loyalpro deliveries tail` · `loyalpro deliveries tail --status exhausted --no-follow`")
def tail(
    endpoint: Endpoint = None,
    status: Status = None,
    type_: Annotated[str | None, typer.Option("--type", help="Only deliveries of events of this type.")] = None,
    limit: Limit = 20,
    follow: Annotated[bool, typer.Option(help="Continue and print every change, until Ctrl-C.")] = True,  # noqa: FBT002
    as_json: AsJson = False,  # noqa: FBT002
    server: Server = DEFAULT_SERVER,
    api_key: ApiKey = "",
) -> None:
    """Print the latest deliveries, and then each one again when it changes."""
    wanted = {"endpoint_id": endpoint, "status": status, "type": type_}
    pause = threading.Event()
    with connected(server, api_key) as client:
        seen = fetch_first(client, "/v1/deliveries", limit, **wanted)
        _print(seen[::-1], as_json=as_json)
        seen = fetch_first(client, "/v1/deliveries", _MAX_FOLLOWED, **wanted) if follow else []
        while follow:
            pause.wait(_PAUSE_S)
            found = fetch_first(client, "/v1/deliveries", _MAX_FOLLOWED, **wanted)
            _print([each for each in found[::-1] if each not in seen], as_json=as_json)
            seen = found


@app.command(epilog="Examples: `loyalpro deliveries show dlv_...` · `loyalpro deliveries show dlv_... --json`")
def show(
    delivery: DeliveryId,
    as_json: AsJson = False,  # noqa: FBT002
    server: Server = DEFAULT_SERVER,
    api_key: ApiKey = "",
) -> None:
    """Show a delivery and its attempts: the outcome, the reason, and the timings of each."""
    with connected(server, api_key) as client:
        found = client.call("GET", f"/v1/deliveries/{delivery}")
    if as_json:
        print_json(found)
        return
    attempts = found.pop("attempts")
    for name, value in found.items():
        print(f"{name:<16} {'-' if value is None else value}")
    for attempt in attempts:
        _print_attempt(attempt)


@app.command(epilog="Example: `loyalpro deliveries retry dlv_...`")
def retry(delivery: DeliveryId, server: Server = DEFAULT_SERVER, api_key: ApiKey = "") -> None:
    """Send a delivery again now. If that attempt fails, the delivery returns to its former state."""
    with connected(server, api_key) as client:
        _change(client, delivery, "retry")


@app.command(epilog="Example: `loyalpro deliveries cancel dlv_...`")
def cancel(delivery: DeliveryId, server: Server = DEFAULT_SERVER, api_key: ApiKey = "") -> None:
    """Cancel a delivery: no further attempt is made."""
    with connected(server, api_key) as client:
        _change(client, delivery, "cancel")


def _change(client: ApiClient, delivery: str, action: str) -> None:
    changed = client.call("POST", f"/v1/deliveries/{delivery}/{action}")
    print(f"{changed['id']} is {changed['status']}")


def _print(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    """One line for each row, with fixed widths, so that later lines align."""
    if as_json:
        print_json(*rows)
        return
    for row in rows:
        outcome = row["last_outcome"] or "-"
        line = f"{row['created_at']}  {row['status']:<9}  {row['attempt_count']:>3}  {outcome:<16}  {row['event_type']:<22}"
        print(f"{line}  {row['id']}", flush=True)


def _print_attempt(attempt: dict[str, Any]) -> None:
    response = attempt["response"]
    status = f" (HTTP {response['status']})" if response else ""
    print(f"\nattempt {attempt['number']} at {attempt['started_at']}: {attempt['outcome']}{status}")
    if attempt["detail"]:
        print(f"  {attempt['detail']}")
    times = [
        f"{name.removesuffix('_ms')} {value:.1f}" for name, value in attempt["timings"].items() if value is not None
    ]
    if times:
        print(f"  ms: {', '.join(times)}")
    if response and response["body_excerpt"]:
        print(f"  answer: {response['body_excerpt'][:500]!r}")
