"""Where rows go. Every write may be repeated: names of objects, ids of rows and times of cells make a repeat harmless."""
