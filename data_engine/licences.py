"""The names of licences on the Hugging Face hub."""

from __future__ import annotations

import re

_CC = ("by", "by-sa", "by-nc", "by-nd", "by-nc-sa", "by-nc-nd")
LICENCES = {  # names of the hub for the licences that datasets use most
    *(f"cc-{kind}-{version}" for kind in _CC for version in ("2.0", "3.0", "4.0")),
    *("apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-2.5"),
    *("gpl-3.0", "lgpl-3.0", "odbl", "odc-by", "pddl", "openrail", "unlicense", "unknown", "other"),
}
ADDRESS = re.compile(r"creativecommons\.org/(?:licenses/(?P<kind>[a-z-]+)/|publicdomain/zero/)(?P<version>\d\.\d)")


def hub_licence(name: str) -> str:
    """The hub's name of a licence, or `other`.

    >>> hub_licence("BSD-3-Clause"), hub_licence("CC BY 4.0"), hub_licence("mine")
    ('bsd-3-clause', 'cc-by-4.0', 'other')
    >>> hub_licence("http://creativecommons.org/licenses/by-nc-sa/2.0/")
    'cc-by-nc-sa-2.0'
    """
    known = "-".join(name.casefold().replace("_", "-").split())
    if address := ADDRESS.search(known):
        known = f"cc-{address['kind']}-{address['version']}" if address["kind"] else f"cc0-{address['version']}"
    return known if known in LICENCES else "other"


def licence_at(address: str, name: str) -> str:
    """The hub's name of the licence at an address; where that is unknown its own name.

    >>> licence_at("http://creativecommons.org/licenses/by-nc/2.0/", "Attribution-NonCommercial License")
    'cc-by-nc-2.0'
    """
    known = hub_licence(address)
    return name or address if known == "other" else known
