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
Headers = Annotated[
    bool, typer.Option("--headers", help="Also print the headers of each request (>) and of its response (<).")
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


@app.command(epilog="Examples: `loyalpro deliveries show dlv_...` · `loyalpro deliveries show dlv_... --headers`")
def show(
    delivery: DeliveryId,
    headers: Headers = False,  # noqa: FBT002
    as_json: AsJson = False,  # noqa: FBT002
    server: Server = DEFAULT_SERVER,
    api_key: ApiKey = "",
) -> None:
    """Show a delivery, its attempts and the requests of each: the outcome, the reason, and the timings."""
    with connected(server, api_key) as client:
        found = client.call("GET", f"/v1/deliveries/{delivery}")
    if as_json:
        print_json(found)
        return
    attempts = found.pop("attempts")
    for name, value in found.items():
        print(f"{name:<16} {'-' if value is None else value}")
    for attempt in attempts:
        _print_attempt(attempt, headers=headers)


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


def _print_attempt(attempt: dict[str, Any], *, headers: bool) -> None:
    requests = attempt["requests"]
    several = f", {len(requests)} requests" if len(requests) > 1 else ""
    print(f"\nattempt {attempt['number']} at {attempt['started_at']}: {_ending(attempt)}{several}")
    if not requests:
        print(f"  {attempt['detail']}")
    elif not several:
        _print_request(requests[0], "  ", headers=headers)
    else:
        for request in requests:
            print(f"  request {request['number']} at {request['started_at']}: {_ending(request)}")
            _print_request(request, "    ", headers=headers)


def _ending(sent: dict[str, Any]) -> str:
    """The outcome of an attempt or of a request, and the status of the response."""
    response = sent["response"]
    return f"{sent['outcome']} (HTTP {response['status']})" if response else str(sent["outcome"])


def _print_request(request: dict[str, Any], indent: str, *, headers: bool) -> None:
    response = request["response"]
    if request["detail"]:
        print(f"{indent}{request['detail']}")
    times = [
        f"{name.removesuffix('_ms')} {value:.1f}" for name, value in request["timings"].items() if value is not None
    ]
    if times:
        print(f"{indent}ms: {', '.join(times)}")
    if headers:
        for arrow, sent in ((">", request["request"]), ("<", response or {"headers": []})):
            for name, value in sent["headers"]:
                print(f"{indent}{arrow} {name}: {value}")
    if response and response["body_excerpt"]:
        print(f"{indent}answer: {response['body_excerpt'][:500]!r}")
