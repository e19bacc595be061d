"""The fork server imports this: what a worker needs is there, and left alone by each worker's garbage collector, which
would copy its pages."""

import gc

import octorec.serve.workers.worker  # noqa: F401 - all that a worker imports

gc.collect()
gc.freeze()
