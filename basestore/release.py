"""Which release of basestore this is: `basestore.__version__`, and a label of its metrics."""

from typing import Final

VERSION: Final = "0.1.0"
