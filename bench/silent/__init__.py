"""The benchmark of silent failures: faults that let a fine-tune finish and be wrong, and what each tool says of them.

    python -m bench.silent                  everything, from the checkout's root
"""
