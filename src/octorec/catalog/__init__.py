"""A catalog holds semantic IDs, the item table with its named sets, and the trie of all items."""
