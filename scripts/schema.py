"""`make schema`: write what all migrations add up to, beside them, for people to read."""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from support.databases import Databases
from support.schema import FILES, dump

with tempfile.TemporaryDirectory(prefix="loyalpro-schema-") as folder:
    databases = Databases(Path(folder))
    for store, file in FILES.items():
        file.write_text(dump(databases.fresh(store)))
    databases.stop()
