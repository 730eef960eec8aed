"""Which of an endpoint's valid secrets an attempt is signed with when the receiver refuses the primary one.

Each valid secret signs `webhook-signature`. The header that carries one signature stays on the newest secret that is promoted.
A receiver that refuses it gets the same attempt signed with each of the other secrets: it may hold any of them.
"""


def others(count: int, primary: int, attempt: int) -> tuple[int, ...]:
    """The secrets that a receiver is shown when it refuses the primary one: their indices, newest first.

    Each attempt begins with another one. So a receiver that takes its time to refuse has seen all of them in the end.
    """
    order = [index for index in range(count) if index != primary]
    turn = (attempt - 1) % max(1, len(order))
    return (*order[turn:], *order[:turn])
