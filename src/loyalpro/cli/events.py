"""`loyalpro events`: lists events and sends them again."""

from typing import Annotated

import typer

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

app = typer.Typer(help="List events, and send them again.", no_args_is_help=True, rich_markup_mode="markdown")

EventId = Annotated[str, typer.Argument(help="The id of an event: evt_...")]


@app.command("list", epilog="Examples: `loyalpro events list` · `loyalpro events list --type points.earned --json`")
def list_events(
    type_: Annotated[str | None, typer.Option("--type", help="Only events of this type.")] = None,
    customer: Annotated[str | None, typer.Option(help="Only events of this customer: cus_...")] = None,
    after: Annotated[str | None, typer.Option(help="Only events after this one: evt_...")] = None,
    limit: Limit = 20,
    as_json: AsJson = False,  # noqa: FBT002 - the framework's signature for a flag
    server: Server = DEFAULT_SERVER,
    api_key: ApiKey = "",
) -> None:
    """List events, oldest first. `--json` prints each one as endpoints receive it."""
    with connected(server, api_key) as client:
        found = fetch_first(client, "/v1/events", limit, type=type_, customer_id=customer, after=after)
    if as_json:
        print_json(*found)
    else:
        print_table(found, ID="id", TYPE="type", SEQUENCE="sequence", CREATED="created_at")


@app.command(epilog="Examples: `loyalpro events resend evt_...` · `loyalpro events resend evt_... --endpoint we_...`")
def resend(
    event: EventId,
    endpoint: Annotated[str | None, typer.Option(help="Send the event to this endpoint only: we_...")] = None,
    as_json: AsJson = False,  # noqa: FBT002
    server: Server = DEFAULT_SERVER,
    api_key: ApiKey = "",
) -> None:
    """Send an event again, to one endpoint or to every enabled endpoint that is subscribed to its type."""
    body = {} if endpoint is None else {"endpoint_id": endpoint}
    with connected(server, api_key) as client:
        sent = client.call("POST", f"/v1/events/{event}/resend", body)["data"]
    if as_json:
        print_json(*sent)
    elif sent:
        print_table(sent, DELIVERY="id", ENDPOINT="endpoint_id", STATUS="status")
    else:
        print("No enabled endpoint is subscribed to events of this type.")
