"""`loyalpro demo`: a server, a shop with purchases, and a receiver that verifies each delivery, on one machine."""
