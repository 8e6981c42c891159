"""The shortest program with a result of each peer; named so that none hides the package that it imports."""
