"""python -m gogpt"""

from gogpt.cli import main

main()
