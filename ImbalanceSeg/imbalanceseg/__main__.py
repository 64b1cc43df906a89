"""``python -m imbalanceseg`` is the command ``imbalanceseg``."""

from __future__ import annotations

import sys

from imbalanceseg.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
