"""The receiving side of a webhook, as far as the simulation and the chaos runs share it.

It verifies both signatures, decides how each request is treated, and says what is recorded of it. `simulation/network.py`
puts it behind a virtual network, `chaos/receiver.py` behind real HTTPS. It shares no code with the product, so that it can
judge what the product sends.
"""
