"""A request that needs a row which another transaction locks for longer than the lock timeout."""

import psycopg

from support.databases import Databases
from support.server import Server


def test_a_request_that_waits_too_long_for_a_lock_gets_503(databases: Databases) -> None:
    url = databases.fresh("postgres")
    with psycopg.connect(url, autocommit=True) as session:
        session.execute(f"ALTER DATABASE {session.info.dbname} SET lock_timeout = '20ms'")
    with Server(url) as server:
        customer = server.post("/v1/customers", {})
        body = {"name": "Ada"}
        with psycopg.connect(url) as other:
            other.execute("SELECT 1 FROM customers WHERE id = %s FOR UPDATE", (customer["id"],))
            answer = server.call("PATCH", f"/v1/customers/{customer['id']}", body)
        assert (answer.status, answer.json["code"]) == (503, "lock_taken")
        assert answer.headers["retry-after"] == "1"
        repeated = server.call("PATCH", f"/v1/customers/{customer['id']}", body)
        assert (repeated.status, repeated.json["name"]) == (200, "Ada")
