"""`python -m bench`. It imports late, because every process that a benchmark starts reads this file again."""

import sys

if __name__ == "__main__":
    from bench.run import main

    sys.exit(main())
