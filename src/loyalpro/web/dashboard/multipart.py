"""Forms with a file: `multipart/form-data` (RFC 7578), as browsers send it."""

import re
from typing import Final

from loyalpro.kernel.errors import MalformedRequest, TooLarge
from loyalpro.kernel.record import record
from loyalpro.web.dashboard.forms import CSRF, KEY, Form

MULTIPART: Final = "multipart/form-data"
_MOST_PARTS: Final = 20
_BOUNDARY: Final = re.compile(r"(?:^|;)\s*boundary=\"?([0-9A-Za-z'()+_,./:=? -]{1,70})\"?\s*(?:;|$)", re.ASCII)
_NAME: Final = re.compile(r"^content-disposition:\s*form-data\b.*?;\s*name=\"([^\"]*)\"", re.IGNORECASE | re.MULTILINE)
_FILE_NAME: Final = re.compile(r"^content-disposition:.*?;\s*filename=\"([^\"]*)\"", re.IGNORECASE | re.MULTILINE)


@record
class SentFile:
    """A file of a form. `name`: what it is called on the machine of the sender."""

    name: str
    content: bytes


def parse_multipart(content_type: str, body: bytes) -> tuple[Form, dict[str, SentFile]]:
    """The fields and the files of a body. Raises `MalformedRequest`, and `TooLarge` for more than 20 parts."""
    boundary = _BOUNDARY.search(content_type.partition(";")[2])
    if boundary is None:
        raise MalformedRequest("The form has no boundary.")
    preamble, *parts = (b"\r\n" + body).split(b"\r\n--" + boundary[1].encode())
    if preamble or not parts or not parts[-1].startswith(b"--"):
        raise MalformedRequest("The form is not complete.")
    if len(parts) > _MOST_PARTS + 1:
        raise TooLarge(f"A form with a file may have at most {_MOST_PARTS} fields.")
    fields: dict[str, list[str]] = {}
    files: dict[str, SentFile] = {}
    for part in parts[:-1]:
        name, file_name, content = _part(part)
        if file_name is not None:
            files[name] = SentFile(file_name, content)
        else:
            fields.setdefault(name, []).append(_text(content))
    csrf, key = (fields.pop(each, [""])[0] for each in (CSRF, KEY))
    return Form(fields, key, csrf), files


def _part(part: bytes) -> tuple[str, str | None, bytes]:
    """The name of a part, the name of its file if it is one, and its content."""
    head, divider, content = part.partition(b"\r\n\r\n")
    headers = _text(head)
    name = _NAME.search(headers)
    if not divider or name is None:
        raise MalformedRequest("A field of the form has no name.")
    file_name = _FILE_NAME.search(headers)
    return name[1], None if file_name is None else file_name[1], content


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise MalformedRequest("The form is not UTF-8 text.") from None
