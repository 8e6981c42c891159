"""The program that external_program.py ships and starts: it reads lines, and writes each number's square.

It knows nothing of discoro; it could be in any language.
"""

import sys

for line in sys.stdin:
    number = int(line)
    print(number, number * number, flush=True)
