"""`loyalpro endpoints`: the addresses that receive webhooks."""

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
    print_table,
)

app = typer.Typer(
    help="List, add, pause and test endpoints, rotate their secrets, and send them past events.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

EndpointId = Annotated[str, typer.Argument(help="The id of an endpoint: we_...")]
_PAUSE_S = 0.2
_COLUMNS = {"ID": "id", "STATUS": "status", "HEALTH": "health", "EVENTS": "events", "URL": "url"}


@app.command("list", epilog="Examples: `loyalpro endpoints list` · `loyalpro endpoints list --json`")
def list_endpoints(
    limit: Limit = 100,
    as_json: AsJson = False,  # noqa: FBT002 - the framework's signature for a flag
    server: Server = DEFAULT_SERVER,
    api_key: ApiKey = "",
) -> None:
    """List endpoints, newest first, with their status and health."""
    with connected(server, api_key) as client:
        found = fetch_first(client, "/v1/webhook_endpoints", limit)
    if as_json:
        print_json(*found)
    else:
        print_table([each | {"health": each["health"]["state"]} for each in found], **_COLUMNS)


@app.command(
    epilog="Examples: `loyalpro endpoints add https://example.com/hook` · "
    "`loyalpro endpoints add https://example.com/hook --events points.earned,points.redeemed --in-order`"
)
def add(
    url: Annotated[str, typer.Argument(help="The https:// address that receives the webhooks. It has to be public.")],
    events: Annotated[str, typer.Option(help="The event types to send, separated by commas; * means all.")] = "*",
    description: Annotated[str | None, typer.Option(help="A note.")] = None,
    in_order: Annotated[  # noqa: FBT002
        bool, typer.Option("--in-order", help="Send the events of each customer in order, one by one.")
    ] = False,
    rate_limit: Annotated[int | None, typer.Option(min=1, help="The maximum number of requests in a second.")] = None,
    server: Server = DEFAULT_SERVER,
    api_key: ApiKey = "",
) -> None:
    """Add an endpoint, and show the secret that signs its deliveries."""
    body = {"url": url, "events": events.split(","), "description": description, "rate_limit": rate_limit}
    with connected(server, api_key) as client:
        made = client.call("POST", "/v1/webhook_endpoints", body | {"ordering": "customer" if in_order else "none"})
    print(f"{made['id']} is {made['status']}\nsecret: {made['secret']}")


@app.command(epilog="Example: `loyalpro endpoints pause we_...`")
def pause(endpoint: EndpointId, server: Server = DEFAULT_SERVER, api_key: ApiKey = "") -> None:
    """Stop sending to an endpoint. Its deliveries wait, each for at most 72 hours after its first attempt."""
    _set_status(endpoint, "paused", server, api_key)


@app.command(epilog="Example: `loyalpro endpoints enable we_...`")
def enable(endpoint: EndpointId, server: Server = DEFAULT_SERVER, api_key: ApiKey = "") -> None:
    """Send to an endpoint again, starting with the deliveries that wait."""
    _set_status(endpoint, "enabled", server, api_key)


@app.command(
    epilog="Examples: `loyalpro endpoints rotate-secret we_...` · `loyalpro endpoints rotate-secret we_... --promote` · "
    "`loyalpro endpoints rotate-secret we_... --overlap 0` (the old secret has leaked)"
)
def rotate_secret(
    endpoint: EndpointId,
    overlap: Annotated[
        int | None,
        typer.Option(min=0, help="Seconds that the old secret stays valid, 0 to revoke it now. Default: 24 hours."),
    ] = None,
    promote: Annotated[  # noqa: FBT002
        bool,
        typer.Option(
            "--promote", help="Create no secret. Sign with the newest one from now on, because the receiver has it."
        ),
    ] = False,
    server: Server = DEFAULT_SERVER,
    api_key: ApiKey = "",
) -> None:
    """Create a new signing secret and show it; with `--promote`, finish a rotation."""
    body = {"promote": promote} | ({} if overlap is None else {"overlap_seconds": overlap})
    with connected(server, api_key) as client:
        made = client.call("POST", f"/v1/webhook_endpoints/{endpoint}/rotate_secret", body)
    print(f"secret: {made['secret']}")
    until = made["previous_secret_expires_at"]
    print(f"the previous secret is valid until {until}" if until else "the previous secret is revoked")
    if not made["promoted"]:
        print("X-LoyalPro-Signature stays on the previous secret until the receiver shows that it has the new one.")


@app.command(
    epilog="Examples: `loyalpro endpoints replay we_... --since 2026-11-01T00:00:00Z` · "
    "`loyalpro endpoints replay we_... --since 2026-11-23T08:00:00Z --status exhausted`"
)
def replay(
    endpoint: EndpointId,
    since: Annotated[str, typer.Option(help="Only events from this time on, such as 2026-11-23T10:15:30Z.")],
    until: Annotated[
        str | None, typer.Option(help="Only events up to this time. Default: now.", show_default=False)
    ] = None,
    types: Annotated[
        str | None,
        typer.Option(
            help="Only these event types, separated by commas. Default: the types that the endpoint is subscribed to."
        ),
    ] = None,
    status: Annotated[
        str | None,
        typer.Option(
            help="Only events whose delivery has one of these states, separated by commas: succeeded, exhausted, "
            "canceled, missing (never created). Default: all."
        ),
    ] = None,
    wait: Annotated[  # noqa: FBT002
        bool, typer.Option(help="Show the progress until the replay is done. Ctrl-C does not stop the replay.")
    ] = True,
    server: Server = DEFAULT_SERVER,
    api_key: ApiKey = "",
) -> None:
    """Send past events to an endpoint, again or for the first time."""
    body = {"since": since, "until": until, "types": types and types.split(","), "status": status and status.split(",")}
    with connected(server, api_key) as client:
        job = client.call("POST", f"/v1/webhook_endpoints/{endpoint}/replay", {k: v for k, v in body.items() if v})
        if wait:
            job = _wait_until_done(client, job)
    print(f"{job['id']} is {job['status']}: {job['examined']} events examined, {job['replayed']} deliveries made due")


@app.command(
    "test", epilog="Examples: `loyalpro endpoints test we_...` · `loyalpro endpoints test we_... --type points.earned`"
)
def send_test(
    endpoint: EndpointId,
    type_: Annotated[str, typer.Option("--type", help="The event type of the sample.")] = "customer.created",
    server: Server = DEFAULT_SERVER,
    api_key: ApiKey = "",
) -> None:
    """Send a sample event, and show the response of the endpoint."""
    done = threading.Event()
    with connected(server, api_key) as client:
        delivery = client.call("POST", f"/v1/webhook_endpoints/{endpoint}/test", {"type": type_})
        path = f"/v1/deliveries/{delivery['id']}"
        while (found := client.call("GET", path))["status"] == "pending" and not found["attempts"]:
            done.wait(_PAUSE_S)
    if not found["attempts"]:
        print(f"{found['id']} is {found['status']}: it will be sent when the endpoint is enabled")
        raise typer.Exit(1)
    last = found["attempts"][-1]
    print(f"{found['id']}: {last['outcome']}. {last['detail']}".rstrip())
    if last["outcome"] != "succeeded":
        raise typer.Exit(1)


def _set_status(endpoint: str, status: str, server: str, api_key: str) -> None:
    with connected(server, api_key) as client:
        view = client.call("PATCH", f"/v1/webhook_endpoints/{endpoint}", {"status": status})
    print(f"{view['id']} is {view['status']}")


def _wait_until_done(client: ApiClient, job: dict[str, Any]) -> dict[str, Any]:
    """The finished job. A progress bar shows its state until then; Ctrl-C ends the bar and not the job."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    path = f"/v1/webhook_endpoints/{job['endpoint_id']}/replays/{job['id']}"
    done = threading.Event()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("replaying", total=job["estimated_total"])
        while True:
            job = client.call("GET", path)
            progress.update(bar, completed=job["examined"], total=job["estimated_total"])
            if job["status"] != "running":
                return job
            done.wait(_PAUSE_S)
