"""Why pip failed, for the person who waits."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

from slicer.i18n import tr as _

_HOST = re.compile(r"host='(?P<host>[^']+)'|https?://(?P<place>[^/\s'\"]+)")
_UNREACHED = re.compile(
    r"Retrying \(|NewConnectionError|NameResolutionError|Max retries exceeded|ConnectTimeout"
    r"|Read timed out|Connection aborted|Could not fetch URL"
)
_UNTRUSTED = re.compile(r"CERTIFICATE_VERIFY_FAILED|SSLError|confirming the ssl certificate")
_PROXY = re.compile(r"ProxyError|407 Proxy|Tunnel connection failed")
_FULL = re.compile(r"No space left on device|not enough space on the disk|Errno 28")
_IN_USE = re.compile(r"Permission denied|Access is denied|WinError (5|32)\b|Errno 13")
_CONFLICT = re.compile(r"ResolutionImpossible|conflicting dependencies|The user requested \(constr")
_NOT_FOUND = re.compile(r"No matching distribution found for (?P<name>[\w.\-]+)")
_USUAL_HOST = "pypi.org"


def whyPipFailed(lines: Sequence[str], isOffline: bool) -> str:
    """One or two sentences that say what went wrong and what to do.

    Args:
        lines: that pip has written.
        isOffline: whether the packages come from a folder.
    """
    text = "\n".join(lines)
    if _FULL.search(text):
        return _("The disk is full. Free some space and press Install again.")
    if not isOffline and (problem := _whyUnreached(lines)):
        return problem
    if _CONFLICT.search(text):
        return _(
            "The engine needs other versions of packages than this Slicer is built on. Install the "
            "newest Slicer, or uninstall the packages that other extensions have installed."
        )
    if match := _NOT_FOUND.search(text):
        return _whyNotFound(match["name"], isOffline)
    if _IN_USE.search(text):
        return _(
            "Files of Python packages are in use, or the folder of Slicer may not be written to. "
            "Restart Slicer, as a user who may change its folder, and press Install again."
        )
    return _(
        "The installation did not finish; the log says why. What was installed stays, so press "
        "Install again."
    )


def _whyUnreached(lines: Sequence[str]) -> str:
    bad = [line for line in lines if _UNREACHED.search(line) or _UNTRUSTED.search(line)]
    bad += [line for line in lines if _PROXY.search(line)]
    if not bad:
        return ""
    host, text = _hostIn([*bad, *lines]), "\n".join(bad)
    if _PROXY.search(text):
        return _(
            "The proxy does not let this computer reach {host}. Ask your IT department, or install "
            "from a folder without network."
        ).format(host=host)
    if _UNTRUSTED.search(text):
        return _(
            "The connection to {host} is not trusted, as behind some hospital proxies. Ask your IT "
            "department, or install from a folder without network."
        ).format(host=host)
    return _(
        "{host} cannot be reached. Check the network and press Install again, or install from a "
        "folder without network."
    ).format(host=host)


def _hostIn(lines: Sequence[str]) -> str:
    for line in lines:
        if match := _HOST.search(line):
            return (match["host"] or match["place"]).partition(":")[0]
    return _USUAL_HOST


def _whyNotFound(name: str, isOffline: bool) -> str:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if isOffline:
        return _(
            "The folder holds no package '{name}' that fits this Slicer (Python {version}). Make "
            "the folder anew, for the same system and Python, and press Install again."
        ).format(name=name, version=version)
    return _(
        "There is no package '{name}' for this Slicer (Python {version}) and computer. Install the "
        "newest Slicer, or use an engine on a server."
    ).format(name=name, version=version)
