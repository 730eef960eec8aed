"""From a claimed delivery to bytes on the wire: headers, signatures, the address policy and the sender process."""
