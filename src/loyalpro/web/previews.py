"""Runs the preview of a change of the program, for a call and for a page."""

from loyalpro.loyalty.program_changes import ChangeProgram
from loyalpro.loyalty.program_preview import Preview
from loyalpro.web.services import Services


async def previewed(services: Services, command: ChangeProgram) -> Preview:
    """The change with its effect; each step reads in a transaction of its own. Raises what `change_program` raises."""
    preview = await services.runner.read(lambda unit: Preview(unit, command))
    while await services.runner.read(preview.step):
        pass
    return preview
