"""A shop: enrolls customers and makes purchases, through the public API."""

import random
from collections.abc import Iterator

from loyalpro.cli.api_client import ApiClient
from loyalpro.cli.demo.week import NAMES, basket, email_of, external_id


def enroll_customers(client: ApiClient, rng: random.Random) -> list[str]:
    """The ids of the customers of the shop, in random order. Customers who are enrolled already are found."""
    customers: list[str] = []
    for number, name in enumerate(NAMES):
        known = client.call("GET", f"/v1/customers?external_id={external_id(number)}")["data"]
        body = {"external_id": external_id(number), "name": name, "email": email_of(number)}
        customer = known[0] if known else client.call("POST", "/v1/customers", body)
        customers.append(customer["id"])
    rng.shuffle(customers)
    return customers


def purchases(rng: random.Random, customers: list[str]) -> Iterator[dict[str, object]]:
    """Purchases without end, as bodies of `POST /v1/transactions`."""
    while True:
        lines = basket(rng)
        yield {
            "customer_id": rng.choice(customers),
            "amount": sum(each.amount for each in lines),
            "currency": "EUR",
            "items": [{"sku": each.sku, "quantity": 1, "amount": each.amount} for each in lines],
            "channel": "pos",
        }
