"""Requests in, ranked items out: batching, beam search over the item trie, exclusions and allow-lists."""
