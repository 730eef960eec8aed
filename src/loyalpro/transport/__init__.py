"""From a claimed delivery to bytes on the wire: signatures, the address policy, libcurl."""
