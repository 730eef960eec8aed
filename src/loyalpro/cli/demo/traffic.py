"""A shop: enrolls customers and makes purchases, through the public API."""

import random
from collections.abc import Iterator

from loyalpro.cli.api_client import ApiClient

_NAMES = ("Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald", "Margaret", "Ken")
_GOODS = (("ESPRESSO", 280), ("CROISSANT", 240), ("LUNCH", 1_290), ("BEANS-1KG", 2_450), ("GRINDER", 18_900))


def enroll_customers(client: ApiClient, rng: random.Random) -> list[str]:
    """The ids of the customers of the shop, in random order. Customers of an earlier run are found and not enrolled again."""
    customers: list[str] = []
    for name in _NAMES:
        external_id = f"demo-{name.lower()}"
        known = client.call("GET", f"/v1/customers?external_id={external_id}")["data"]
        customer = (
            known[0]
            if known
            else client.call(
                "POST",
                "/v1/customers",
                {"external_id": external_id, "name": name, "email": f"{name.lower()}@example.com"},
            )
        )
        customers.append(customer["id"])
    rng.shuffle(customers)
    return customers


def purchases(rng: random.Random, customers: list[str]) -> Iterator[dict[str, object]]:
    """Purchases without end, as bodies of `POST /v1/transactions`."""
    while True:
        basket = rng.sample(_GOODS, rng.randint(1, 3))
        yield {
            "customer_id": rng.choice(customers),
            "amount": sum(price for _, price in basket),
            "currency": "EUR",
            "items": [{"sku": sku, "quantity": 1, "amount": price} for sku, price in basket],
            "channel": "pos",
        }
