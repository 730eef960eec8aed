"""`loyalpro accounts`: the accounts of a server, on its own machine."""

from typing import Annotated

import typer

from loyalpro.cli.remote import AsJson, Limit, print_json, print_table

app = typer.Typer(
    help="Create and list accounts, on the machine of the server and with its environment variables. No API key is needed.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

_COLUMNS = {"ID": "id", "KEYS": "keys", "CREATED": "created_at", "NAME": "name"}


@app.command(epilog="Example: `loyalpro accounts create 'Bakery in Lyon'`")
def create(
    name: Annotated[str, typer.Argument(help="The name of the merchant.")],
    as_json: AsJson = False,  # noqa: FBT002 - the framework's signature for a flag
) -> None:
    """Create an account with the default program. It has no API key yet: `loyalpro keys create` makes one."""
    from loyalpro.cli.administration import administer
    from loyalpro.control.wire import CreateAccount

    made = administer(CreateAccount(name))
    if as_json:
        print_json(made)
    else:
        print(f"{made['id']} is created: {made['name']}")
        print(f"Create a key for it: loyalpro keys create till --account {made['id']}")


@app.command("list", epilog="Examples: `loyalpro accounts list` · `loyalpro accounts list --json`")
def list_accounts(limit: Limit = 1_000, as_json: AsJson = False) -> None:  # noqa: FBT002 - as above
    """List accounts, oldest first, with the number of their keys that are not revoked."""
    from loyalpro.cli.administration import administer
    from loyalpro.control.wire import ListAccounts

    found = administer(ListAccounts(None, limit))
    if as_json:
        print_json(*found)
    else:
        print_table(found, **_COLUMNS)
