"""`loyalpro demo`: a server, a shop that sells, and a receiver that verifies, on one machine."""
