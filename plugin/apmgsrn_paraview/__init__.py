"""The proxies that xml/apmgsrn.xml names, one file each, and the bridge between VTK and apmgsrn_core."""

from . import messages  # noqa: F401  before the core has something to tell
