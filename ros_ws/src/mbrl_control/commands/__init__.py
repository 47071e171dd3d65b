"""The sub-commands of ``mbrl``: a name is a file.

Each file has ``SUMMARY`` (a line for the overview), ``TEACH`` (what the end of its help says, with examples),
``add(parser)`` (its flags) and ``run(args)``, which returns the exit status and what ``--json`` writes. Heavy
imports stand inside ``run``, so that every ``--help`` answers at once.
"""
