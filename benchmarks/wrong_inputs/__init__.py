"""Wrong, hostile and stale inputs, each run through the door that a user would take, with one verdict each.

    python -m benchmarks.wrong_inputs [--kinds runs bundles] [--names nan] [--jobs 2] [--keep FOLDER] [--table results.tsv]

The cases were written from the format documents, the user pages and reports of users' mistakes, not from the checks.
"""
