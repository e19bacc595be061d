"""The server: requests over HTTP into batches of an engine, and what an operator needs around that."""
