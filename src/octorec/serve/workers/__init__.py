"""HTTP in processes of its own: `octorec serve --http-workers N`.

    clients ── one listening socket ──┬─ worker 1 ─┐                        parse, check, look up, rank, encode
                                      ├─ worker 2 ─┼─ zmq over ipc ── engine process ── device thread
                                      └─ worker N ─┘        arrays          queue, turns, deadlines, admin port

**The seam** is `line.Line`: what hands a request to the device. `Front` does everything of a request on this side of it
and is the same code in every process. In one process (N = 0) the line is the `Batcher` itself; in a worker it is a
`Remote`, which writes the arrays of a parsed request to the engine process and gets its row of the batch back.

**Who has what.** The engine process is the one that was started: it has the device, the queue, the admin port and the
signals, and starts the workers through the standard library's fork server, so that all of them share the pages of what
was imported, and a new one is there in milliseconds. A worker has connections, a `Desk` for each version of catalog and
checkpoint, and no torch tensor. The catalog lies once in files that each worker maps (`mapped`).

**Versions.** A version of catalog or checkpoint is numbered. Before it answers, its files are written and every worker
has opened them (`Crew.announce`); the switch between two batches writes its number to the `Board`, which all of them
read. What was parsed for another number is sent back to its worker, which parses it again.

**The board** is one page of numbers in shared memory: which version answers, how long the queue is and who waits in it,
how long batches take. A worker refuses by it what the engine process would only refuse later. Nothing depends on it
being exact: the queue itself decides again.

**Ends.** A worker that dies takes along the requests that it held: they leave the queue, and another is started. Where
the engine process dies, every worker answers 503 `not_live` and ends. All files lie in one private folder (`private`),
which the last process removes, or, where all were killed, the next start.
"""
