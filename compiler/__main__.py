"""`python -m tilewright.compiler`: the command line where the console script is not on the path.

In: the words after it. Out: what `tilewright` does.
"""

from .command_line import main

if __name__ == "__main__":
    main(prog_name="tilewright")
