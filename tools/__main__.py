"""`python -m tools`: the command line. multiprocessing does not import a main module of this name in its processes."""

from tools.cli import main

main()
