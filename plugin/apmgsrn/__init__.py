"""What scripts and macros of ParaView's client call: `import apmgsrn; apmgsrn.show(view, model)`.

The only package of the plugin that runs in the client and knows `paraview.simple`.
"""

from .comparison import compare
from .compression import compress
from .following import follow, unfollow
from .neural_rendering import show
from .view_links import link, unlink

__all__ = ["compare", "compress", "follow", "link", "show", "unfollow", "unlink"]
