"""A shop that sells: customers enrol and buy, through the public API."""

import random
from collections.abc import Iterator

from loyalpro.cli.api_client import ApiClient

_NAMES = ("Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald", "Margaret", "Ken")
_GOODS = (("ESPRESSO", 280), ("CROISSANT", 240), ("LUNCH", 1_290), ("BEANS-1KG", 2_450), ("GRINDER", 18_900))


def enrol(client: ApiClient, chance: random.Random) -> list[str]:
    """The shop's regulars; a run over an older database finds those who are there."""
    regulars: list[str] = []
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
        regulars.append(customer["id"])
    chance.shuffle(regulars)
    return regulars


def purchases(chance: random.Random, regulars: list[str]) -> Iterator[dict[str, object]]:
    """One basket after another, for ever."""
    while True:
        basket = chance.sample(_GOODS, chance.randint(1, 3))
        yield {
            "customer_id": chance.choice(regulars),
            "amount": sum(price for _, price in basket),
            "currency": "EUR",
            "items": [{"sku": sku, "quantity": 1, "amount": price} for sku, price in basket],
            "channel": "pos",
        }
