"""`python -m tools`: the command line. multiprocessing does not import a main module of this name in its processes."""

import sys

try:
    from tools.cli import main
except KeyboardInterrupt:  # importing takes a while; afterwards, `main` catches it
    sys.exit(130)

main()
