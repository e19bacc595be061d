"""`python -m octorec` is the command line."""

from octorec.cli.app import main

main()
