"""Records with other values in some fields."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.kernel.record import record, with_fields


@record
class Box:
    """A record."""

    size: int
    name: str | None
    tags: tuple[str, ...] = ()


@given(
    box=st.builds(Box, st.integers(), st.none() | st.text(), st.tuples(st.text())),
    changes=st.fixed_dictionaries({}, optional={"size": st.integers(), "name": st.text(), "tags": st.just(())}),
)
def test_a_record_with_other_fields_is_the_one_that_replace_makes(box: Box, changes: dict[str, object]) -> None:
    assert with_fields(box, **changes) == replace(box, **changes)  # type: ignore[arg-type]


def test_a_field_that_a_record_does_not_have_is_refused() -> None:
    with pytest.raises(KeyError):
        with_fields(Box(1, None), weight=2)
