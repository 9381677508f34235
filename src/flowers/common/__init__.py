"""What every room uses: the console, errors, locks, paths and the user's cache folder."""
