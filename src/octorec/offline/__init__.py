"""All users of a table are answered offline, block by block, into a folder of Parquet files."""
