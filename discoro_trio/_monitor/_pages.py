"""The files of the pages, read once when the monitor is opened.

So a request names an entry of a dictionary, never a path of the file system.
"""

from __future__ import annotations

import hashlib
import mimetypes
from pathlib import Path

import attrs
from quart import Response, abort, request

from .._link import OptionError

STATIC = Path(__file__).with_name("static")
INDEX = "index.html"
_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
}


@attrs.frozen
class File:
    """One file, ready to be sent."""

    content: bytes
    kind: str
    """Its media type."""
    tag: str
    """Its hash, for browsers that have cached it."""


def read_pages(root: Path) -> dict[str, File]:
    """Read all files below a folder, by their names relative to it.

    Raises:
        OptionError: The folder has no `index.html`, or a file cannot be read.
    """
    option, problem = "document_root", f"there is no {INDEX} in {root}"
    try:
        paths = [path for path in sorted(root.rglob("*")) if path.is_file() and not path.name.startswith(".")]
        files = {path.relative_to(root).as_posix(): _read(path) for path in paths}
    except OSError as error:
        problem = f"{error.filename} cannot be read: {error.strerror}"
        raise OptionError(option, problem) from error
    if INDEX not in files:
        raise OptionError(option, problem)
    return files


def _read(path: Path) -> File:
    content = path.read_bytes()
    kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return File(content, kind, hashlib.sha256(content).hexdigest()[:20])


async def send(files: dict[str, File], name: str) -> Response:
    """Answer with a file, or with "not modified" if the browser has it."""
    file = files.get(name)
    if file is None:
        abort(404)
    fresh = request.if_none_match.contains(file.tag)
    response = Response(b"" if fresh else file.content, 304 if fresh else 200, content_type=file.kind)
    response.set_etag(file.tag)
    response.headers["Cache-Control"] = "no-cache"
    return response
