"""`loyalpro keys`: the API keys of every account, on the server's machine."""

from typing import Annotated, Any, Final

import typer

from loyalpro.accounts.scopes import SCOPES
from loyalpro.cli.remote import AsJson, Limit, print_json, print_table

app = typer.Typer(
    help="Create, list and revoke API keys, on the machine of the server and with its environment variables. No API key is "
    "needed, so this also helps when there is none, or when the only one has leaked.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

_DAY_S: Final = 86_400
_ALL: Final = "all"
_COLUMNS = {
    "ID": "id", "STATUS": "status", "ENDS WITH": "hint", "SCOPES": "scopes", "PER MINUTE": "requests_per_minute",
    "LAST USED": "last_used_at", "EXPIRES": "expires_at", "ACCOUNT": "account_id", "NAME": "name",
}  # fmt: skip

AccountOption = Annotated[
    str | None, typer.Option("--account", help="The id of the account: acct_... Not needed while there is only one.")
]


@app.command(
    epilog="Examples: `loyalpro keys create 'dashboard of Ada'` · "
    "`loyalpro keys create till --scopes transactions --requests-per-minute 600` · "
    "`loyalpro keys create auditor --scopes read --expires-in-days 30`"
)
def create(
    name: Annotated[str, typer.Argument(help="Who uses the key, and where.")],
    scopes: Annotated[
        str, typer.Option(help=f"What it may do: some of {', '.join(SCOPES)}, separated by commas, or all.")
    ] = _ALL,
    requests_per_minute: Annotated[
        int | None, typer.Option(min=1, help="Its request limit in each server process. Default: none.")
    ] = None,
    expires_in_days: Annotated[
        int | None, typer.Option(min=1, max=36_500, help="For how long it is valid. Default: until it is revoked.")
    ] = None,
    account: AccountOption = None,
    as_json: AsJson = False,  # noqa: FBT002 - the framework's signature for a flag
) -> None:
    """Create a key and show it, once: only a digest of it is stored."""
    from loyalpro.cli.administration import administer
    from loyalpro.control.wire import CreateKey

    wanted = [each.strip() for each in (",".join(SCOPES) if scopes == _ALL else scopes).split(",") if each.strip()]
    valid_s = None if expires_in_days is None else expires_in_days * _DAY_S
    made = administer(CreateKey(account, name, wanted, valid_s, requests_per_minute))
    if as_json:
        print_json(made)
        return
    limit, end = made["requests_per_minute"], made["expires_at"]
    print(f"{made['id']} is created: {made['name']}")
    print(f"  account  {made['account_id']}")
    print(f"  scopes   {', '.join(made['scopes'])}")
    print(f"  limit    {'none' if limit is None else f'{limit} requests per minute'}")
    print(f"  expires  {end or 'never'}")
    print(f"key: {made['key']}\nStore it now. It is not shown again.")


@app.command("list", epilog="Examples: `loyalpro keys list` · `loyalpro keys list --account acct_... --json`")
def list_keys(
    account: AccountOption = None,
    limit: Limit = 1_000,
    as_json: AsJson = False,  # noqa: FBT002 - the framework's signature for a flag
) -> None:
    """List the keys of one account or of all, newest first, expired and revoked ones too."""
    from loyalpro.cli.administration import administer
    from loyalpro.control.wire import ListKeys

    found = administer(ListKeys(account, None, limit))
    if as_json:
        print_json(*found)
    else:
        print_table([_shown(each) for each in found], **_COLUMNS)


@app.command(
    epilog="Examples: `loyalpro keys revoke key_...` · `loyalpro keys revoke lp_...` (a key that was found in a log)"
)
def revoke(
    key: Annotated[str, typer.Argument(help="The id of the key, or the key itself.")],
    as_json: AsJson = False,  # noqa: FBT002 - the framework's signature for a flag
) -> None:
    """Revoke a key. Every server refuses it from now on, also the only one of its account."""
    from loyalpro.cli.administration import administer
    from loyalpro.control.wire import RevokeKey

    found = administer(RevokeKey(key))
    if as_json:
        print_json(found)
    else:
        print(f"{found['id']} is revoked: {found['name']}, ends with {found['hint']}")


def _shown(key: dict[str, Any]) -> dict[str, Any]:
    """A key in one line of a table: times to the minute, and one word for every scope."""
    times = {name: key[name] and key[name][:16].replace("T", " ") for name in ("last_used_at", "expires_at")}
    return key | times | {"scopes": _ALL if key["scopes"] == list(SCOPES) else key["scopes"]}
