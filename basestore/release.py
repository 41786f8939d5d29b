"""Which release of basestore this is: `basestore.__version__`, and a label of its metrics.

Alone in its file, so that whoever asks for it loads nothing else.
"""

from typing import Final

VERSION: Final = "0.2.0.dev0"
