"""python -m gogpt.cli"""

from gogpt.cli import main

main()
