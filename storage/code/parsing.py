"""One parser of Python syntax at a time.

Stages run in threads, and Python before 3.11.8 counts the depth of trees in one place for all of
them: two that parse at once may end as "AST constructor recursion depth mismatch"
(https://github.com/python/cpython/issues/106905). NumPy parses, too: the header of a `.npy` file.
"""

import threading

PARSING = threading.Lock()
