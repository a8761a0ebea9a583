"""A macro: renders the active source, a neural volume, in the active view."""

import apmgsrn

apmgsrn.show()
