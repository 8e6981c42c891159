"""The shell commands by which a host makes an environment of Python from locked requirements, with `uv`.

The environment is named by a digest of all that decides its content, so it is made once. It is made beside its place
and then renamed: an interrupted attempt leaves no half of one, and two nodes of one host do not disturb each other.
"""

from __future__ import annotations

import hashlib
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_SCRIPT = """set -e
folder="${{XDG_CACHE_HOME:-$HOME/.cache}}/discoro_trio/environments"
env="$folder/{digest}"
if [ ! -x "$env/bin/python" ]; then
    command -v uv >/dev/null || {{ echo "uv is not installed on this host, or not on its PATH" >&2; exit 127; }}
    new="$env.$$"
    trap 'rm -rf "$new" "$new.txt"' EXIT
    mkdir -p "$folder"
    printf %s {requirements} >"$new.txt"
    echo "making the environment $env"
    uv venv -q --relocatable --python {python} "$new" </dev/null
    uv pip install -q --python "$new/bin/python" {options} -r "$new.txt" </dev/null
    mv -T "$new" "$env" 2>/dev/null || [ -x "$env/bin/python" ]
    rm -rf "$new" "$new.txt"
    trap - EXIT
fi"""


def make_environment(requirements: str, python: str, options: Sequence[str]) -> str:
    """Return commands for the host's shell, after which `$env` is the environment's folder.

    Args:
        requirements: The text of the file with locked requirements.
        python: The version of Python, or the path of an interpreter.
        options: Further arguments of `uv pip install`.
    """
    parts = "\0".join([requirements, python, *options])
    return _SCRIPT.format(
        digest=hashlib.sha256(parts.encode()).hexdigest()[:32],
        requirements=shlex.quote(requirements),
        python=shlex.quote(python),
        options=shlex.join(options),
    )
