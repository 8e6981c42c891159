"""`python -m discoro_trio`: the programs, where their scripts are not on the path."""

from ._cli import run_package

if __name__ == "__main__":
    run_package()
