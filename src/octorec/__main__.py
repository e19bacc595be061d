"""`python -m octorec` is the command line."""

from octorec.cli.app import main

if __name__ == "__main__":  # a worker of `octorec serve` imports it too
    main()
