"""The program that discomp7.py ships and starts: it reads lines, and writes each number's square.

It knows nothing of discoro; it could be in any language.
"""

import sys

for line in sys.stdin:
    number = int(line)
    print(number, number * number, flush=True)
