"""New, migrated databases for tests: copies of a file on SQLite and of a template on PostgreSQL."""

import shutil
import tempfile
from pathlib import Path

from loyalpro.kernel.clock import SystemClock
from loyalpro.storage.open import migrate_database
from support.memory import memory
from support.postgres import Cluster


class Databases:
    """Creates databases, each for one test."""

    def __init__(self, folder: Path) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="loyalpro-sqlite-", dir=memory() or folder))
        self._cluster: Cluster | None = None
        self._templates: dict[str, str] = {}
        self._files = 0

    @property
    def cluster(self) -> Cluster:
        """The PostgreSQL server of this run, started when it is first needed."""
        if self._cluster is None:
            self._cluster = Cluster.start()
        return self._cluster

    def fresh(self, store: str) -> str:
        """The URL of a new database with the schema and no rows."""
        if store == "sqlite":
            return self._fresh_file()
        template = self._template("postgres", lambda: self.cluster.create_database("template"))
        return self.cluster.create_database("test", template=template.rpartition("/")[2])

    def drop(self, url: str) -> None:
        """Delete a database that `fresh` has made, and close all connections to it."""
        if url.startswith("sqlite"):
            shutil.rmtree(Path(url.removeprefix("sqlite:///")).parent)
        else:
            self.cluster.drop_database(url)

    def empty(self, store: str) -> str:
        """The URL of a new database without a schema."""
        if store == "sqlite":
            self._files += 1
            return f"sqlite:///{self._folder / f'empty-{self._files}' / 'loyalpro.db'}"
        return self.cluster.create_database("empty")

    def drop_all(self) -> None:
        """Delete every database but the templates: those of a whole run would fill the memory."""
        for folder in self._folder.iterdir():
            if folder.is_dir():
                shutil.rmtree(folder)
        if self._cluster is not None:
            for url in self._cluster.databases - set(self._templates.values()):
                self._cluster.drop_database(url)

    def stop(self) -> None:
        """Stop the PostgreSQL server, and delete the files of SQLite."""
        if self._cluster is not None:
            self._cluster.stop()
        shutil.rmtree(self._folder)

    def _fresh_file(self) -> str:
        template = self._template("sqlite", lambda: f"sqlite:///{self._folder / 'template.db'}")
        self._files += 1
        folder = self._folder / f"db-{self._files}"
        folder.mkdir()
        shutil.copy(template.removeprefix("sqlite:///"), folder / "loyalpro.db")
        return f"sqlite:///{folder / 'loyalpro.db'}"

    def _template(self, store: str, make: object) -> str:
        if store not in self._templates:
            assert callable(make)
            self._templates[store] = make()
            migrate_database(self._templates[store], SystemClock())
        return self._templates[store]
