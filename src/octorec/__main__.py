"""`python -m octorec` is the command line."""

from octorec.cli.app import main

if __name__ == "__main__":  # processes that a verb starts import this too
    main()
