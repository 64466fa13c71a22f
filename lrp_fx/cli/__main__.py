"""``python -m lrp_fx.cli``."""

from lrp_fx.cli import main

if __name__ == "__main__":
    main()
