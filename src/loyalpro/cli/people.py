"""`loyalpro reset-password`: for a person who has forgotten it, on the server's machine."""

from typing import Annotated

import typer

from loyalpro.cli.remote import AsJson, print_json


def reset_password(
    email: Annotated[str, typer.Argument(help="The e-mail address of the person.")],
    remove_second_factor: Annotated[  # noqa: FBT002 - the framework's signature for a flag
        bool, typer.Option("--remove-second-factor", help="Also remove the second factor, for a lost phone.")
    ] = False,
    as_json: AsJson = False,  # noqa: FBT002 - the framework's signature for a flag
) -> None:
    """Give a person a new random password and show it, once. It signs the person out everywhere."""
    from loyalpro.cli.administration import administer
    from loyalpro.control.wire import ResetPassword

    made = administer(ResetPassword(email, remove_second_factor))
    if as_json:
        print_json(made)
        return
    print(f"{made['email']} has a new password and is signed out everywhere.")
    if remove_second_factor:
        print("The second factor is removed.")
    print(f"password: {made['password']}\nIt is not shown again. Change it after the next sign-in.")
