"""`python -m discoro_trio`: runs the programs if their scripts are not on the path."""

from ._cli import run_package

if __name__ == "__main__":
    run_package()
