"""A macro: lets the active source, a neural volume, decode what the active view sees, and no more.

To install it: Macros > Import new macro... and choose this file. `apmgsrn.unfollow()` in the Python shell ends it.
"""

import apmgsrn

apmgsrn.follow()
