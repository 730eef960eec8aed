"""`python -m loyalpro` is `loyalpro`."""

from loyalpro.cli.main import app

app()
