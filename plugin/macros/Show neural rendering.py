"""A macro: renders the active source, a neural volume, in the active view.

To install it: Macros > Import new macro... and choose this file.
"""

import apmgsrn

apmgsrn.show()
