"""A macro: shows data, what the active neural volume gives back of it, and the difference, in three linked views.

To install it: Macros > Import new macro... and choose this file.
"""

import apmgsrn

apmgsrn.compare()
