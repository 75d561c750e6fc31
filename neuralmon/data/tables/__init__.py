"""Arrays and tables, in files, in memory and shipped with the package."""
