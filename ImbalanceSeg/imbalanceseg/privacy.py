"""Names of cases that say nothing of whom they are of, where that is asked for.

With ``IMBALANCESEG_DEIDENTIFY=1``, or ``--deidentify`` on the command line, cases have a pseudonym
instead of the name of their file or folder, in everything that is written, shown or logged. It is
the same for the same name on the same machine, where a key lies: without the key, nobody finds the
name by trying names, and with it ``imbalanceseg pseudonyms`` tells which is which.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from functools import cache
from pathlib import Path

from imbalanceseg.atomic import output_error

DEIDENTIFY_VARIABLE = "IMBALANCESEG_DEIDENTIFY"
_OFF = ("", "0", "no", "off", "false")
_DIGITS = 10
_KEY_BYTES = 32


def deidentified() -> bool:
    """Whether names are to be replaced."""
    return os.environ.get(DEIDENTIFY_VARIABLE, "").strip().lower() not in _OFF


def case_title(name: str) -> str:
    """The name of a case as it may be written and shown: itself, or its pseudonym."""
    return pseudonym(name) if deidentified() else name


def pseudonym(name: str) -> str:
    """``case-`` and ten hexadecimal digits, by this machine's key.

    Raises:
        OutputError: there is no key and none can be kept.
    """
    digest = hmac.new(_key(key_file()), name.encode("utf-8", "surrogateescape"), hashlib.sha256)
    return f"case-{digest.hexdigest()[:_DIGITS]}"


def key_file() -> Path:
    """Where the key lies; whoever has it can find names by trying them."""
    import platformdirs

    return Path(platformdirs.user_data_path("imbalanceseg", appauthor=False)) / "pseudonyms.key"


@cache
def _key(path: Path) -> bytes:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Whoever comes second reads the key of the first.
        with suppress(FileExistsError):
            made = path.with_name(f".{secrets.token_hex(4)}-{path.name}")
            try:
                handle = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(handle, "wb") as stream:
                    stream.write(secrets.token_bytes(_KEY_BYTES))
                os.link(made, path)
            finally:
                made.unlink(missing_ok=True)
        return path.read_bytes()
    except OSError as error:
        raise output_error(path, error) from error
