"""`python -m octorec` is the command line."""

from octorec.cli import main

main()
