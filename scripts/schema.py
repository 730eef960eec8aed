"""`make schema`: write the schema after all migrations of each database into a file beside the migrations, for readers."""

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
